"""What it saves to take the gradients of many examples at a time: the importances (mean squared gradient of each
example) of 256 examples by `mubench.train.gradients` against a loop over batches of one, on one thread.

Bound is what no such code can pass: the loop against a plain backward pass for 64 examples at a time, which gives the
gradient of their sum alone. On a CPU core arithmetic soon is all there is, and the gain is what a batch of one wastes
on calls: a small model of long sequences (vit, wav2vec2, llama) has a bound of 4 to 5.

    python tests/benchmarks/per_sample_gradients.py    # exit code 0: the middle ratio over the models ≥ LIMIT, and the
    importances agree
"""

import functools
import statistics

import torch
from _paired import ratio

from mubench.registry import load_task
from mubench.train.context import Context
from mubench.train.gradients import importance

MODELS = {
    "fashion": ("resnet", "vit"),
    "spoken_words": ("whisper", "wav2vec2"),
    "fashion_pairs": ("vilt",),
    "people": ("llama",),
    "movie_snippets": ("bert",),
}
LIMIT = 3


def looped(context, view):
    """The same by one backward pass for each example."""
    task, model = context.task, context.student.eval()
    sums = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for i in range(len(view)):
        model.zero_grad(set_to_none=True)
        task.forward(model, context.batch(view, torch.tensor([i]), "loop")).loss.mean().backward()
        for n, p in model.named_parameters():
            if p.grad is not None:
                sums[n] += p.grad.square()
    model.zero_grad(set_to_none=True)
    return {n: s / len(view) for n, s in sums.items()}


def batched(context, view):
    """Backward passes that keep no example apart."""
    model = context.student.eval()
    for positions in torch.arange(len(view)).split(64):
        context.task.forward(model, context.batch(view, positions, "batched")).loss.sum().backward()
        model.zero_grad(set_to_none=True)


def compare(name, model):
    task = load_task(name)
    sets, fresh = task.sets(model, task.split(5)), functools.partial(task.build, model, 0)
    context = Context(task, fresh(), fresh, sets["forget"], sets["retain"])
    view = sets["retain"].select(torch.arange(256))
    ours, theirs = importance(context, view), looped(context, view)
    largest = max(v.abs().max().item() for v in theirs.values())
    apart = max((ours[n] - theirs[n]).abs().max().item() / largest for n in ours)
    middle, low, high = ratio(lambda: looped(context, view), lambda: importance(context, view), pairs=3)
    bound, *_ = ratio(lambda: looped(context, view), lambda: batched(context, view), pairs=3)
    print(
        f"{name}/{model}: loop / together = {middle:.1f} ({low:.1f} to {high:.1f}), bound {bound:.1f}; importances"
        f" differ by at most {apart:.1e} of the largest"
    )
    return middle, apart < 1e-4


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = [compare(name, model) for name, models in MODELS.items() for model in models]
    middle = statistics.median(times for times, _ in found)
    print(f"the middle of them: {middle:.1f}")
    raise SystemExit(not (middle >= LIMIT and all(same for _, same in found)))
