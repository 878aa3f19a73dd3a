"""How much longer the engine takes than a hand-written loop over the same batches.

    python tests/benchmarks/engine_overhead.py

Limits: ResNet-18 at 32×32 ≤ 1.05, tiny models ≤ 1.15. Both sides: the same model, the same order, AdamW, clipping at 1.
"""

import copy

import torch
import transformers
from _paired import ratio

from mubench.examples import Examples
from mubench.models.behaviour import Behaviour
from mubench.registry import load_method, load_task
from mubench.train.context import Context
from mubench.train.engine import Engine

torch.set_num_threads(1)


def by_hand(model, view, size, lr):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    order = torch.randperm(len(view))
    for start in range(0, len(view), size):
        batch = view[order[start : start + size]]
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "index")}
        loss = torch.nn.functional.cross_entropy(model(**inputs).logits, batch["labels"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()


def by_engine(task, model, view, size, lr):
    method = load_method("finetune", epochs=1, lr=lr, batch_size=size)
    context = Context(task, model, None, view.select(slice(0)), view)
    Engine(method, context, method.recipe(load_task("fashion").recipe), progress=False).run()


def compare(name, task, model, view, size=64, limit=1.15):
    ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
    by_engine(task, ours, view, size, 1e-4), by_hand(theirs, view, size, 1e-4)  # warm up both
    middle, low, high = ratio(
        lambda: by_engine(task, ours, view, size, 1e-4), lambda: by_hand(theirs, view, size, 1e-4)
    )
    print(f"{name}: engine / hand-written = {middle:.3f} ({low:.3f} to {high:.3f}), limit {limit}")
    return middle <= limit


def main():
    resnet18 = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=10
        )
    )
    random = torch.Generator().manual_seed(0)
    pictures = Examples(
        {
            "pixel_values": torch.randn(1024, 3, 32, 32, generator=random),
            "labels": torch.randint(10, (1024,), generator=random),
        }
    )
    good = [compare("ResNet-18 at 32×32", Behaviour(), resnet18, pictures, limit=1.05)]
    for name in ("fashion", "movie_snippets"):
        task = load_task(name)
        for model in task.models:
            view = task.sets(model, task.split(5))["train"].select(slice(2400))
            good.append(compare(f"{name}/{model}", task, task.build(model), view))
    raise SystemExit(not all(good))


if __name__ == "__main__":
    main()
