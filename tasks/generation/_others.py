"""Other examples, whose targets stand for wrong ones."""

import math

from mubench.errors import MubenchError

STEP = 1009  # further than the next row, which often has the same target


def others(task, batch, rows, draw, pool, same=None):
    """Examples drawn from a pool, one for each of some rows of a batch, as a batch.

    task: whose examples they are.
    rows: positions in the batch, [n].
    draw: a uniform number in [0, 1) for each of them.
    pool: a view of examples.
    same: (examples of the pool, rows of the batch) → which of the examples must not stand for which of the rows, [m],
        as both have the same target; the next that may is then taken, `STEP` by `STEP`. None: any example may.

    Raises `MubenchError` where the pool has nothing for a row.
    """
    import torch

    if not pool:
        raise MubenchError(f"{task.name}: wrong targets are those of other examples, and there are none to draw from")
    positions = (draw.cpu() * len(pool)).long()
    drawn = pool[positions]
    struck = torch.arange(len(positions))[same(drawn, rows).cpu()] if same else ()
    if not len(struck):
        return drawn
    step = next(step for step in range(STEP, STEP + len(pool) + 1) if math.gcd(step, len(pool)) == 1)
    for _ in range(len(pool) - 1):
        positions[struck] = (positions[struck] + step) % len(pool)
        struck = struck[same(pool[positions[struck]], rows[struck]).cpu()]
        if not len(struck):
            return pool[positions]
    raise MubenchError(
        f"{task.name}: row {int(batch['index'][rows[struck[0]]])} cannot be given a wrong target, as all"
        f" {len(pool)} examples to draw one from have its own: keep examples with other targets, or choose a method"
        " that corrupts none"
    )
