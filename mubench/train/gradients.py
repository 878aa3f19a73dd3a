"""Gradients of single examples, or of small groups of them, many at a time: what importances, Fisher information and
influence need.
"""

import torch
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mubench.models import networks

NUMBERS = {
    "cpu": 2**23,
    "cuda": 2**26,
}  # of gradients held at once, 32 and 256 MiB: on a CPU core more were no faster, and bert and llama slower
EXAMPLES = 128  # run at once


class _Loss(torch.nn.Module):
    """The mean task loss of a batch, as what a module gives."""

    def __init__(self, task, model):
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch):
        return self.task.forward(self.model, batch).loss.mean()


def gradients(context, view, size=1, change=None):
    """Yields (batch, G gradients of the mean task loss: parameter name → [G, …]) over the groups of ``size``
    consecutive examples of a view (the last may be smaller), for as many groups at a time as fit; of the student in
    eval mode, which stays as it is.

    change: batch → the batch whose loss is meant (other labels). One pass of `torch.func`'s vmap; models that it cannot
    take (their control flow depends on the data) are run group by group.
    """
    loss, training = _Loss(context.task, context.student), context.student.training
    params = {f"model.{n}": p.detach() for n, p in context.student.named_parameters() if p.requires_grad}
    single = grad(lambda params, batch: functional_call(loss, {n: p.view_as(p) for n, p in params.items()}, (batch,)))
    together = max(
        1, min(NUMBERS.get(context.device.type, 2**23) // sum(p.numel() for p in params.values()), EXAMPLES // size)
    )
    context.student.eval()
    try:
        for positions in _pieces(len(view), size, together):
            batch = context.batch(view, positions, "gradients")
            given, count = change(batch) if change else batch, -(-len(positions) // size)
            groups = {name: values.unflatten(0, (count, -1)) for name, values in given.items()}
            first = {name: values[0] for name, values in groups.items()}
            plain = lambda: single(params, first), len(first["index"])
            with (
                context.accelerator.autocast(),
                torch.random.fork_rng(devices=[]),
                context.counted(("gradients", size), batch, plain=plain),
            ):
                found = None
                if count > 1 and together:
                    try:
                        with sdpa_kernel(SDPBackend.MATH), networks.whole_masks(context.student):
                            found = vmap(single, in_dims=(None, 0), randomness="same")(params, groups)
                    except (RuntimeError, ValueError):
                        together = 0
                if found is None:
                    each = [single(params, {k: v[i] for k, v in groups.items()}) for i in range(count)]
                    found = {name: torch.stack([one[name] for one in each]) for name in params}
            yield batch, {name.removeprefix("model."): values.detach() for name, values in found.items()}
    finally:
        context.student.train(training)


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
