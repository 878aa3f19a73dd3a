"""50,000 pictures of 32×32: how long cutting D_f and D_r takes, and the peak memory of a run.

    python tests/benchmarks/views_and_memory.py

Limits: views ready in 0.1 s; the run adds at most 2 × the decoded pictures (150 MB) to what the process had before,
counting the pictures themselves.
"""

import time

import torch

from mubench.examples import Examples
from mubench.models.behaviour import Behaviour
from mubench.registry import load_method
from mubench.splits import make_split
from mubench.train.context import Context
from mubench.train.costs import Meter
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
        )
        self.classifier = torch.nn.Linear(8, 10)

    def forward(self, pixel_values):
        return self.classifier(self.body(pixel_values).flatten(1))


def main():
    torch.set_num_threads(1)
    before = Meter(torch.device("cpu"))._peak()
    pixels = torch.randint(256, (50_000, 3, 32, 32), dtype=torch.uint8)
    decoded = pixels.numel()
    train = Examples(
        {"pixels": pixels, "labels": torch.randint(10, (50_000,))},
        collate=lambda b: {"pixel_values": b["pixels"].float() / 255, "labels": b["labels"]},
    )
    split = make_split("benchmark", 5, range(50_000), "random")
    start = time.perf_counter()
    forget, retain = train.select(list(split.forget)), train.select(list(split.retain))
    cutting = time.perf_counter() - start
    print(f"views of D_f ({len(forget)}) and D_r ({len(retain)}): {cutting:.3f} s, limit 0.1")
    method = load_method("salun", epochs=1)
    model = Small()
    context = Context(Behaviour(), model, Small, forget, retain)
    context.task.num_labels = 10
    costs = Engine(method, context, method.recipe(Recipe(lr=1e-3, epochs=1, batch_size=128)), progress=False).run()
    share = (costs.peak_memory_bytes - before) / decoded
    print(f"peak memory of the run: {share:.2f} × the decoded data, limit 2")
    raise SystemExit(not (cutting < 0.1 and share <= 2))


if __name__ == "__main__":
    main()
