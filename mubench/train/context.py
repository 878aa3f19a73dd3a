"""What a method's hooks see: the student, its sets and facts, and the verbs that change them."""

import contextlib
import copy
import functools
import hashlib

import torch

from mubench.errors import MubenchError, nearest
from mubench.examples import View, sent
from mubench.models import networks
from mubench.models.layout import channels_last
from mubench.train import lora
from mubench.train.costs import Meter
from mubench.train.distributed import make_accelerator
from mubench.train.loader import batches, by_length, moved
from mubench.train.teachers import Teacher
from mubench.train.trainable import Frozen, keep_statistics, resting


class Context:
    """The facts of a run, and what its hooks may do. They change it by verbs: `replace`, `mask` and `train_only`.

    student: the model being trained.
    original: a frozen copy of it as it was; of a student with LoRA, the student without its adapters: no copy.
    fresh(): a new, untrained model.
    incompetent: one that knows nothing at all (``blank``; by default what ``fresh`` gives), frozen.
    task: its `Behaviour`.
    model_name: what a task calls the model.
    forget, retain: the two sets, as views.
    validation: held-out examples for thresholds; never for training, and never the test set.
    batch_size, forget_batch_size, epochs: of the recipe.
    epoch: the present one, from 1.
    step: how many are done.
    seed, device, accelerator, meter: of the run.
    trainable: name → parameter of all that may move; with LoRA (``adapt``: what `lora.solve` is asked for, ``share`` or
        ``rank``) those of the adapters, and masks are over them alone.
    shard: whether weights are shared out among all processes while they train.
    """

    def __init__(
        self,
        task,
        model,
        fresh,
        forget,
        retain,
        seed=0,
        accelerator=None,
        start="original",
        blank=None,
        validation=None,
        adapt=None,
        model_name=None,
        shard=False,
    ):
        self.note(accelerator=accelerator or make_accelerator(), given=model)
        self.note(task=task, model_name=model_name, forget=forget, retain=retain, seed=seed, shard=shard)
        self.note(device=self.accelerator.device, epoch=0, step=0, masks={}, hold=True)
        self._fresh, self._blank, self._validation = fresh, blank or fresh, validation
        self.note(student=self.fresh() if start == "fresh" else model.to(self.device))
        self.note(meter=Meter(self.device))
        self._teachers, self._layers, self._frozen, self._altered, self._under_way = {}, {}, [], False, False
        self._handles = []
        self._flags = [(p, p.requires_grad) for p in self.student.parameters()]
        self.note(adapters=self._adapters(start, **adapt) if adapt else None)

    def __setattr__(self, name, value):
        if not name.startswith("_"):
            raise MubenchError(
                f"context.{name} is not assigned to: a method changes the context by replace(forget=…, retain=…),"
                " mask(…) and train_only(…), and states the rest in its class"
            )
        super().__setattr__(name, value)

    def note(self, **facts):
        """The engine tells how far the run is; for hooks there are the other verbs."""
        self.__dict__.update(facts)

    def begin(self):
        """From now on the sets, masks and modules of the run stay as they are."""
        self._under_way = True

    def _refuse_late(self, verb):
        if self._under_way:
            raise MubenchError(f"context.{verb}() is for prepare(): the training has begun with what there was")

    def _adapters(self, start, **wanted):
        if start == "fresh":
            raise MubenchError("a method that starts from a new model cannot run with LoRA, which adapts a trained one")
        training = self.student.training
        batch = self.batch(self.forget if len(self.forget) else self.retain, torch.arange(1), "lora")
        through = lora.used(self.student.eval(), lambda: self.task.forward(self.student, batch))
        self.student.train(training)
        with self._seeded("lora"):
            return lora.Adapters(self.student, lora.solve(self.student, **wanted, used=through))

    # -- models ------------------------------------------------------------------------------------------------------

    def fresh(self, make=None):
        """A new, untrained model, its random numbers drawn from the run's seed and from nobody else's."""
        with self._seeded("fresh"):
            return (make or self._fresh)().to(self.device)

    @functools.cached_property
    def original(self):
        if self.step:
            raise MubenchError("context.original is a copy of the student before the first step: touch it in prepare()")
        if self._altered:
            raise MubenchError(
                "context.original is a copy from before trainable() put modules into the student: a term that has the"
                " original for a teacher, or wrap(), keeps one"
            )
        if self.adapters:
            return lora.Unadapted(self.student, lambda: self.adapters)
        return frozen(copy.deepcopy(self.given).to(self.device))

    def keep_original(self):
        """The original is held to the end of the run, with LoRA too a network of its own, for `Method.wrap`."""
        network = self.adapters.original() if self.adapters else copy.deepcopy(self.given)
        self.note(original=frozen(network.to(self.device)))

    @functools.cached_property
    def incompetent(self):
        return frozen(self.fresh(self._blank))

    def forget_incompetent(self):
        """The incompetent model makes room; asked again, it is made again, the same."""
        self.__dict__.pop("incompetent", None)

    def teacher(self, name):
        """The frozen ``original`` or ``incompetent`` model as a `Teacher`."""
        if name not in self._teachers:
            source = "adapters" if self.adapters and name == "original" else name
            getattr(self, source)  # the original is a copy from before the first step
            self._teachers[name] = Teacher(self, functools.partial(getattr, self, source))
        return self._teachers[name]

    def layer(self, where):
        """The name of a hidden layer of the student.

        where: its name, or its depth among the hidden layers, from 0, the first, to 1, the last. None: None.

        Raises `MubenchError` for a name that is none of the student's modules.
        """
        if where is None:
            return None
        if where not in self._layers:
            hidden, every = networks.layers(self.student, self.task.head), dict(self.student.named_modules())
            name = where if isinstance(where, str) else hidden[round(where * (len(hidden) - 1))]
            if name not in every:
                raise nearest("layer", name, every, "`model.named_modules()`")
            self._layers[where] = name
        return self._layers[where]

    # -- examples and random numbers -----------------------------------------------------------------------------------

    @property
    def validation(self):
        if self._validation is None:
            raise MubenchError(
                "this method looks at held-out examples: pass validation=, some that are neither trained nor tested on,"
                " or set its thresholds (`mubench ls METHOD`)"
            )
        return self._validation

    def generator(self, purpose):
        """A generator seeded by the run's seed and a purpose, the same on every process."""
        return torch.Generator().manual_seed(self._number(purpose))

    def _number(self, purpose):
        """The seed that the run's own seed and a purpose make."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()[:7], "big")

    def own_randomness(self):
        """Inside, random numbers are drawn that nobody outside misses."""
        return torch.random.fork_rng(devices=[] if self.device.type == "cpu" else None)

    @contextlib.contextmanager
    def _seeded(self, purpose):
        with self.own_randomness():
            torch.manual_seed(self._number(purpose))
            yield

    def ready(self, examples, purpose):
        """A batch as a view gives it, on the device, with what a forward pass draws at random."""
        batch = moved(self.task.drawn(examples, self._number(purpose)), self.device)
        return channels_last(batch, self.device, self.accelerator.mixed_precision)

    def batch(self, view, positions, purpose):
        """The examples at some positions of a view, `ready`."""
        return self.ready(view[positions], purpose)

    def batches(self, view, size, purpose):
        """A whole view in batches of some size and of similar length (`by_length`), each `ready`."""
        for examples in batches({None: view}, [(None, some) for some in by_length(view).split(size)], self.device):
            yield self.ready(examples, purpose)

    def sample(self, view, share):
        """A random ``share`` (0 to 1) of a view, drawn without replacement, at least one example."""
        order = torch.randperm(len(view), generator=self.generator("sample"))
        return view.select(order[: max(1, round(share * len(view)))].sort().values)

    # -- what may move -----------------------------------------------------------------------------------------------

    @property
    def trainable(self):
        return {name: p for name, p in self.student.named_parameters() if p.requires_grad}

    def mask(self, mask, hold=True):
        """Only some weights may move.

        mask: name of a trainable parameter → boolean tensor, true where they may; of other parameters all may.
        hold: whatever the optimiser does.

        Raises `MubenchError` for a name or a shape that no trainable parameter has.
        """
        self._refuse_late("mask")
        for name, m in mask.items():
            if name not in self.trainable or m.shape != self.trainable[name].shape or m.dtype != torch.bool:
                raise MubenchError(f"the mask of {name} is not a boolean tensor of the shape of what may move there")
        self.note(masks={name: m.to(self.device) for name, m in mask.items()}, hold=hold)

    def train_only(self, modules):
        """Only parameters of these modules, and below them, are trained. The others have no gradients, and keep their
        running statistics, until the run is over.
        """
        self._refuse_late("train_only")
        if not isinstance(modules, (list, tuple)) or not all(isinstance(m, torch.nn.Module) for m in modules):
            raise MubenchError(
                f"{modules!r:.80} is not what is trained: give a list of modules, such as [student.get_submodule(head)]"
            )
        self._frozen.append(Frozen(self.student, modules))

    def hold_statistics(self):
        """Running statistics of what is frozen already are kept."""
        self._handles += keep_statistics(resting(self.student))

    def replace(self, forget=None, retain=None):
        """What is trained on: a part of a set, or other examples (None: as it is)."""
        self._refuse_late("replace")
        for view in (forget, retain):
            if view is not None and not isinstance(view, View):
                raise MubenchError(f"a set is replaced by a view of examples, not by a {type(view).__name__}")
        self.note(**{name: view for name, view in (("forget", forget), ("retain", retain)) if view is not None})

    def release(self):
        """The end of a run: adapters are merged into the weights, and all may be trained again that could before."""
        if self.adapters:
            self.adapters.merge()
        self.unfreeze()

    def unfreeze(self):
        """All may be trained again that could before, and statistics are counted again."""
        for frozen_part in self._frozen:
            frozen_part.release()
        for handle in self._handles:
            handle.remove()
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)

    def snapshot(self):
        """A copy of the student as it is now, its buffers included: of the adapters alone with LoRA."""
        state = self.trainable if self.adapters else self.student.state_dict()
        return {name: tensor.detach().clone() for name, tensor in state.items()}

    @torch.no_grad()
    def rescale(self, factor, start):
        """Task arithmetic: θ ← start + ``factor`` · (θ − start). Buffers go back to ``start``.

        start: a `snapshot`. With LoRA θ is what the adapters add to the weights, the product BA of each layer, and all
            else stays as it is.
        """
        if self.adapters:
            return self.adapters.rescale(factor, start)
        moved = dict(self.student.named_parameters(remove_duplicate=False))
        self.student.load_state_dict(
            {name: t + factor * (moved[name] - t) if name in moved else t for name, t in start.items()}
        )

    # -- measuring ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def counted(self, purpose, batch, gradient=True, network=None, plain=None):
        """Counts the work of the block, one pass over a batch. A step's own pass counts by itself.

        purpose: what the pass is; of the same purpose and shapes FLOPs are traced once.
        batch: name → tensor.
        gradient: whether its examples have one; those of another ``network`` than the student count for its share of
            the student's parameters.
        plain: what is traced instead of the block (see `Meter.flops`).
        """
        examples = len(batch["index"] if "index" in batch else next(iter(batch.values())))
        with self.meter.flops((purpose, gradient, *shapes(batch)), examples, plain):
            yield
        if gradient:
            self.meter.examples += examples if network is None else examples * size(network) / size(self.student)

    def saliency(self, on):
        """Parameter name → |Σ over the batches of a set of the gradient of the batch-mean task loss|, in eval mode.

        on: ``forget`` or ``retain``. The batches are shared out among the processes.
        """
        view, length = getattr(self, on), self.forget_batch_size if on == "forget" else self.batch_size
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        every = torch.arange(len(view)).split(length)
        shared = 1 < world <= len(every)  # else each process takes them all: none may be left without gradients
        asked = [(None, positions) for positions in (every[rank::world] if shared else every)]
        training = self.student.training
        self.student.eval().zero_grad(set_to_none=True)
        for examples in batches({None: view}, asked, self.device):
            batch = self.ready(examples, "saliency")
            with self.counted("saliency", batch, gradient=False), self.accelerator.autocast():
                self.task.forward(self.student, batch).loss.mean().backward()
        self.meter.examples += len(view)  # of all processes together
        found = {n: p.grad for n, p in self.student.named_parameters() if p.grad is not None}
        sums = {n: (self.accelerator.reduce(g, "sum") if shared else g).abs() for n, g in found.items()}
        self.student.zero_grad(set_to_none=True)
        self.student.train(training)
        return sums

    @torch.no_grad()
    def measure(self, view, what):
        """``what(task, model, batch)`` → one row per example, of a whole view, asked of the student in eval mode."""
        training, parts = self.student.training, []
        self.student.eval()
        for batch in self.batches(view, self.batch_size, "measure"):
            with self.counted(("measure", what), batch, gradient=False), self.accelerator.autocast():
                parts.append(what(self.task, self.student, batch))
        self.student.train(training)
        return torch.cat(parts)[sent(by_length(view).argsort(), self.device)]


def frozen(model):
    """A model that is only asked: in eval mode, without gradients."""
    return model.eval().requires_grad_(False)


def size(model):
    """The number of a model's parameters."""
    return sum(p.numel() for p in model.parameters())


def shapes(batch):
    """The shapes of one example of a batch, in a fixed order; of a batch in a world, whose work is not proportional to
    its examples, also how many there are and which world it is.
    """
    whole = (len(batch["index"]), id(batch["world"])) if "world" in batch else ()
    return *((k, tuple(v.shape[1:])) for k, v in sorted(batch.items()) if isinstance(v, torch.Tensor)), whole
