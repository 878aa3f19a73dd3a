"""What a method's hooks see: the student, its sets and facts, and the verbs that change them."""

import contextlib
import copy
import functools
import hashlib

import torch
from accelerate.utils import send_to_device

from mubench.errors import MubenchError
from mubench.train import lora
from mubench.train.costs import Meter
from mubench.train.distributed import make_accelerator
from mubench.train.loader import batches
from mubench.train.teachers import Teacher


class Context:
    """The facts of a run, and what its hooks may do.

    student: the model being trained.
    original: a frozen copy of it as it was; of a student with LoRA, the student without its adapters: no copy.
    fresh(): a new, untrained model.
    incompetent: one that knows nothing at all (``blank``; by default what ``fresh`` gives), frozen.
    task: its `Behaviour`.
    model_name: what a task calls the model.
    forget, retain: the two sets, as views that hooks may replace by a part.
    validation: held-out examples for thresholds; never for training, and never the test set. batch_size,
        forget_batch_size, epochs: of the recipe.
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
        self.accelerator = accelerator or make_accelerator()
        self.task, self.model_name, self.forget, self.retain, self.seed = task, model_name, forget, retain, seed
        self.device, self.shard = self.accelerator.device, shard
        self._fresh, self._blank, self._validation = fresh, blank or fresh, validation
        self.student = self.fresh() if start == "fresh" else model.to(self.device)
        self.epoch, self.step, self.meter = 0, 0, Meter(self.device)
        self.given, self._teachers, self._resting = model, {}, []
        self.masks, self.hold = {}, True
        self.adapters = self._adapters(start, **adapt) if adapt else None

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
        if self.adapters:
            return lora.Unadapted(self.student, lambda: self.adapters)
        return frozen(copy.deepcopy(self.given).to(self.device))

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
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def own_randomness(self):
        """Inside, random numbers are drawn that nobody outside misses."""
        return torch.random.fork_rng(devices=[] if self.device.type == "cpu" else None)

    @contextlib.contextmanager
    def _seeded(self, purpose):
        with self.own_randomness():
            torch.manual_seed(self.generator(purpose).initial_seed())
            yield

    def ready(self, examples, purpose):
        """A batch as a view gives it, on the device, with what a forward pass draws at random."""
        return send_to_device(self.task.drawn(examples, self.generator(purpose).initial_seed()), self.device)

    def batch(self, view, positions, purpose):
        """The examples at some positions of a view, `ready`."""
        return self.ready(view[positions], purpose)

    def batches(self, view, size, purpose):
        """A whole view in batches of some size, in order, each `ready`."""
        for examples in batches({None: view}, [(None, p) for p in torch.arange(len(view)).split(size)], self.device):
            yield self.ready(examples, purpose)

    def sample(self, view, share):
        """A random ``share`` (0 to 1) of a view, drawn without replacement, at least one example."""
        order = torch.randperm(len(view), generator=self.generator("sample"))
        return view.select(order[: max(1, round(share * len(view)))].sort().values)

    # -- what may move -----------------------------------------------------------------------------------------------

    @property
    def trainable(self):
        return {name: p for name, p in self.student.named_parameters() if p.requires_grad}

    def freeze(self, mask, hold=True):
        """Only some weights may move.

        mask: name of a trainable parameter → boolean tensor, true where they may.
        hold: whatever the optimiser does.
        """
        self.masks, self.hold = {name: m.to(self.device) for name, m in mask.items()}, hold

    def only(self, modules):
        """Only parameters of these modules, and below them, are trained; the others have no gradients until the run is
        over.
        """
        chosen = {id(p) for module in modules for p in module.parameters()}
        self._resting = [p for p in self.student.parameters() if p.requires_grad and id(p) not in chosen]
        for p in self._resting:
            p.requires_grad_(False)

    def release(self):
        """The end of a run: adapters are merged into the weights, and what rested may be trained again."""
        if self.adapters:
            self.adapters.merge()
        for p in self._resting:
            p.requires_grad_(True)

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
        return torch.cat(parts)


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
