"""Bad-T for 4 epochs: teacher outputs computed once per example, against the same loop that calls both teachers every
step.

    python tests/benchmarks/teacher_cache.py

Limit: 0.75 of the time on the ViT, with equal parameters. The least possible is (1 + f/4) / (1 + 2f), f being a
teacher's forward pass over a training step, which is measured too.
"""

import copy
import functools

import torch
from _paired import ratio

from mubench.registry import load_method, load_task
from mubench.train.context import Context
from mubench.train.engine import Engine

torch.set_num_threads(1)
EPOCHS, SIZE, LR, SHARE = 4, 64, 1e-3, 0.3


def by_engine(task, model, fresh, sets):
    method = load_method("bad_t", epochs=EPOCHS, lr=LR, batch_size=SIZE, retain_share=SHARE)
    context = Context(task, model, fresh, sets["forget"], sets["retain"])
    Engine(method, context, method.recipe(task.recipe), progress=False).run()
    return context.student


def every_step(task, model, fresh, sets):
    """The same batches in the same order, both teachers run on all of every batch."""
    context = Context(task, model, fresh, sets["forget"], sets["retain"])
    good, bad, student = copy.deepcopy(model).eval(), fresh().eval(), model.train()
    retain = context.sample(sets["retain"], SHARE)
    union, split, order = sets["forget"] + retain, len(sets["forget"]), context.generator("order")
    optimizer = torch.optim.AdamW(student.parameters(), lr=LR, weight_decay=task.recipe.weight_decay)
    for _ in range(EPOCHS):
        for positions in torch.randperm(len(union), generator=order).split(SIZE):
            batch = union[positions]
            with torch.no_grad():
                forget = (positions < split)[:, None]
                target = torch.where(
                    forget, task.forward(bad, batch).logits, task.forward(good, batch).logits
                ).log_softmax(-1)
            out = task.forward(student, batch).logits.log_softmax(-1)
            loss = torch.nn.functional.kl_div(out, target, reduction="batchmean", log_target=True)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), task.recipe.clip)
            optimizer.step()
            loss.item()
    return student


def forward(model, task, view):
    model.eval()
    with torch.no_grad():
        for positions in torch.arange(640).split(SIZE):
            task.forward(model, view[positions])


def training(model, task, view):
    student = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=LR)
    for positions in torch.arange(640).split(SIZE):
        optimizer.zero_grad(set_to_none=True)
        task.forward(student, view[positions]).loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()


def compare(name):
    task = load_task("fashion")
    sets = task.sets(name, task.split(10))
    fresh = functools.partial(task.build, name, 0)
    original = task.build(name, 1)
    arguments = lambda: (task, copy.deepcopy(original), fresh, sets)
    ours, theirs = by_engine(*arguments()), every_step(*arguments())
    moved = max((a - b).abs().max().item() for a, b in zip(original.parameters(), theirs.parameters(), strict=True))
    apart = max((a - b).abs().max().item() for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    f = ratio(
        lambda: forward(original, task, sets["retain"]), lambda: training(original, task, sets["retain"]), pairs=5
    )[0]
    middle, low, high = ratio(lambda: by_engine(*arguments()), lambda: every_step(*arguments()), pairs=5)
    print(
        f"Bad-T on {name}, {EPOCHS} epochs: cached teachers / teachers every step = {middle:.3f} ({low:.3f} to"
        f" {high:.3f}), least possible {(1 + f / EPOCHS) / (1 + 2 * f):.3f}; parameters differ by at most {apart:.1e},"
        f" having moved by up to {moved:.1e}"
    )
    return middle, apart < 1e-3 < moved


if __name__ == "__main__":
    (vit, same), (_, same_too) = compare("vit"), compare("resnet")
    raise SystemExit(not (vit <= 0.75 and same and same_too))
