"""What the engine adds to a hand-written loop over the same batches.

    python tests/benchmarks/engine_overhead.py

CPU seconds of the engine over those of the loop, in 40 steps or more of six models: ≤ 1.05 where a step takes 10 ms
or more. Both sides: the same model, order and memory layout, AdamW in one kernel, clipping at 1. Then the milliseconds
that each method adds to a step of that loop with a model that does nothing: ≤ 0.5. What its terms compute is in it.
"""

import copy
import functools
import statistics

import torch
import transformers
from _paired import cpu_seconds, judged

from mubench.examples import Examples
from mubench.models.behaviour import Behaviour
from mubench.models.layout import channels_last
from mubench.registry import load_method, load_task
from mubench.train.context import Context
from mubench.train.engine import Engine

STEPS, ROUNDS = 40, 7
METHODS = "finetune neggrad neggrad_plus rand_label salun bad_t scrub delete npo l1_sparse sga_tau undial".split()


class Nothing(torch.nn.Module):
    """A model whose step is all Python."""

    def __init__(self):
        super().__init__()
        self.classifier = torch.nn.Linear(2, 3)

    def forward(self, x):
        return self.classifier(x)


class Classes(Behaviour):
    num_labels = 3


def by_hand(task, model, view, size):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    for positions in torch.randperm(len(view)).split(size):
        loss = task.forward(model, channels_last(view[positions], torch.device("cpu"))).loss.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()


def by_engine(task, model, view, size, method="finetune", forget=None):
    method = load_method(method, epochs=1, lr=1e-4, batch_size=size)
    context = Context(task, model, lambda: Nothing(), forget or view.select(slice(0)), view, validation=forget)
    return Engine(method, context, method.recipe(load_task("fashion").recipe), progress=False).run().steps


def models():
    """Name, task, model, examples and batch size of each."""
    resnet18 = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=10
        )
    )
    random = torch.Generator().manual_seed(0)
    pictures = Examples(
        {
            "pixel_values": torch.randn(STEPS * 16, 3, 32, 32, generator=random),
            "labels": torch.randint(10, (STEPS * 16,), generator=random),
        }
    )
    yield "ResNet-18 at 32×32", Behaviour(), resnet18, pictures, 16
    for name, model, size in (
        ("fashion", "resnet", 64),
        ("fashion", "vit", 64),
        ("movie_snippets", "bert", 32),
        ("movie_snippets", "distilbert", 32),
        ("people", "llama", 16),
    ):
        task = load_task(name)
        rows = task.sets(model)["train"]
        at = torch.arange(STEPS * size) % len(rows)
        yield f"{name}/{model}", task, task.build(model, 0), rows.select(at), size


def over_loop(task, model, view, size):
    """CPU seconds of the engine over those of the loop, one of each per round; and the loop's milliseconds a step."""
    own = {run: copy.deepcopy(model) for run in (by_engine, by_hand)}
    sides = {run: lambda run=run: [functools.partial(run, task, own[run], view, size)] for run in own}
    cpu_seconds(sides, 1)  # warms both up
    seconds = cpu_seconds(sides, ROUNDS)
    ratios = [a / b for (a,), (b,) in zip(seconds[by_engine], seconds[by_hand], strict=True)]
    return ratios, statistics.median(b for (b,) in seconds[by_hand]) / STEPS * 1e3


def added(name, view, forget, size=8):
    """The milliseconds that a method adds to a step of the loop, one number per round."""
    steps = []
    sides = {
        by_engine: lambda: [lambda: steps.append(by_engine(Classes(), Nothing(), view, size, name, forget))],
        by_hand: lambda: [functools.partial(by_hand, Classes(), Nothing(), view, size)],
    }
    seconds = cpu_seconds(sides, ROUNDS + 1)
    each = len(view) / size
    pairs = zip(seconds[by_engine], seconds[by_hand], strict=True)
    return [(a / steps[0] - b / each) * 1e3 for (a,), (b,) in pairs][1:]


def main():
    torch.set_num_threads(1)
    missed = []
    for name, *rest in models():
        ratios, step = over_loop(*rest)
        verdict = judged([1 / r for r in ratios], least=1 / 1.05) if step >= 10 else "a step below 10 ms"
        missed += [name] if verdict == "missed" else []
        middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
        spread = f"{middle:.3f} ({low:.3f} to {high:.3f})"
        print(f"{name}: engine / loop {spread}, {step:.1f} ms a step: {verdict}", flush=True)
    random = torch.Generator().manual_seed(0)
    rows = {"x": torch.randn(6400, 2, generator=random), "labels": torch.randint(3, (6400,), generator=random)}
    view, forget = Examples(rows, range(3200, 6400)), Examples(rows, range(3200))
    for name in METHODS:
        found = added(name, view, forget)
        verdict = judged([-f for f in found], least=-0.5)
        missed += [name] if verdict == "missed" else []
        middle, low, high = statistics.median(found), min(found), max(found)
        print(f"{name}: adds {middle:.2f} ms a step ({low:.2f} to {high:.2f}): {verdict}", flush=True)
    raise SystemExit(bool(missed))


if __name__ == "__main__":
    main()
