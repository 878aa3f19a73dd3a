"""What is pulled where: the terms of a method, and what Table 2 of the paper says of them."""

import enum
import typing
from dataclasses import dataclass

from mubench.errors import MubenchError

MEASURES = {"loss": "Loss", "logit": "Logit", "rep": "Rep"}
LABELS = ("true", "wrong", "random", "refusal")
TEACHERS = ("original", "incompetent")


class Corruption(str, enum.Enum):
    """How what is taught on D_f differs from the truth, the column of Table 2.

    GRADIENT: the truth is pushed away, towards nothing.
    DATA: another target than the truth is learnt: other labels, inputs or outputs.
    MODEL: the target is what an incompetent model gives.
    """

    GRADIENT = "Grad"
    DATA = "Data"
    MODEL = "Model"


class Parameters(str, enum.Enum):
    """What a method changes, the column of Table 2.

    DENSE: all weights.
    SPARSE: a part of them, by a mask, by a choice of modules, examples or weights, or by a penalty that makes them
        small.
    EXTERNAL: modules that it puts into the model and merges in the end.
    """

    DENSE = "dense internal"
    SPARSE = "sparse internal"
    EXTERNAL = "dense external"


def always(epoch):
    """The term counts in every epoch."""
    return True


@dataclass(frozen=True)
class first:
    """The term counts in the first ``n`` epochs only (SCRUB's max phase)."""

    n: int

    def __call__(self, epoch):
        return epoch <= self.n


@dataclass(frozen=True)
class after:
    """The term counts after the first ``n`` epochs only."""

    n: int

    def __call__(self, epoch):
        return epoch > self.n


@dataclass(frozen=True)
class Term:
    """One summand of the objective: ``weight`` × the mean over the batch of a per-example measure.

    on: ``forget`` or ``retain``, the set whose examples it is taken over.
    measure: ``loss`` (task loss), ``logit`` (divergence KL(teacher ‖ student) of outputs) or ``rep`` (squared distance
        of representations), the paper's *knowledge measurement*.
    target: for ``loss``: ``true`` labels, ``wrong`` ones (always different from the truth), ``random`` ones (uniform
        over all classes, so possibly true) or, of texts, a ``refusal`` ("I do not know"); for ``logit`` and ``rep`` a
        frozen teacher: the ``original`` model or an ``incompetent`` (freshly initialised) one.
    weight: negative pushes away (gradient corruption).
    when: which epochs it counts in, a predicate of the epoch (from 1).
    temperature: divides both logits of a ``logit`` term; multiply ``weight`` by T² where the paper does.
    per: ``example`` (KL summed over classes) or ``class`` (averaged over them: PyTorch's default reduction, which some
        official codes use).
    redraw: draw ``wrong`` and ``random`` labels anew in every epoch instead of once.
    how: the paper's own formula of the measure, ``how(context, batch, student, teacher)`` → [B] (NPO's log-sigmoid,
        DELETE's edited teacher). ``student`` and ``teacher`` are their `Output` (None without a teacher) for the term's
        rows of the ``batch``. With it ``loss`` may have a teacher for a target, whose losses are the reference. Any
        measure may have the target ``none``: then ``how`` alone says what it is pulled towards (RMU's random
        direction).
    corruption: a `Corruption`, or a tuple of them, of a term on ``forget`` where neither weight nor target say it
        (``corruptions``), as ``how`` or a hook of the method hides it.
    layer: of a ``rep`` term, the hidden layer whose states are compared instead of the representation before the head:
        its name, or its depth, from 0, the first, to 1, the last (see `forward` in `mubench.models.behaviour`).
    batchwise: whether the value of an example depends on the others of its batch, which then is never cut.
    """

    on: str
    measure: str
    target: str
    weight: float = 1.0
    when: typing.Callable = always
    temperature: float = 1.0
    per: str = "example"
    redraw: bool = False
    how: typing.Callable | None = None
    corruption: Corruption | tuple[Corruption, ...] = ()
    layer: str | float | None = None
    batchwise: bool = False

    def __post_init__(self):
        allowed = (
            (LABELS if self.measure == "loss" else ())
            + (TEACHERS if self.how or self.measure != "loss" else ())
            + ("none",) * bool(self.how)
        )
        if (
            self.on not in ("forget", "retain")
            or self.measure not in MEASURES
            or self.target not in allowed
            or self.per not in ("example", "class")
        ):
            raise MubenchError(
                f"{self} is no term: on forget/retain, measure loss/logit/rep, target {'/'.join(allowed)}, "
                "per example/class"
            )
        named, depth = isinstance(self.layer, str), isinstance(self.layer, (int, float))
        in_range = named and self.layer or depth and not isinstance(self.layer, bool) and 0 <= self.layer <= 1
        if self.layer is not None and (self.measure != "rep" or not in_range):
            raise MubenchError(f"layer={self.layer!r}: it is of a rep term, a module's name or a depth from 0 to 1")
        if isinstance(self.corruption, Corruption):
            object.__setattr__(self, "corruption", (self.corruption,))
        if not isinstance(self.corruption, tuple) or not all(isinstance(kind, Corruption) for kind in self.corruption):
            raise MubenchError(
                f"corruption={self.corruption!r}: give one of {', '.join(map(str, Corruption))}, or a tuple of them"
            )
        if self.corruption and (self.on != "forget" or self.corruption == self._computed):
            raise MubenchError(
                f"corruption={self.corruption!r} is to be left out: it is declared of terms on forget, where neither"
                " their weight nor their target say it"
            )
        if not isinstance(self.batchwise, bool):
            raise MubenchError(f"batchwise={self.batchwise!r}: give True or False")

    @property
    def corruptions(self):
        """The `Corruption`s: those declared, else what weight and target say."""
        return self.corruption or self._computed

    @property
    def _computed(self):
        if self.weight < 0:
            return (Corruption.GRADIENT,)
        if self.target == "incompetent":
            return (Corruption.MODEL,)
        return (Corruption.DATA,) * self.corrupts

    @property
    def taught(self):
        """Whether its target is what a teacher gives."""
        return self.target in TEACHERS

    @property
    def corrupts(self):
        """Whether its examples get other labels than they have."""
        return self.target in LABELS[1:]
