"""Wrong targets are wrong: what `Behaviour.corrupt` gives an example is never the example's own target."""

import functools

import pytest
import torch

from mubench import registry
from mubench.errors import MubenchError
from mubench.registry import load_task

KEPT = -100  # of labels: no token
N = 12


@pytest.fixture(scope="module")
def at_hand(tmp_path_factory):
    """Task name → the task, or its sample where its data are published elsewhere; made once."""

    @functools.cache
    def make(name):
        task = load_task(name)
        return task.sample(tmp_path_factory.mktemp(name)) if hasattr(task, "write_sample") else task

    return make


def targets(batch):
    """What a loss sees of each example's target: all of it but the padding."""
    column = batch["latents" if "latents" in batch else "labels"]
    return [tuple(row[row != KEPT].tolist()) for row in column.reshape(len(column), -1)]


def itself(n):
    """Draws that give every example of a view of n examples itself."""
    return (torch.arange(n) + 0.5) / n


@pytest.mark.parametrize("name", registry.tasks.names())
def test_a_wrong_target_differs_from_the_true_one(at_hand, name):
    task = at_hand(name)
    for model in task.models:
        sets = task.sets(model, task.split(10))
        view = sets["retain"].select(torch.arange(min(N, len(sets["retain"]))))
        n, batch = len(view), view[torch.arange(len(view))]
        rows = torch.arange(n)
        for pool, draw in [(view, itself(n)), (view, itself(n).flip(0)), (sets["retain"], torch.linspace(0, 0.999, n))]:
            wrong = task.corrupt(batch, rows, draw, pool)
            assert all(one != other for one, other in zip(targets(batch), targets(wrong), strict=True))
            again = task.corrupt(batch, rows, draw, pool)
            assert targets(again) == targets(wrong), "a function of the draw"


@pytest.mark.parametrize("name", ["messenger", "people", "digit_pictures"])
def test_targets_that_were_drawn_wrong_stay(at_hand, name):
    """Only where the draw gives the true target another one is taken."""
    task = at_hand(name)
    model = task.model()
    retain = task.sets(model, task.split(10))["retain"]
    batch, draw = retain[torch.arange(N)], torch.linspace(0, 0.999, N)
    draw[[3, 7]] = (torch.tensor([3, 7]) + 0.5) / len(retain)
    any_target, wrong = (task.corrupt(batch, torch.arange(N), draw, retain, other) for other in (False, True))
    shown, kept = retain[(draw * len(retain)).long()], targets(wrong)
    for row, drawn in enumerate(targets(any_target)):
        true = drawn == targets(batch)[row] or "latents" in shown and shown["labels"][row] == batch["labels"][row]
        assert (kept[row] != drawn) == true
    assert targets(any_target)[3] == targets(batch)[3] and targets(any_target)[7] == targets(batch)[7]


@pytest.mark.parametrize("name", ["messenger", "people", "digit_pictures"])
def test_a_pool_without_another_target_is_refused(at_hand, name):
    task = at_hand(name)
    retain = task.sets(task.model(), task.split(10))["retain"]
    batch, zero = retain[torch.arange(2)], torch.zeros(1)
    only = retain.select(torch.zeros(5, dtype=torch.long))
    with pytest.raises(MubenchError, match=rf"row {int(batch['index'][0])} cannot .* all 5 examples .* have its own"):
        task.corrupt(batch, torch.tensor([0]), zero, only)
    task.corrupt(batch, torch.tensor([0]), zero, only, other=False)
    for nothing in (None, retain.select(torch.arange(0))):
        with pytest.raises(MubenchError, match="none to draw from"):
            task.corrupt(batch, torch.tensor([0]), zero, nothing)


def test_the_search_looks_at_the_whole_pool(at_hand):
    """Also where its step divides the pool, and the one other target is the last that it comes to."""
    from mubench.tasks.generation._others import STEP, others

    task = at_hand("messenger")
    retain = task.sets("t5", task.split(10))["retain"]
    for size in (2, STEP, 2 * STEP):
        for odd in (1, size // 2, size - 1):
            pool = retain.select((torch.arange(size) == odd).long())
            same = lambda drawn, rows: drawn["index"] == retain.rows[0]
            found = others(task, retain[torch.arange(1)], torch.arange(1), torch.zeros(1), pool, same)
            assert found["index"].tolist() == [int(retain.rows[1])]
