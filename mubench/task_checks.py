"""What `mubench check` asks of the less common things a task may state: units, worlds, losses that couple examples."""

import math

from mubench.errors import MubenchError


def holds(condition, promise):
    """Raise unless a condition holds, with what is promised of it."""
    if not condition:
        raise MubenchError(f"contract broken: it should hold that {promise}")


def sample_split(task):
    """A split of a task to try things on: at 5 per cent, or at what is a unit at least."""
    return task.split(max(5, math.ceil(50 / len({*task.units(task.unit_kinds[0])}))))


def check_splits(task, kind):
    """The splits by a kind of unit are nested."""
    units = task.units(kind)
    holds(len(units) == len(task.data["train"]), f"units({kind!r}) gives the unit of each training row")
    least = max(1, math.ceil(50 / len({*units})))  # per cent that are a unit at least
    most = min(50, 10 * least)
    small, large = (task.split(ratio, unit=kind) for ratio in (least, most))
    holds(set(small.forget) <= set(large.forget), "splits are nested")
    by = "" if kind == task.unit_kinds[0] else f" by {kind}"
    return f"splits{by}: {least} % {len(small.forget)} rows, {most} % {len(large.forget)} rows, nested"


def check_world(task):
    """A world is tensors, the same ones whenever it is asked for."""
    import torch

    one, two = (task.world(range(len(task.data["train"]))) for _ in range(2))
    holds(all(isinstance(v, torch.Tensor) for v in one.values()), "world(rows) gives name → tensor")
    dense = lambda tensor: tensor if tensor.layout == torch.strided else tensor.to_dense()
    same = {*one} == {*two} and all(torch.equal(dense(v), dense(two[k])) for k, v in one.items())
    holds(same, "world(rows) is a function of the rows alone")


def check_reads(task, name, model, batch):
    """What a model gives depends on the world that it is given."""
    import torch

    dense = {k: v for k, v in batch["world"].items() if v.layout == torch.strided and v.is_floating_point()}
    other = batch | {"world": type(batch["world"])(batch["world"] | {k: torch.rand_like(v) for k, v in dense.items()})}
    with torch.no_grad():
        apart = task.forward(model, other).loss - task.forward(model, batch).loss
    holds(not dense or apart.abs().max() > 0, f"{name}: what the model gives depends on the world, or there is none")


def check_apart(task, name, model, batch):
    """The loss of an example is the same without the others of its batch, which `take` leaves out."""
    import torch

    n = len(batch["index"])
    rows = torch.arange(n)[::2]
    some = task.take(batch, rows)
    holds(some["index"].tolist() == batch["index"][rows].tolist(), f"{name}: take gives the rows asked for, in order")
    with torch.no_grad():
        apart = task.forward(model, some).loss - task.forward(model, batch).loss[rows]
    holds(
        apart.abs().max() < 1e-3,
        f"{name}: the loss of an example does not depend on the others of its batch, or batchwise = True says so",
    )
