"""From runs to the points of an ablation's figure, and to the table that shows them to people."""

import json
import math

import pandas as pd

from mubench.leaderboard.columns import HEADERS
from mubench.leaderboard.studies.figures import spread
from mubench.leaderboard.studies.runs import GROUP, SCORES, methods_in_order, over_seeds

COLUMNS = [*GROUP, "at", "order", "x", "value", "mean", "half_width", "n"]
CHANGES = {
    "test_change": "test, change",
    "transfer_change": "transfer, change",
    "bias_change": "bias amplification, change",
}


def points(kind, runs):
    """One row per point and value, a frame with `COLUMNS`.

    runs: of methods, with their level in the column ``at``.

    at: the label of the level, or the step of the curve.
    order: the number of the level, or the step.
    x: mean position, in the unit of the column ``kind.x``.
    value: the name of the column that ``mean`` and ``half_width`` (of the 95 % interval over seeds) are of.
    """
    if kind.on_curves:
        runs = on_curves(runs)
    if runs.empty:
        return pd.DataFrame(columns=COLUMNS)
    if kind.on_curves:
        labels = order = runs["at"]
    else:
        labels = [kind.label_of(None if math.isnan(level) else level) for level in runs["at"]]
        numbers = {kind.label_of(level): number for number, level in enumerate(kind.levels)}
        order = [numbers.get(label, len(numbers)) for label in labels]
    runs = runs.assign(at=labels, order=order)
    runs["x"] = runs[kind.x]
    runs = runs[runs["x"].notna()]
    values = [name for name in kind.values if runs[name].notna().any()]
    if not values:
        return pd.DataFrame(columns=COLUMNS)
    groups, means = over_seeds(runs, [*GROUP, "at", "order"], ["x", *values])
    parts = []
    for name in values:
        mean, half_width, n = means[name]
        parts.append(groups.assign(x=means["x"][0], value=name, mean=mean, half_width=half_width, n=n))
    tidy = pd.concat(parts, ignore_index=True)
    return tidy[tidy["mean"].notna()].sort_values([*GROUP, "value", "x"], kind="stable").reset_index(drop=True)[COLUMNS]


def on_curves(runs):
    """One row per run and point of its curve; ``relative`` is work as a share of retraining's."""
    rows = []
    for run in runs[runs["curve"] != ""].itertuples():
        retraining = run.flops / run.relative_flops if run.relative_flops > 0 else math.nan
        shared = {name: getattr(run, name) for name in [*GROUP, "seed", "parameters", "original_score"]}
        by_step = {point["step"]: point for point in json.loads(run.curve)}  # the last step may be recorded twice
        for step, point in by_step.items():
            scores = {name: point.get(name) for name in ("flops", *SCORES)}
            relative = math.nan if point.get("flops") is None else point["flops"] / retraining
            rows.append({**shared, **scores, "at": step, "relative": relative})
    return pd.DataFrame(rows)


def cells(kind, points):
    """Points as a table of texts, a row per group and level; of curves the last points."""
    if points.empty:
        return pd.DataFrame()
    if kind.on_curves:
        last = points.groupby([*GROUP, "value"])["x"].transform("max")
        points = points[points["x"] == last].assign(at="end")
    place = methods_in_order(points["method"]).index
    rows = points.drop_duplicates([*GROUP, "order", "at"]).assign(place=lambda frame: frame["method"].map(place))
    rows = rows.sort_values(["task", "model", "place", "order"], kind="stable")
    columns = [*GROUP, "at", "value", "mean", "half_width"]
    texts = {
        tuple(key): spread(mean, half_width)
        for *key, mean, half_width in zip(*(points[name] for name in columns), strict=True)
    }
    keys = list(zip(*(rows[name] for name in [*GROUP, "at"]), strict=True))
    table = {name: rows[name].tolist() for name in GROUP}
    if kind.varies_option:
        table[kind.varied] = rows["at"].tolist()
    for value in kind.values:
        if value in set(points["value"]):
            table[heading(value)] = [texts.get((*key, value), "–") for key in keys]
    return pd.DataFrame(table | {"n": rows["n"].tolist()}).astype(str)


def heading(value):
    """The title of a column or a panel."""
    return CHANGES.get(value) or HEADERS[value]
