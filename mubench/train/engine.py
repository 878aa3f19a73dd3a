"""One run of one method: what its hooks prepare, the training between them, and what it cost."""

import torch
from tqdm.auto import tqdm

from mubench.errors import MubenchError
from mubench.models import networks
from mubench.models.wrappers import ORIGINAL, TABLE, Wrapper
from mubench.spec import Budget, refuse_cut
from mubench.train.backward import Backward
from mubench.train.costs import Allowance
from mubench.train.distributed import Shards, refuse_shards, search_unused
from mubench.train.loop import Loop
from mubench.train.objective import Objective
from mubench.train.observer import Observer
from mubench.train.optimizer import make_optimizer
from mubench.train.schedule import Schedule
from mubench.train.trainable import Masks


class Engine:
    """Runs one method on one context by one recipe: originals, retraining and unlearning alike.

    method, context, recipe: what is run, on what, and by which numbers.
    budget: the most it may use (None: all it asks for).
    shuffle: false keeps examples in the order of their set (see `Schedule`).
    progress: whether a bar is shown.
    validate: model → its score on the validation set, asked where the recipe keeps the best weights.
    observe, every: see `Observer`.
    curriculum: a `SuperLoss`, or None.
    model: after `run`, the student or, of a method that wraps it, the `Wrapper`.
    """

    Schedule, Loop = Schedule, Loop

    def __init__(
        self,
        method,
        context,
        recipe,
        budget=None,
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
        if any(term.on == "forget" for term in method.terms) and not len(context.forget):
            raise MubenchError(f"the forget set is empty: {method.name} has nothing to unlearn")
        self.batchwise = method.batchwise or context.task.batchwise
        if self.batchwise:
            refuse_cut(method, recipe, context.accelerator.num_processes)
        if (method.combine or method.perturb or method.before_step) and context.accelerator.mixed_precision == "fp16":
            raise MubenchError(
                f"{method.name} looks at gradients, which float16 scales: run it with --precision bf16 or without"
            )
        if context.shard:
            refuse_shards(method, context)
        if observe and method.wrap:
            raise MubenchError(
                f"{method.name} leaves a wrapper, which is there at the end only: there are no scores along the run"
                " (eval_every)"
            )
        self.method, self.context, self.recipe, self.shuffle = method, context, recipe, shuffle
        self.accelerator, self.curriculum = context.accelerator, curriculum
        self.allowance = Allowance(budget or Budget(), context.meter, context.accelerator)
        self.observer = Observer(context, observe, every, validate if recipe.keep_best else None)
        self.progress = progress and self.accelerator.is_main_process
        forget_batch_size = len(context.forget) if method.full_batch else recipe.forget_batch_size or recipe.batch_size
        context.note(batch_size=recipe.batch_size, forget_batch_size=forget_batch_size, epochs=recipe.epochs)

    def run(self):
        """Train: the context's student is changed, and ``model`` is what the method leaves. Returns the `Costs`."""
        context, method = self.context, self.method
        with context.own_randomness(), context.meter as meter:
            torch.manual_seed(context.seed)
            if method.wrap:
                context.keep_original()
            context.student.train(method.train_mode)
            try:
                self._prepare()
                total = sum(len(self.schedule.steps(epoch, count=True)) for epoch in range(1, self.recipe.epochs + 1))
                if total:
                    self._train(total)
                method.finish(context)
            except BaseException:
                context.unfreeze()  # the student may be somebody's own
                raise
            context.release()
            self.model = self._wrapped()
        self.allowance.settle()
        return meter.costs

    def _prepare(self):
        """Teachers, what is trained, and what the method does before the first step."""
        context, method = self.context, self.method
        for term in method.terms:
            if term.taught:
                context.teacher(term.target)  # a copy of the student, so before hooks change it
        context.hold_statistics()
        self._share_flops()
        if method.trainable:
            modules = {*context.student.modules()}
            trained = method.trainable(context.student, context.task.head)
            context.note(_altered={*context.student.modules()} != modules)
            if trained is not None:
                context.train_only(trained)
        method.prepare(context)
        context.begin()
        self._share_flops()
        self.observer.before_training()
        self.schedule = self.Schedule(method, context, self.shuffle)

    def _share_flops(self):
        """What passes take is traced once for all runs of this process that do the same."""
        context, method = self.context, self.method
        if not (context.forget.world or context.retain.world):  # with which the work is not proportional to examples
            context.meter.share(context.task, context.student, method, self.recipe, self.accelerator.mixed_precision)

    def _wrapped(self):
        """What the method leaves: the student, or the `Wrapper` that it makes."""
        method, context = self.method, self.context
        wrapper = method.wrap(context) if method.wrap else None
        if wrapper is None:
            return context.student
        if not isinstance(wrapper, Wrapper) or not wrapper.loads() and wrapper.name in TABLE:
            raise MubenchError(
                f"{method.name}: wrap() gives a {type(wrapper).__name__}, which is no Wrapper of"
                " mubench.models.wrappers or has the name of another"
            )
        if ORIGINAL in wrapper.parts and wrapper.original is not context.original:
            raise MubenchError(
                f"{method.name}: the part {ORIGINAL} of a wrapper is context.original; another network has another name"
            )
        return wrapper

    def _train(self, total):
        """Everything between `prepare` and `finish`.

        total: the number of steps of all epochs.
        """
        context, accelerator = self.context, self.accelerator
        if self.recipe.recompute:
            networks.recompute_activations(context.student)
        shards = Shards(context) if context.shard else None
        if not context.trainable:
            raise MubenchError(f"{self.method.name} leaves nothing to train: all parameters are frozen")
        optimizer = make_optimizer(self.recipe, [*context.trainable.values()])
        if shards:
            model, optimizer, self.observer.whole = shards.model, accelerator.prepare(optimizer), shards.whole
        else:
            search_unused(context, self.method)
            model, optimizer = accelerator.prepare(context.student, optimizer)
        objective = Objective(self.method, context, self.schedule.views, model, self.curriculum, bool(shards))
        backward = Backward(self.method, context, objective)
        masks = Masks(context.student, context.masks, context.hold)
        with tqdm(total=total, desc=self.method.name, disable=None if self.progress else True, leave=False) as bar:
            self.Loop(self, optimizer, objective, backward, masks, bar).run()
        optimizer.zero_grad(set_to_none=True)
        if shards:
            del optimizer  # its states make room
            shards.gather()
        self.observer.after_training()
