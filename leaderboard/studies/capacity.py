"""The deletion capacity of a method: how much may be deleted before the test score suffers."""

import numpy as np
import pandas as pd

MARGIN = 0.02  # by how much the test score may fall below the original's
ROUNDING = 1e-12  # a drop that equals the margin but for rounding is within it


def largest_within(runs, keys, margin):
    """The largest deletion ratio at which the test score is kept.

    keys: columns that make a group of runs.
    margin: by how much the mean test score may fall below the original's, a fraction.

    Returns (drops, largest): the mean drop of each group at each ratio, [groups, ratios], NaN where it has no run, and
    the largest ratio of each group, in per cent, whose drop is within the margin; 0 where none is.
    """
    drops = runs.assign(drop=runs["original_score"] - runs["test_score"]).pivot_table(
        index=keys, columns="ratio_order", values="drop", sort=True
    )
    return drops, ((drops <= margin + ROUNDING) * drops.columns.to_numpy()).max(axis=1)


def capacity(runs, points=None, margin=MARGIN):
    """The deletion capacity of each task, model and method that has runs at two ratios or more.

    Columns of the frame, ratios in per cent:
    capacity: the largest ratio whose mean test score is at least the original's less ``margin``; 0 if none is.
    least, most: the same of each seed by itself, over the seeds that tried most ratios.
    seeds: how many these are.
    fails: smaller ratios that do not keep to the margin all the same.
    largest_tried: the largest ratio with a run.

    Returns (frame, notes, missing), as all findings do.
    """
    keys = ["task", "model", "method"]
    drops, largest = largest_within(runs, keys, margin)
    by_seed = _by_seed(runs, keys, margin).reindex(drops.index)
    ratios, rows = drops.columns.to_numpy(), []
    for place in dict.fromkeys(zip(*(runs[key] for key in keys), strict=True)):
        if place not in drops.index:
            continue
        drop = drops.loc[place].to_numpy()
        if np.isfinite(drop).sum() < 2:
            continue
        fails = ratios[(drop > margin + ROUNDING) & (ratios < largest[place])]
        least, most, seeds = by_seed.loc[place]
        rows.append(
            dict(zip(keys, place, strict=True))
            | {
                "capacity": float(largest[place]),
                "least": float(least),
                "most": float(most),
                "seeds": int(seeds),
                "fails": ", ".join(f"{ratio:g}" for ratio in fails) or None,
                "largest_tried": float(ratios[~np.isnan(drop)].max()),
                "margin": margin,
            }
        )
    note = (
        f"capacity: the largest ratio (%) whose mean test score is at least the original's less {100 * margin:g}"
        " points; nothing is interpolated"
    )
    return pd.DataFrame(rows), [note], []


def _by_seed(runs, keys, margin):
    """Smallest and largest capacity of single seeds, and their number, of those that tried most ratios."""
    drops, largest = largest_within(runs, [*keys, "seed"], margin)
    tried = drops.count(axis=1)
    return largest[tried == tried.groupby(keys).transform("max")].groupby(keys).agg(["min", "max", "count"])
