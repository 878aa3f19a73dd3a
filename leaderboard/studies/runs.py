"""Runs as all studies look at them: the methods that are compared, what makes one point, and means over seeds.

A frame of runs has a row per run, as `read_runs` gives it.
"""

import numpy as np

from mubench.leaderboard import statistics

METHODS = ("neggrad", "rand_label", "bad_t", "scrub", "salun")  # those the MU-Bench paper compares
GROUP = ["task", "model", "ratio", "method"]  # what the runs of one point share, beside what is varied
SCORES = ("test_score", "forget_score", "retain_score")


def untuned(runs):
    """The runs of default hyperparameters."""
    return runs[(runs["params"] == "{}") & (runs["trials"] == 0)]


def plain(runs, ratio="5"):
    """The runs of default hyperparameters and options at one ratio, in per cent."""
    runs = untuned(runs)
    return runs[(runs["options"] == "{}") & (runs["ratio"] == ratio)]


def methods_in_order(names):
    """The paper's methods, then the other ``names`` sorted: so a method has the same place and colour everywhere."""
    return [*METHODS, *sorted({*names} - {*METHODS})]


def over_seeds(runs, keys, values):
    """Means and intervals over the runs that share ``keys``.

    keys: columns that make a group.
    values: columns of numbers; NaN is left out.

    Returns (groups, means): the frame of keys, a row per group, and value → (mean, half-width of the 95 % interval, n),
    each an array over the groups.
    """
    grouped = runs.groupby(keys, sort=False, dropna=False)
    group, place = grouped.ngroup().to_numpy(), grouped.cumcount().to_numpy()
    groups, means = runs[~runs.duplicated(keys)][keys].reset_index(drop=True), {}
    for name in values:
        table = np.full((len(groups), place.max() + 1), np.nan)
        table[group, place] = runs[name].to_numpy("float64")
        mean, half_width, _, _, n = statistics.describe(table)
        means[name] = mean, half_width, n
    return groups, means
