"""What an unlearning method is: a tuple of terms, a schedule, its hyperparameters and, where it needs some, hooks.

The teacher–student view of MU-Bench (Cheng & Amiri 2024, §3, Table 2), taken literally: the *student* starts as the
original model and every `Term` says what it is pulled towards, or pushed away from, on which set.
"""

import functools
import inspect
import typing
from dataclasses import fields, replace

from mubench.errors import MubenchError, nearest
from mubench.methods._terms import MEASURES, Corruption, Parameters, Term, after, always, first
from mubench.train.recipe import Recipe

SCHEDULES = ("none", "forget_only", "retain_only", "union", "joint", "alternate")
EPOCHS = ("longer", "shorter", "forget")
LEAST = {"epochs": 0, "batch_size": 1, "forget_batch_size": 0, "accumulate": 1, "lr": 0, "weight_decay": 0, "clip": 0}

__all__ = ["MEASURES", "SCHEDULES", "Corruption", "Method", "Parameters", "Term", "after", "always", "first"]


class Method:
    """An unlearning method.

    A subclass states its ``terms`` (an attribute, or a property where they depend on hyperparameters), its ``schedule``
    and, as annotated class attributes, its hyperparameters with their defaults. Everything annotated here is a
    hyperparameter of every method; ``None`` means "as in the recipe the original was trained with", so that one default
    serves all models: the learning rate is ``lr`` or else ``lr_factor`` times the recipe's.

    Schedules say what a step sees. ``forget_only`` / ``retain_only``: a batch of that set; ``union``: a batch of the
    shuffled D_f ∪ D_r; ``joint``: a batch of each that has a term; ``alternate``: in every epoch all batches of D_f,
    then all of D_r; ``none``: no steps. ``epoch_length`` says when a ``joint`` epoch ends: with the ``longer`` or the
    ``shorter`` set, or with ``forget``, D_f.

    Hooks are for what terms cannot say. A method has those it defines, and changes the run by the verbs of the context:
    `Context.replace`, `Context.mask` and `Context.train_only`.

    Protocols: ``suite`` runs every method with the optimiser, the batches and the clipping of the original's recipe;
    ``official`` takes the hyperparameters in ``official`` instead, those of the authors' code. ``deviations`` says what
    ``suite`` does otherwise than that code.
    """

    version: typing.ClassVar[int] = 1
    name: typing.ClassVar[str] = ""
    formerly: typing.ClassVar[dict[str, int]] = {}  # earlier name, as in old records → its last version under it
    paper: typing.ClassVar[str] = ""
    start: typing.ClassVar[str] = (
        "original"  # what the student is at step 0: "original", or "fresh" (newly initialised)
    )
    requires: typing.ClassVar[frozenset] = frozenset()  # what a task must provide besides what the terms say
    shards: typing.ClassVar[bool] = (
        True  # whether FSDP may share out its weights; not where hooks read or change them while it trains
    )
    adapts: typing.ClassVar[bool] = (
        True  # whether LoRA adapters may be trained instead of the weights; not where it edits weights itself
    )
    masks: typing.ClassVar[bool] = False  # whether `prepare` finds a mask (`Context.mask`): it takes memory
    full_batch: typing.ClassVar[bool] = False  # whether a batch of D_f is all of it
    train_mode: typing.ClassVar[bool] = True  # whether dropout acts and batch norm counts while the student is trained
    prunes: typing.ClassVar[bool] = (
        True  # whether `mubench tune` may stop it by its scores after an epoch; not where weights change after the last
    )
    parameters: typing.ClassVar[Parameters | None] = None  # declared where what is trained does not say it (`moves`)
    keep_best: typing.ClassVar[bool | None] = False  # None: as in the recipe; for training from scratch
    unbounded: typing.ClassVar[bool] = (
        False  # whether it needs more than retraining by its definition: then nothing cuts it, and it is not ranked
    )
    official: typing.ClassVar[dict | None] = (
        None  # hyperparameter → value in the authors' code; None: there is no such code
    )
    deviations: typing.ClassVar[tuple[str, ...]] = ()  # what we do otherwise than the authors' code, a fact each
    search: typing.ClassVar[
        dict
    ] = {}  # what `mubench tune` tries: name → (low, high), (low, high, "log") or [choice, …]

    schedule: str = "none"
    epoch_length: str = "longer"
    lr_factor: float = 1.0
    lr: float | None = None
    epochs: int | None = 1
    batch_size: int | None = None
    forget_batch_size: int | None = None
    optimizer: str | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    clip: float | None = None
    lr_schedule: str | None = "constant"
    warmup: float | None = 0.0
    milestones: tuple[int, ...] | None = None
    lr_decay: float | None = None
    accumulate: int | None = None
    recompute: bool | None = None

    def __init__(self, **hyperparameters: typing.Any) -> None:
        self.__dict__["name"] = self.name or type(self).__name__.lower()  # of a class that no registry has named
        known = self.defaults()
        for name, value in hyperparameters.items():
            if name not in known:
                raise nearest(f"hyperparameter of {self.name}", name, known, f"`mubench ls {self.name}`")
            setattr(self, name, self._typed(name, value))
        if {"lr", "lr_factor"} <= {*hyperparameters} and self.lr is not None and self.lr_factor != 1:
            raise MubenchError(
                f"lr={self.lr:g} and lr_factor={self.lr_factor:g} are two answers to one question: give one of them"
                " (the official protocol sets lr)"
            )
        for name, least in LEAST.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise MubenchError(f"{name}={value!r} of {self.name}: it must be at least {least}")
        for name, known in (("schedule", SCHEDULES), ("epoch_length", EPOCHS)):
            if getattr(self, name) not in known:
                raise nearest(name, getattr(self, name), known, "`mubench ls methods`")
        if self.combine and self.schedule != "joint":
            raise MubenchError(
                f"schedule={self.schedule!r}: {self.name} combines the gradients of D_f and of D_r, which only"
                " the steps of the joint schedule have both apart"
            )
        if self.perturb and self.schedule == "union":
            raise MubenchError(
                f"schedule='union': {self.name} moves the weights for D_f alone, and a batch of the union has D_r in"
                " it: use joint or alternate"
            )
        if self.parameters is not None and not isinstance(self.parameters, Parameters):
            raise MubenchError(f"parameters={self.parameters!r}: give one of {', '.join(map(str, Parameters))}")
        if self.parameters is self._trained:
            raise MubenchError(f"parameters={self.parameters!r} is to be left out: what is trained says so")
        tuple(self.terms)  # hyperparameters that make no term are refused here, not in the middle of a run

    @property
    def terms(self) -> tuple[Term, ...]:
        """What is pulled where. A subclass states them: as an attribute, or as a property of its hyperparameters."""
        return ()

    # -- hooks: what terms cannot say ------------------------------------------------------------------------------

    # trainable(student, head) → the modules that are trained, with all below them; None: all. All else is frozen, its
    #     running statistics too. Asked once, before `prepare`.
    #     student: the model. New modules may be put into it, which `finish` takes out again: the teachers are copies
    #     from before. It may be one without data, of which only the sizes count.
    #     head: the name of the task's head, or None.
    trainable: typing.ClassVar[typing.Callable | None] = None

    def prepare(self, context):
        """Before the first step: a mask (`Context.mask`), a part of a set (`Context.replace`), thresholds."""

    def penalty(self, context):
        """A scalar added to every step's loss (an l1 norm), or None."""

    # before_step(context, seen): each step's gradients are made, and the step is not yet. They are in ``.grad`` of
    #     ``context.trainable``, where they may be changed.
    #     seen: set → how many of its examples the step has.
    before_step: typing.ClassVar[typing.Callable | None] = None

    # combine(context, gradients) → name of a parameter → the gradient to step with. In the joint schedule only, in
    #     steps that have both sets.
    #     gradients: set → name of a parameter → the gradient of the terms on it. A penalty's is added afterwards.
    combine: typing.ClassVar[typing.Callable | None] = None

    # perturb(context, gradients) → name of a parameter → what is added to it while the gradient of D_f's terms is made;
    #     afterwards it is what it was. Asked in each step that has examples of D_f.
    #     gradients: () → name of a parameter → that gradient where the weights are: one pass more.
    perturb: typing.ClassVar[typing.Callable | None] = None

    def select(self, context):
        """Positions in the forget set to visit in the epoch ``context.epoch``; None: all. Asked before each epoch that
        visits it.
        """

    def after_epoch(self, context):
        """After each epoch: measure (`Context.measure`), keep a checkpoint; true ends the run here."""

    def finish(self, context):
        """After the last step: one-shot edits of ``context.student`` (dampening, task arithmetic)."""

    # wrap(context) → the `mubench.models.wrappers.Wrapper` that is the unlearned model; None: that is the student.
    #     Asked last of all. It may hold ``context.student`` (finished, adapters merged), ``context.original`` (frozen,
    #     kept for it), and what other hooks have trained.
    wrap: typing.ClassVar[typing.Callable | None] = None

    # -- what follows from the declaration -------------------------------------------------------------------------

    @classmethod
    @functools.cache
    def hints(cls):
        """Hyperparameter name → its type."""
        hints = {}
        for klass in reversed(cls.__mro__[:-1]):
            hints |= {n: h for n, h in typing.get_type_hints(klass).items() if n in inspect.get_annotations(klass)}
        return {n: h for n, h in hints.items() if typing.get_origin(h) is not typing.ClassVar}

    @classmethod
    def overrides(cls, protocol="suite"):
        """Hyperparameter name → what a protocol sets it to. Raises `MubenchError` where there is no official code."""
        if protocol == "official" and cls.official is None:
            raise MubenchError(
                f"{cls.name} has no official protocol: {'; '.join(cls.deviations) or 'its authors published no code'}"
            )
        return cls.official if protocol == "official" else {}

    @classmethod
    def defaults(cls, protocol="suite"):
        """Hyperparameter name → default in a protocol."""
        return {name: getattr(cls, name) for name in cls.hints()} | cls.overrides(protocol)

    @classmethod
    def space(cls, protocol="suite"):
        """What `mubench tune` searches: ``search`` and, of a method that trains the original on, rate and epochs."""
        if cls.start == "fresh" or cls.schedule == "none":
            return cls.search
        rate = "lr" if cls.overrides(protocol).get("lr") else "lr_factor"
        middle = cls.defaults(protocol)[rate]
        return {
            rate: (middle / 10, middle * 10, "log"),
            "epochs": (1, max(5, cls.defaults(protocol)["epochs"] or 1)),
        } | cls.search

    def hyperparameters(self):
        """Hyperparameter name → value of this instance."""
        return {name: getattr(self, name) for name in self.hints()}

    def recipe(self, original):
        """The `Recipe` this method runs with, what it leaves open taken from the recipe of the original model."""
        given = {f.name: getattr(self, f.name) for f in fields(Recipe)}
        given["lr"] = original.lr * self.lr_factor if self.lr is None else self.lr
        return replace(original, **{name: value for name, value in given.items() if value is not None})

    @property
    def needs(self):
        """What a task must provide for this method: measures, labels to corrupt, a retain set, one batch of both sets,
        and what it requires besides.
        """
        corrupted = {"text" if t.target == "refusal" else "labels" for t in self.terms if t.corrupts}
        sets = {"retain" for t in self.terms if t.on == "retain"}
        sets |= {"union": {"union", "retain"}, "retain_only": {"retain"}}.get(self.schedule, set())
        return {t.measure for t in self.terms} | corrupted | sets | self.requires

    @property
    def batchwise(self):
        """Whether the loss couples the examples of a batch."""
        return any(term.batchwise for term in self.terms)

    @property
    def moves(self):
        """What moves, one of `Parameters`: as declared, else what is trained."""
        return self.parameters or self._trained

    @property
    def _trained(self):
        return Parameters.SPARSE if self.masks or self.trainable else Parameters.DENSE

    def taxonomy(self):
        """This method's row of the paper's Table 2, computed from its terms."""
        forget = [t for t in self.terms if t.on == "forget"]
        retain = [t for t in self.terms if t.on == "retain"]
        measures = lambda terms: " + ".join(dict.fromkeys(MEASURES[t.measure] for t in terms)) or "-"
        corruption = dict.fromkeys(kind.value for t in forget for kind in t.corruptions)
        return {
            "forget": measures(forget),
            "corruption": " + ".join(corruption) or "-",
            "retain": measures(retain),
            "parameters": self.moves.value,
            "schedule": self.schedule,
        }

    def _typed(self, name, value):
        """``value`` as the type the hyperparameter declares; text is read as JSON where it is JSON."""
        import json

        from pydantic import ConfigDict, TypeAdapter, ValidationError

        hint = self.hints()[name]
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                value = None if value == "None" else value
        if typing.get_origin(hint) is typing.Literal and value not in typing.get_args(hint):
            raise nearest(name, value, typing.get_args(hint), f"`mubench ls {self.name}`")
        try:
            checked = TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
            if isinstance(value, bool) and checked is not value:
                raise MubenchError(f"{name}={value!r} does not fit {self.name}: it must be a number")
            return checked
        except ValidationError as error:
            kind = str(hint).replace("typing.", "").replace("<class '", "").replace("'>", "")
            raise MubenchError(
                f"{name}={value!r} does not fit {self.name}: it must be {kind} "
                f"(default {self.defaults()[name]!r}): {error.errors()[0]['msg']}"
            ) from None
