"""The one training loop: epoch → batch → loss → step."""

import math

from mubench.errors import MubenchError
from mubench.train.distributed import pieces
from mubench.train.loader import batches
from mubench.train.optimizer import rate


class NonFiniteLoss(MubenchError):
    """The loss became NaN or infinite; ``costs`` holds what was recorded until then."""

    def __init__(self, message, costs):
        super().__init__(message)
        self.costs = costs


class Loop:
    """The steps of a run.

    engine: gives method, context, recipe, schedule, allowance and observer.
    optimizer: over all that may move.
    backward: the pieces of a step → their loss, the gradients being in ``.grad``.
    objective: a batch → the scalar that a step lowers.
    masks: single weights that stay.
    bar: a step at a time.
    """

    def __init__(self, engine, optimizer, objective, backward, masks, bar):
        self.method, self.context, self.recipe = engine.method, engine.context, engine.recipe
        self.schedule, self.accelerator = engine.schedule, engine.accelerator
        self.allowance, self.observer = engine.allowance, engine.observer
        self.optimizer, self.objective, self.backward, self.masks, self.bar = optimizer, objective, backward, masks, bar
        self.largest = math.inf if engine.batchwise else max(self.recipe.batch_size, self.recipe.forget_batch_size)

    def run(self):
        """All epochs, until the method ends the run or its budget is used up."""
        context = self.context
        for epoch in range(1, self.recipe.epochs + 1):
            context.note(epoch=epoch)
            self.epoch()
            with self.observer.whole():
                over = self.method.after_epoch(context)
            if over or self.allowance.used_up:
                break

    def epoch(self):
        """The steps of the present epoch."""
        context, costs, losses = self.context, self.context.meter.costs, []
        self.objective.begin(context.epoch)
        steps = [
            (step, pieces(step, self.largest, self.recipe.accumulate, self.accelerator))
            for step in self.schedule.steps(context.epoch)
        ]
        asked = [(piece.on, piece.positions) for _, parts in steps for piece in parts]
        examples = batches(self.schedule.views, asked, context.device)
        for step, parts in steps:
            if self.allowance.refuses(step):
                break
            losses.append(self.step(step, parts, examples))
            context.note(step=context.step + 1)
            costs.steps = context.step
            self._check(losses[-1])
            self.observer.after_step()
            self.bar.update()
        if losses:
            costs.losses.append(sum(losses) / len(losses))
            self.observer.after_epoch()

    def step(self, step, parts, examples):
        """One step of the optimiser; returns its loss.

        step: its batches, (set, positions) each.
        parts: the pieces of them that this process runs.
        examples: gives the rows of each.
        """
        context, counted_before = self.context, self.context.meter.examples
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate = rate(self.recipe, context.step / self.bar.total, context.epoch)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(parts, examples)
        if self.method.before_step:
            self.method.before_step(context, self.schedule.seen(step))
        self.masks.stop_gradients()
        if self.recipe.clip:
            self.accelerator.clip_grad_norm_(self.objective.parameters, self.recipe.clip)
        self.optimizer.step()
        self.masks.put_back()
        self.objective.end_step()
        return self.allowance.count(step, counted_before, loss)

    def _check(self, loss):
        if math.isfinite(loss):
            return
        self.context.meter.costs.losses.append(loss)
        raise NonFiniteLoss(
            f"{self.method.name}: the loss is {loss} at step {self.context.step} with lr {self.rate:g}: "
            f"try a smaller rate, --set lr={self.rate / 10:g}",
            self.context.meter.costs,
        )
