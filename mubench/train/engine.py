"""The one training loop: originals, retraining and every unlearning method run through it, on one process or many."""

import contextlib
import copy
import functools
import hashlib
import math
import os
from itertools import cycle, islice

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import send_to_device
from torch.distributed.tensor import DTensor, distribute_tensor
from tqdm.auto import tqdm

from mubench.models import networks
from mubench.train import lora
from mubench.models.behaviour import Output
from mubench.train.costs import Meter
from mubench.errors import MubenchError
from mubench.train.sophia import Sophia
from mubench.spec import Budget


class NonFiniteLoss(MubenchError):
    """The loss became NaN or infinite; ``costs`` holds what was recorded until then."""

    def __init__(self, message, costs):
        super().__init__(message)
        self.costs = costs


class Context:
    """What a method's hooks see.

    student: the model being trained; original: a frozen copy of it as it was; fresh(): a new, untrained one;
    task: its `Behaviour`; model_name: what a task calls the model; forget, retain: the two sets, as views that hooks
    may replace by a part; seed; epoch, from 1, of epochs;
    incompetent: an untrained model that knows nothing at all (``blank``; by default what ``fresh`` gives); validation:
    held-out examples, for thresholds (never for training, and never the test set);
    trainable: name → parameter of all that may move. With LoRA (``adapt``: what `lora.solve` is told, ``share`` or
    ``rank``) those are the adapters of the student, masks are over them alone, and ``original`` is the student without
    them: no copy.
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
    ):
        self.accelerator = accelerator or make_accelerator()
        self.task, self.model_name, self.forget, self.retain, self.seed = task, model_name, forget, retain, seed
        self.device = self.accelerator.device
        self._fresh, self._blank, self._validation = fresh, blank or fresh, validation
        self.student = self.fresh() if start == "fresh" else model.to(self.device)
        self.epoch, self.step, self.meter = 0, 0, Meter(self.device)
        self._model = model
        self._mask, self._hold, self._teachers, self._resting = {}, True, {}, []
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

    def fresh(self, make=None):
        """A new, untrained model, its random numbers drawn from the run's seed and from nobody else's."""
        with self._seeded("fresh"):
            return (make or self._fresh)().to(self.device)

    @contextlib.contextmanager
    def _seeded(self, purpose):
        with torch.random.fork_rng(devices=[] if self.device.type == "cpu" else None):
            torch.manual_seed(self.generator(purpose).initial_seed())
            yield

    @property
    def trainable(self):
        return {name: p for name, p in self.student.named_parameters() if p.requires_grad}

    @functools.cached_property
    def original(self):
        if self.step:
            raise MubenchError("context.original is a copy of the student before the first step: touch it in prepare()")
        return lora.Original(self.adapters) if self.adapters else _frozen(copy.deepcopy(self._model).to(self.device))

    @functools.cached_property
    def incompetent(self):
        return _frozen(self.fresh(self._blank))

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

    def batch(self, view, positions, purpose):
        """The examples at some positions of a view, on the device, with what a forward pass draws at random."""
        return send_to_device(self.task.drawn(view[positions], self.generator(purpose).initial_seed()), self.device)

    def sample(self, view, share):
        """A random ``share`` (0 to 1) of a view, drawn without replacement, at least one example."""
        order = torch.randperm(len(view), generator=self.generator("sample"))
        return view.select(order[: max(1, round(share * len(view)))].sort().values)

    def teacher(self, name):
        """The frozen ``original`` or ``incompetent`` model as a `Teacher`."""
        if name not in self._teachers:
            source = "adapters" if self.adapters and name == "original" else name
            getattr(self, source)  # the original is a copy from before the first step
            self._teachers[name] = Teacher(self, functools.partial(getattr, self, source))
        return self._teachers[name]

    @contextlib.contextmanager
    def counted(self, purpose, batch, gradient=True, network=None, plain=None):
        """Counts the work of the block, one pass over a batch (name → tensor): its FLOPs and, with a ``gradient``, its
        examples. Those of another ``network`` than the student count for its share of the student's parameters. A
        step's own pass counts by itself.
        plain: what is traced instead of the block (see `Meter.flops`)."""
        examples = len(batch["index"] if "index" in batch else next(iter(batch.values())))
        with self.meter.flops((purpose, gradient, *_shapes(batch)), examples, plain):
            yield
        if gradient:
            self.meter.examples += examples if network is None else examples * _size(network) / _size(self.student)

    def freeze(self, mask, hold=True):
        """Only weights where ``mask`` (name of a trainable parameter → boolean tensor) is true may move; ``hold``:
        whatever the optimiser does."""
        self._mask, self._hold = {name: m.to(self.device) for name, m in mask.items()}, hold

    def only(self, modules):
        """Only parameters of these modules, and below them, are trained; the others have no gradients until the run is
        over.
        """
        chosen = {id(p) for module in modules for p in module.parameters()}
        self._resting = [p for p in self.student.parameters() if p.requires_grad and id(p) not in chosen]
        for p in self._resting:
            p.requires_grad_(False)

    def snapshot(self):
        """A copy of the student as it is now, its buffers included: of the adapters alone with LoRA."""
        return {
            name: t.detach().clone()
            for name, t in (self.trainable if self.adapters else self.student.state_dict()).items()
        }

    @torch.no_grad()
    def rescale(self, factor, start):
        """Task arithmetic: θ ← start + ``factor`` · (θ − start), ``start`` being a `snapshot`. Buffers go back to it.
        With LoRA θ is what the adapters add to the weights, the product BA of each layer, and all else stays as it
        is."""
        if self.adapters:
            return self.adapters.rescale(factor, start)
        moved = dict(self.student.named_parameters(remove_duplicate=False))
        self.student.load_state_dict(
            {name: t + factor * (moved[name] - t) if name in moved else t for name, t in start.items()}
        )

    def saliency(self, on):
        """Parameter name → |Σ over the batches of a set of the gradient of the batch-mean task loss|, in eval mode; the
        batches are shared out among the processes."""
        view, size = getattr(self, on), self.forget_batch_size if on == "forget" else self.batch_size
        training = self.student.training
        self.student.eval().zero_grad(set_to_none=True)
        batches, rank, world = (
            torch.arange(len(view)).split(size),
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        shared = 1 < world <= len(batches)  # else each process takes them all: none may be left without gradients
        for positions in batches[rank::world] if shared else batches:
            batch = self.batch(view, positions, "saliency")
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
        training, pieces = self.student.training, []
        self.student.eval()
        for positions in torch.arange(len(view)).split(self.batch_size):
            batch = self.batch(view, positions, "measure")
            with self.counted(("measure", what), batch, gradient=False), self.accelerator.autocast():
                pieces.append(what(self.task, self.student, batch))
        self.student.train(training)
        return torch.cat(pieces)


class Teacher:
    """A frozen model whose outputs are computed once per example where the task can keep them (``keeps_outputs``).
    model: gives it when asked; an incompetent one is let go as soon as a whole view's outputs are known, and made
    again, the same, where it is asked again."""

    def __init__(self, context, model):
        self.context, self.model, self._outputs = context, model, {}

    @torch.no_grad()
    def answer(self, batch, rows, features=False):
        """The `Output` for some rows of a batch."""
        with self._original() as model:
            return self.context.task.forward(model, {k: v[rows] for k, v in batch.items()}, features)

    def outputs(self, view, features=False):
        """The `Output` of a whole view, row i being its example i."""
        key = (id(view), features)
        if key not in self._outputs:
            self._outputs[key] = view, self._run(view, features)  # the view is kept: its id must stay its own
            self.context.__dict__.pop("incompetent", None)
        return self._outputs[key][1]

    @torch.no_grad()
    def _run(self, view, features):
        context, pieces = self.context, []
        for positions in torch.arange(len(view)).split(2 * context.batch_size):
            batch = context.batch(view, positions, "teacher")
            with context.counted(("teacher", features), batch, gradient=False), context.accelerator.autocast():
                with self._original() as model:
                    pieces.append(context.task.forward(model, batch, features))
        join = lambda name: None if getattr(pieces[0], name) is None else torch.cat([getattr(p, name) for p in pieces])
        return Output(*(join(name) for name in ("loss", "logits", "mask", "features")))

    def _original(self):
        """The model as it answers: of adapters, the one they are put in, without them."""
        model = self.model()
        return model.off() if isinstance(model, lora.Adapters) else contextlib.nullcontext(model)


class Engine:
    """Runs one method on one context by one recipe. ``run()`` changes ``context.student`` and returns the `Costs`.

    shuffle: false keeps examples in the order of their view (replaying somebody's batches); validate: model → its score
    on the validation set, asked after each epoch where the recipe keeps the best one; observe: called with the context
    after each epoch, or at the start and every so many steps (``every``; what it raises ends the run); the time of both
    is not counted; curriculum: a `SuperLoss`, which weighs the examples of each term.
    """

    def __init__(
        self,
        method,
        context,
        recipe,
        budget=Budget(),
        shuffle=True,
        progress=True,
        validate=None,
        observe=None,
        every=None,
        curriculum=None,
    ):
        if recipe.keep_best and not validate:
            raise MubenchError(
                "keep_best=True needs a validation set to choose by: set keep_best=False, or run the task by"
                " `mubench.run`"
            )
        self.validate, self.observe, self.every, self.curriculum = validate, observe, every, curriculum
        self.method, self.context, self.recipe, self.budget, self.shuffle = method, context, recipe, budget, shuffle
        self.accelerator = context.accelerator
        self._shards = None
        self.progress = progress and self.accelerator.is_main_process
        context.batch_size, context.epochs = recipe.batch_size, recipe.epochs
        context.forget_batch_size = recipe.forget_batch_size or recipe.batch_size
        if method.terms and any(t.on == "forget" for t in method.terms) and not len(context.forget):
            raise MubenchError(f"the forget set is empty: {method.name} has nothing to unlearn")
        if self.accelerator.sharded:
            self._refuse_shards()

    def _refuse_shards(self):
        """Sharded layers are gathered by all processes at once: what some would ask more often than others cannot be
        run, nor what reads weights during training."""
        method, union = self.method, self.method.schedule == "union"
        teachers = self.context.adapters and any(t.target == "original" for t in method.terms)
        scalars = [name for name, p in self.context.student.named_parameters() if not p.ndim]
        why = (
            f"{method.name} reads or changes weights while it trains"
            if not method.shards
            else (
                f"{method.name} asks the model more often for some batches than for others"
                if union and (teachers or any(t.how for t in method.terms))
                else (
                    "float16 gradients are scaled by each process alone"
                    if self.accelerator.mixed_precision == "fp16"
                    else f"{scalars[0]} is a single number"
                    if scalars
                    else None
                )
            )
        )
        if why:
            raise MubenchError(
                f"this run cannot be sharded: {why}; start it without --use_fsdp, every process then holds the whole"
                " model"
            )

    def run(self):
        context, method, recipe = self.context, self.method, self.recipe
        with torch.random.fork_rng(devices=[] if context.device.type == "cpu" else None), context.meter as meter:
            torch.manual_seed(self.context.seed)
            context.student.train()
            method.prepare(context)
            if self.every:
                self._show()
            for term in method.terms:
                if term.target in ("original", "incompetent"):
                    context.teacher(term.target)
            self._order = context.generator("order")
            self._views = {"forget": context.forget, "retain": context.retain}
            if method.schedule == "union":
                self._views["union"] = context.forget + context.retain
            total = sum(len(self._plan(epoch, count=True)) for epoch in range(1, recipe.epochs + 1))
            if total:
                self._train(total)
            method.finish(context)
            if context.adapters:
                context.adapters.merge()
            for p in context._resting:
                p.requires_grad_(True)
        if (
            self.budget.examples is not None and meter.costs.examples > self.budget.examples
        ):  # by a pass of a hook, which is never cut
            meter.costs.stopped_by = "examples"
        if self.accelerator.num_processes > 1:  # each has counted its own
            flops = torch.tensor(meter.costs.flops, dtype=torch.float64, device=context.device)
            meter.costs.flops = int(self.accelerator.reduce(flops, "sum").item())
        return meter.costs

    # -- the loop --------------------------------------------------------------------------------------------------

    def _train(self, total):
        context, costs = self.context, self.context.meter.costs
        if self.recipe.recompute:
            networks.recompute(context.student)
        self._best, self._passes = None, {}
        if self.accelerator.sharded:
            self.model = self.accelerator.prepare_model(
                context.student, evaluation_mode=True
            )  # precision, and nothing else
            self._shards = networks.Shards(context.student, context.device)
        params = [p for p in context.student.parameters() if p.requires_grad]
        if self._shards:
            self.optimizer = self.accelerator.prepare(self._optimizer(params))
        else:
            self.model, self.optimizer = self.accelerator.prepare(context.student, self._optimizer(params))
        masked = [
            (p, mask, _mine(p).detach().clone())
            for n, p in context.student.named_parameters()
            if n in context._mask
            for mask in [_share(context._mask[n], p)]
        ]
        with tqdm(total=total, desc=self.method.name, disable=None if self.progress else True, leave=False) as bar:
            for context.epoch in range(1, self.recipe.epochs + 1):
                losses = []
                every = self.method.terms
                self._numbers = {id(t): number for number, t in enumerate(every)}
                terms = [t for t in every if t.when(context.epoch)]
                for step in self._plan(context.epoch):
                    if self._spent(step):
                        break
                    for group in self.optimizer.param_groups:
                        group["lr"] = lr = self._lr(context.step / total)
                    losses.append(self._step(step, terms, params, masked))
                    context.step += 1
                    costs.steps = context.step
                    if not math.isfinite(losses[-1]):
                        costs.losses.append(losses[-1])
                        raise NonFiniteLoss(
                            f"{self.method.name}: the loss is {losses[-1]} at step {context.step} with lr {lr:g}: "
                            f"try a smaller rate, --set lr={lr / 10:g}",
                            costs,
                        )
                    if self.every and context.step % self.every == 0:
                        self._show()
                    bar.update()
                if losses:
                    costs.losses.append(sum(losses) / len(losses))
                    self._keep_best()
                    if not self.every:
                        self._show()
                with self._whole():
                    over = self.method.after_epoch(context)
                if over or costs.stopped_by != "epochs":
                    break
        self.optimizer.zero_grad(set_to_none=True)
        if self._shards:
            self.optimizer = None  # its states make room
            self._shards.gather()
        if self._best is not None:
            context.student.load_state_dict(self._best)

    def _keep_best(self):
        """Score the epoch on the validation set and keep its weights, in main memory, if no earlier one was as good."""
        if not self.recipe.keep_best:
            return
        context, scores = self.context, self.context.meter.costs.validation
        with self._aside(), self._whole():
            scores.append(self.validate(context.student))
            if scores[-1] > max(scores[:-1], default=-math.inf):
                self._best = {
                    name: tensor.to("cpu", copy=True) for name, tensor in context.student.state_dict().items()
                }

    def _show(self):
        if self.observe:
            with self._aside(), self._whole():
                self.observe(self.context)

    @contextlib.contextmanager
    def _aside(self):
        """What happens here counts neither for the clocks nor for the random numbers of the run."""
        with (
            self.context.meter.paused(),
            torch.random.fork_rng(devices=[] if self.context.device.type == "cpu" else None),
        ):
            yield

    def _whole(self):
        """Inside, the student is whole, so that processes may ask it unequally often."""
        return self._shards.whole() if self._shards else contextlib.nullcontext()

    def _step(self, step, terms, params, masked):
        """One optimiser step over the step's batches; returns its loss."""
        meter, examples = self.context.meter, sum(len(positions) for _, positions in step)
        counted = meter.examples
        self.optimizer.zero_grad(set_to_none=True)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        most = max(
            self.recipe.batch_size, self.recipe.forget_batch_size
        )  # a hook may ask for larger batches: their pieces are no larger
        pieces = []
        for on, positions in step:
            mine = positions[rank::world]
            weight = len(positions) if len(mine) else math.inf  # nothing left for this process: one example at weight 0
            mine = mine if len(mine) else positions[:1]
            parts = max(1, self.recipe.accumulate) * (
                math.ceil(len(positions) / most) if len(positions) > most + 1 else 1
            )
            cut = [(on, piece, weight) for piece in mine.chunk(parts)]
            most_pieces = len(
                positions[::world].chunk(parts)
            )  # of the first process; sharded layers are gathered by all or by none
            pieces += cut + [(on, positions[:1], math.inf)] * (most_pieces - len(cut))
        total = 0.0
        for i, (on, positions, n) in enumerate(pieces):
            last = i == len(pieces) - 1
            batch = self.context.batch(self._views[on], positions, f"step/{self.context.step}")
            if self.curriculum:
                self.curriculum.counting = n < math.inf
            with (
                self.context.counted(("step", on, last, tuple(terms)), batch, gradient=False),
                contextlib.ExitStack() as stack,
            ):
                if (
                    not last and not self._shards
                ):  # shards are reduced at once: a whole gradient is what they cannot hold
                    stack.enter_context(self.accelerator.no_sync(self.model))
                with self.accelerator.autocast():
                    loss = self._loss(on, positions, batch, terms) / n * world
                    penalty = self.method.penalty(self.context) if last else None
                    if penalty is not None:
                        loss = loss + penalty
                self.accelerator.backward(loss)
            total = total + loss.detach()
        for param, mask, _ in masked:
            if param.grad is not None:
                _mine(param.grad).mul_(mask)
        if self.recipe.clip:
            self.accelerator.clip_grad_norm_(params, self.recipe.clip)
        self.optimizer.step()
        if self.curriculum:
            gather = functools.partial(self.accelerator.reduce, reduction="sum") if world > 1 else None
            self.curriculum.step(range(len(self._numbers)), gather, self.accelerator.device)
        if self.context._hold:
            with torch.no_grad():
                for param, mask, before in masked:
                    torch.where(mask, _mine(param), before, out=_mine(param))
        more = meter.examples - counted  # what further passes, in hooks, have counted in this process
        if world > 1:
            total, more = self.accelerator.reduce(
                torch.stack([total.double() / world, total.new_tensor(more).double()]), "sum"
            )
        meter.examples = counted + examples + float(more)
        self._passes[tuple(on for on, _ in step)] = (examples + float(more)) / examples
        return float(total)

    def _loss(self, on, positions, batch, terms):
        """Σ over a batch and the terms on its examples of weight × measure."""
        split = len(self._views["forget"])
        rows = {on: slice(None)}
        if on == "union":
            rows = {
                "forget": (positions < split).nonzero().flatten(),
                "retain": (positions >= split).nonzero().flatten(),
            }
        terms = [t for t in terms if t.on in rows and (on != "union" or len(rows[t.on]))]
        if not terms:
            return self.context.task.forward(self.model, batch).loss.sum() * 0
        corrupted = {t.on: t for t in terms if t.corrupts}
        as_it_is = [t for t in terms if t.on in corrupted and not t.corrupts]
        total = 0.0
        for group in ([t for t in terms if t not in as_it_is], as_it_is):
            if not group:
                continue
            given = batch
            for t in corrupted.values() if group is not as_it_is else ():
                given = self._corrupt(given, positions, rows[t.on], t)
            if group is as_it_is:
                self.context.meter.examples += len(positions)  # a second pass
            out = self.context.task.forward(self.model, given, features=any(t.measure == "rep" for t in group))
            for t in group:
                mine, theirs, task = out[rows[t.on]], None, self.context.task
                if t.target in ("original", "incompetent"):
                    teacher, features = self.context.teacher(t.target), t.measure == "rep"
                    if task.keeps_outputs:
                        at = positions[rows[t.on]] - (split if on == "union" and t.on == "retain" else 0)
                        theirs = teacher.outputs(getattr(self.context, t.on), features)[at.to(out.loss.device)]
                    else:
                        theirs = teacher.answer(given, rows[t.on], features)
                value = (
                    t.how(self.context, {k: v[rows[t.on]] for k, v in given.items()}, mine, theirs)
                    if t.how
                    else (
                        mine.loss
                        if t.measure == "loss"
                        else (
                            task.distance(mine, theirs)
                            if t.measure == "rep"
                            else task.divergence(mine, theirs, t.temperature, t.per)
                        )
                    )
                )
                value = self.curriculum(value, self._numbers[id(t)]) if self.curriculum else value
                total = total + t.weight * value.sum()
            if self._shards and out.features is not None:
                total = (
                    total + 0 * out.loss.sum()
                )  # shards are gathered for the backward pass of what the whole model gives
        return total

    def _corrupt(self, batch, positions, rows, term):
        """The batch with the ``rows`` of the term's set corrupted, by draws that depend on seed, epoch and example
        alone.
        """
        if term.target == "refusal":
            return self.context.task.refuse(batch, torch.arange(len(positions))[rows])
        purpose = f"labels/{term.on}/{self.context.epoch if term.redraw else 0}"
        if getattr(self, "_drawn", None) != purpose:
            view = self._views["union" if "union" in self._views else term.on]
            self._drawn, self._draws = purpose, torch.rand(len(view), generator=self.context.generator(purpose))
        rows = torch.arange(len(positions))[rows]
        return self.context.task.corrupt(
            batch, rows, self._draws[positions[rows]], self.context.retain, term.target == "wrong"
        )

    # -- the plan --------------------------------------------------------------------------------------------------

    def _plan(self, epoch, count=False):
        """The steps of an epoch, each a list of (view, positions)."""
        size, small = self.recipe.batch_size, self.context.forget_batch_size

        def batches(on):
            n, forget = len(self._views[on]), len(self._views["forget"])
            chosen = self.method.select(self.context) if on in ("forget", "union") and not count else None
            order = torch.arange(n)
            if chosen is not None:
                order = torch.cat([torch.as_tensor(chosen, dtype=torch.long), order[forget:]])
            if self.shuffle and not count:
                order = order[torch.randperm(len(order), generator=self._order)]
            pieces = [b for b in order.split(small if on == "forget" else size) if len(b)]
            if len(pieces) > 1 and len(pieces[-1]) == 1 < len(pieces[0]):  # batch norm has no statistics of one example
                pieces[-2:] = [torch.cat(pieces[-2:])]
            return [(on, piece) for piece in pieces]

        schedule = self.method.schedule
        active = [on for on in ("forget", "retain") if any(t.on == on and t.when(epoch) for t in self.method.terms)]
        if schedule == "none":
            return []
        if schedule == "joint" and len(active) == 2:
            forget, retain = batches("forget"), batches("retain")
            if not forget or not retain:
                raise MubenchError(f"{self.method.name} pairs the two sets: neither may be empty")
            lengths = {
                "longer": max(len(forget), len(retain)),
                "shorter": min(len(forget), len(retain)),
                "forget": len(forget),
            }
            return [list(pair) for pair in islice(zip(cycle(forget), cycle(retain)), lengths[self.method.epoch_length])]
        if schedule in ("joint", "alternate"):
            return [[b] for on in active for b in batches(on)]
        return [[b] for b in batches(schedule.removesuffix("_only"))]

    def _lr(self, progress):
        """The rate at a share of all steps, in the current epoch."""
        r = self.recipe
        if progress < r.warmup:
            factor = progress / r.warmup
        else:
            left = (1 - progress) / (1 - r.warmup) if r.warmup < 1 else 1.0
            factor = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}[r.lr_schedule]
        return r.lr * factor * r.lr_decay ** sum(m < self.context.epoch for m in r.milestones)

    def _optimizer(self, params):
        r = self.recipe
        if r.optimizer == "sgd":
            return torch.optim.SGD(params, lr=r.lr, momentum=r.momentum, weight_decay=r.weight_decay)
        others = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sophia": Sophia}
        if r.optimizer not in others:
            raise MubenchError(f"optimizer {r.optimizer!r}: {', '.join(others)} or sgd")
        return others[r.optimizer](params, lr=r.lr, weight_decay=r.weight_decay)

    def _spent(self, step):
        """Whether the next step would go over the budget; notes which."""
        costs, budget, meter = self.context.meter.costs, self.budget, self.context.meter
        passes = self._passes.get(tuple(on for on, _ in step), 1)
        needs = {
            "steps": costs.steps + 1,
            "examples": meter.examples + passes * sum(len(positions) for _, positions in step),
        }
        if budget.seconds is not None:
            clock = torch.tensor(meter.seconds(), device=self.accelerator.device)
            needs["seconds"] = (
                self.accelerator.reduce(clock, "mean") if self.accelerator.num_processes > 1 else clock
            ).item()
        limits = budget.asdict()
        costs.stopped_by = next(
            (name for name, much in needs.items() if limits[name] is not None and much > limits[name]), "epochs"
        )
        return costs.stopped_by != "epochs"


def make_accelerator(precision="no"):
    """The process's `accelerate.Accelerator` at a precision: ``no`` (float32), ``bf16`` or ``fp16``."""
    state = AcceleratorState._shared_state
    if state and state.get("_mixed_precision") != precision:
        AcceleratorState._reset_state()
    wanted = sharding()
    for other in ("DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{other}", "false").lower() in ("true", "1"):
            raise MubenchError(
                f"a run is not shared out by {other}: start it with --multi_gpu, or --use_fsdp for a model that one GPU"
                " does not hold"
            )
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            cpu=not torch.cuda.is_available(),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        accelerator.sharded = wanted and accelerator.num_processes > 1
        return accelerator
    except ValueError as error:
        raise MubenchError(f"precision {precision!r} is not to be had here: {error}") from error


@contextlib.contextmanager
def threads(count):
    """Runs torch on so many CPU threads (None: as it is)."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def sharding():
    """Whether the launcher asked for FSDP (``accelerate launch --use_fsdp``). The word is taken from the environment:
    others who read it there would do it in their own ways (accelerate wraps models, transformers reads weights on one
    process only)."""
    return os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")


def _mine(tensor):
    """This process's shard of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _share(tensor, like):
    """The part of a tensor, the same on all processes, that belongs to this process's shard of another."""
    return (
        distribute_tensor(tensor, like.device_mesh, like.placements).to_local() if isinstance(like, DTensor) else tensor
    )


def _frozen(model):
    return model.eval().requires_grad_(False)


def _size(model):
    return sum(p.numel() for p in model.parameters())


def _shapes(batch):
    """The shapes of one example."""
    return tuple((k, tuple(v.shape[1:])) for k, v in sorted(batch.items()) if isinstance(v, torch.Tensor))
