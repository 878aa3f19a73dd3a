"""What it saves to take the gradients of many examples at a time: the importances (mean squared gradient of each example) of 256 examples
by `mubench.gradients` against a loop over batches of one. On a CPU core, where arithmetic is most of the time, 2.5 to 8 times as fast.

    python tests/benchmarks/per_sample_gradients.py    # exit code 0: the middle ratio over the models ≥ 3, and the importances agree
"""
import functools
import statistics

import torch
from _paired import ratio

from mubench.engine import Context
from mubench.gradients import importance
from mubench.registry import load_task

MODELS = {"fashion": ("resnet", "vit"), "spoken_words": ("whisper", "wav2vec2"), "fashion_pairs": ("vilt",), "people": ("llama",)}


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


def compare(name, model):
    task = load_task(name)
    sets, fresh = task.sets(model, task.split(5)), functools.partial(task.build, model, 0)
    context = Context(task, fresh(), fresh, sets["forget"], sets["retain"])
    view = sets["retain"].select(torch.arange(256))
    ours, theirs = importance(context, view), looped(context, view)
    largest = max(v.abs().max().item() for v in theirs.values())
    apart = max((ours[n] - theirs[n]).abs().max().item() / largest for n in ours)
    middle, low, high = ratio(lambda: looped(context, view), lambda: importance(context, view), pairs=3)
    print(f"{name}/{model}: loop / together = {middle:.1f} ({low:.1f} to {high:.1f}), importances differ by at most {apart:.1e} of the largest")
    return middle, apart < 1e-4


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = [compare(name, model) for name, models in MODELS.items() for model in models]
    middle = statistics.median(times for times, _ in found)
    print(f"the middle of them: {middle:.1f}")
    raise SystemExit(not (middle >= 3 and all(same for _, same in found)))
