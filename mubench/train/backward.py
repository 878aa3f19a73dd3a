"""From the pieces of a step to gradients: added up as they come, or those of D_f and of D_r apart where a hook asks."""

import contextlib

import torch

from mubench.errors import MubenchError


class Backward:
    """The backward passes of a step; the gradients end in ``.grad`` of all that may move.

    method: gives the hooks `penalty`, `combine` and `perturb`.
    context: of the run.
    objective: a piece and its batch → the scalar that the step lowers.
    """

    def __init__(self, method, context, objective):
        self.method, self.context, self.objective = method, context, objective
        self.accelerator = context.accelerator

    def __call__(self, parts, examples):
        """The loss of a step, over this process's pieces.

        parts: the pieces.
        examples: gives the rows of each.
        """
        batches = (
            (piece, self.context.ready(rows, f"step/{self.context.step}"))
            for piece, rows in zip(parts, examples, strict=False)  # the rows of later steps are left
        )
        if self.method.combine or self.method.perturb:
            return self._by_set([*batches])
        total = 0.0
        for piece, batch in batches:
            total = total + self._pass(piece, batch, penalised=piece.last)
        return total

    def _pass(self, piece, batch, penalised=False, alone=False, counts=True):
        """Forward and backward of one piece; returns its loss.

        penalised: whether the penalty belongs to it.
        alone: whether processes keep their gradients for themselves.
        counts: whether its losses count for the curriculum.
        """
        with self.objective.counted(piece, batch, alone):
            with self.accelerator.autocast():
                loss = self.objective(piece, batch, counts)
                if penalised and (penalty := self.method.penalty(self.context)) is not None:
                    loss = loss + penalty
            self.accelerator.backward(loss)
        return loss.detach()

    # -- two gradients -----------------------------------------------------------------------------------------------

    def _by_set(self, batches):
        """The loss of a step whose sets are gone back through one after the other.

        batches: (piece, batch) each.
        """
        method, trainable, gradients, total = self.method, self.context.trainable, {}, 0.0
        for on in dict.fromkeys(piece.on for piece, _ in batches):
            pieces = [(piece, batch) for piece, batch in batches if piece.on == on]
            shift = {}
            if on == "forget" and method.perturb:
                shift = method.perturb(self.context, lambda pieces=pieces: self._rehearsal(pieces))
                self._check("perturb", shift)
            with shifted(trainable, shift):
                loss, gradients[on] = self._gradients(pieces)
            total = total + loss
        if (penalty := method.penalty(self.context)) is not None:
            self.accelerator.backward(penalty)
            total = total + penalty.detach()
        step = added(gradients)
        if method.combine and len(gradients) == 2:
            step = method.combine(self.context, gradients)
            self._check("combine", step)
        for name, gradient in step.items():
            grad = trainable[name].grad
            trainable[name].grad = gradient if grad is None else grad + gradient
        return total

    def _gradients(self, pieces, counts=True):
        """The loss of some pieces, and name → their gradient, the same on all processes."""
        trainable = self.context.trainable
        total = sum(self._pass(piece, batch, alone=True, counts=counts) for piece, batch in pieces)
        found = {name: p.grad for name, p in trainable.items() if p.grad is not None}
        for p in trainable.values():
            p.grad = None
        if self.accelerator.num_processes > 1:
            found = {name: self.accelerator.reduce(grad, "mean") for name, grad in found.items()}
        return total, found

    def _rehearsal(self, pieces):
        """Name → the gradient of some pieces where the weights are now.

        It is work of the step, and leaves no other trace: statistics and random numbers are those from before.
        """
        self.context.meter.examples += sum(len(piece.positions) for piece, _ in pieces if piece.counts)
        statistics = [(buffer, buffer.clone()) for buffer in self.context.student.buffers()]
        with self.context.own_randomness():
            _, found = self._gradients(pieces, counts=False)
        for buffer, before in statistics:
            buffer.copy_(before)
        return found

    def _check(self, hook, given):
        """Raise where a hook gives something else than a tensor for some of the parameters."""
        trainable = self.context.trainable
        if not isinstance(given, dict):
            wrong = f"a {type(given).__name__}"
        else:
            bad = [n for n, t in given.items() if n not in trainable or getattr(t, "shape", None) != trainable[n].shape]
            wrong = bad and f"{bad[0]!r}, which is no parameter that is trained, or of another shape"
        if wrong:
            raise MubenchError(
                f"{hook}() of {self.method.name} gives {wrong}: it must give name → tensor of the parameter's shape,"
                " for names of context.trainable"
            )


def added(gradients):
    """Name → the sum of what each set gives."""
    total = {}
    for found in gradients.values():
        for name, grad in found.items():
            total[name] = total[name] + grad if name in total else grad
    return total


@contextlib.contextmanager
def shifted(parameters, shift):
    """Inside, some parameters are moved; afterwards they are what they were, to the last bit.

    parameters: name → parameter.
    shift: name → what is added to it.
    """
    before = {name: parameters[name].detach().clone() for name in shift}
    with torch.no_grad():
        for name, offset in shift.items():
            parameters[name].add_(offset)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, values in before.items():
                parameters[name].copy_(values)
