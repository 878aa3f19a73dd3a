"""Gradients of single examples, or of small groups of them, many at a time: what importances, Fisher information and
influence need.
"""

import torch
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mubench.errors import MubenchError
from mubench.models import networks
from mubench.train.loader import batches

NUMBERS = {
    "cpu": 2**23,
    "cuda": 2**26,
}  # of gradients held at once, 32 and 256 MiB: on a CPU core more were no faster, and bert and llama slower
EXAMPLES = 128  # run at once
LARGE = 32  # examples of a group from which on a pass for each group is faster than one for all


class _Loss(torch.nn.Module):
    """The mean task loss of a batch, as what a module gives."""

    def __init__(self, task, model):
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch):
        return self.task.forward(self.model, batch).loss.mean()


def gradients(context, view, size=1, change=None):
    """Gradients of the mean task loss of groups of examples, by the student in eval mode, which stays as it is.

    view: whose examples.
    size: consecutive examples of a group (the last group may be smaller).
    change: batch → the batch whose loss is meant (other labels).

    Yields (batch, parameter name → [G, …]) for as many of the groups at a time as fit: one pass of `torch.func`'s vmap;
    large groups, and models that it cannot take (their control flow depends on the data), are run group by group.
    Raises `MubenchError` where an example has no loss of its own.
    """
    if context.task.batchwise:
        raise MubenchError(
            "the loss couples the examples of a batch here, so none has a gradient of its own: this method needs tasks"
            " whose loss is per example"
        )
    loss, training = _Loss(context.task, context.student), context.student.training
    trained = {f"model.{n}": p for n, p in context.student.named_parameters() if p.requires_grad}
    params = {n: p.detach() for n, p in trained.items()}
    traced = grad(lambda params, batch: functional_call(loss, {n: p.view_as(p) for n, p in params.items()}, (batch,)))
    alone = torch.enable_grad()(
        lambda group: torch.autograd.grad(loss(group), [*trained.values()], materialize_grads=True)
    )
    numbers = NUMBERS.get(context.device.type, NUMBERS["cpu"]) // sum(p.numel() for p in params.values())
    together = max(1, min(numbers, EXAMPLES // size))
    many = size < LARGE
    context.student.eval()
    try:
        asked = [(None, positions) for positions in _pieces(len(view), size, together)]
        for examples in batches({None: view}, asked, context.device):
            batch = context.ready(examples, "gradients")
            given = change(batch) if change else batch
            groups = [context.task.take(given, rows) for rows in torch.arange(len(batch["index"])).split(size)]
            count = len(groups)
            plain = (lambda groups=groups: alone(groups[0])), len(groups[0]["index"])
            with (
                context.accelerator.autocast(),
                torch.random.fork_rng(devices=[]),
                context.counted(("gradients", size), batch, plain=plain),
            ):
                found = _at_once(traced, params, groups, context.student) if count > 1 and many else None
                if found is None:
                    many = many and count == 1  # else not tried again
                    found = dict(zip(trained, map(torch.stack, zip(*map(alone, groups), strict=True)), strict=True))
            yield batch, {name.removeprefix("model."): values.detach() for name, values in found.items()}
    finally:
        context.student.train(training)


def _at_once(traced, params, groups, student):
    """The gradients of all groups, or None where vmap cannot take the model, or groups that differ in their shapes."""
    first = groups[0]
    try:
        own = {name: torch.stack([group[name] for group in groups]) for name in first if _apart(name, groups)}
        axes = {name: 0 if name in own else None for name in first}  # what belongs to no example is the same for all
        many = vmap(traced, in_dims=(None, axes), randomness="same")
        with sdpa_kernel(SDPBackend.MATH), networks.whole_masks(student):
            return many(params, first | own)
    except (RuntimeError, ValueError):
        return None


def _apart(name, groups):
    """Whether a column of two groups is not one and the same."""
    return groups[0][name] is not groups[1][name]


def _pieces(n, size, together):
    """Positions 0 … n−1 cut into pieces of whole groups; what is left over is the last, a group of its own."""
    whole = n - n % size
    pieces = [*torch.arange(whole).split(size * together)] if whole else []
    return pieces + ([torch.arange(whole, n)] if whole < n else [])


def importance(context, view, size=1):
    """Parameter name → mean over the groups of ``size`` examples of the squared gradient of their mean loss (size 1:
    the diagonal of the empirical Fisher information)."""
    sums = {}
    for _, found in gradients(context, view, size):
        for name, values in found.items():
            sums[name] = sums.get(name, 0) + values.square().sum(
                0
            )  # a norm over the first dimension takes four times as long
    return {name: total / -(-len(view) // size) for name, total in sums.items()}
