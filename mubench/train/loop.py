"""The one training loop: epoch → batch → loss → step.

A step never waits for the device: losses stay there, and are looked at together every `LOOK` steps.
"""

import math

import torch

from mubench.errors import MubenchError
from mubench.train.distributed import pieces
from mubench.train.loader import batches
from mubench.train.optimizer import rate

LOOK = 16  # steps between two looks at the losses


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
        context, costs, self._losses, self._unseen = self.context, self.context.meter.costs, [], []
        self.objective.begin(context.epoch)
        views = self.schedule.views
        steps = [
            (step, pieces(step, self.largest, self.recipe.accumulate, self.accelerator, views))
            for step in self.schedule.steps(context.epoch)
        ]
        asked = [(piece.on, piece.positions) for _, parts in steps for piece in parts]
        examples = batches(views, asked, context.device)
        for step, parts in steps:
            if self.allowance.refuses(step):
                break
            loss = self.step(step, parts, examples)
            context.note(step=context.step + 1)
            costs.steps = context.step
            self._unseen.append((loss, context.step, self.rate))
            if len(self._unseen) == LOOK or self.observer.looks:
                self._look()
            self.observer.after_step()
            self.bar.update()
        if self._losses or self._unseen:
            self._look()
            costs.losses.append(sum(self._losses) / len(self._losses))
            self.observer.after_epoch()

    def step(self, step, parts, examples):
        """One step of the optimiser; returns the loss of this process's pieces, on the device.

        step: its batches, (set, positions) each.
        parts: the pieces of them that this process runs.
        examples: gives the rows of each.
        """
        context, counted_before = self.context, self.context.meter.examples
        self.rate = rate(self.recipe, context.step / self.bar.total, context.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
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
        self.allowance.count(step, counted_before)
        return loss

    def _look(self):
        """The losses since the last look join those of the epoch. Raises `NonFiniteLoss` at the first that is none."""
        if not self._unseen:
            return
        (losses, steps, rates), self._unseen = zip(*self._unseen, strict=True), []
        found = self.accelerator.reduce(torch.stack(losses), "sum") / self.accelerator.num_processes
        for loss, step, lr in zip(found.tolist(), steps, rates, strict=True):
            self._losses.append(loss)
            if not math.isfinite(loss):
                self.context.meter.costs.losses.append(loss)
                raise NonFiniteLoss(
                    f"{self.method.name}: the loss is {loss} at step {step} with lr {lr:g}: "
                    f"try a smaller rate, --set lr={lr / 10:g}",
                    self.context.meter.costs,
                )
