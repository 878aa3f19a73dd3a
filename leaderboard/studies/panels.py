"""How the points of an ablation are drawn: functions of (kind, points, runs, margin) that give rows of `Panel`s.

points: as `points.points` gives them. runs: with the references. margin: of the deletion capacity, a fraction.
Scores are drawn in per cent.
"""

from dataclasses import replace

import numpy as np

from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.studies.figures import Line, Panel
from mubench.leaderboard.studies.laws import fit, last_points
from mubench.leaderboard.studies.points import heading
from mubench.leaderboard.studies.runs import methods_in_order
from mubench.splits import described

SHARE_TICKS = (1, 5, 10, 25, 100)  # per cent of the parameters
MODEL_COLOURS = 5  # where the colours of models begin, after those of the paper's methods


# -- lines over levels
# ---------------------------------------------------------------------------------------------------------------


def line_panels(kind, points, runs, margin):
    """A row of panels for each task and model: a panel per value, a line per method."""
    facets = ["task", "model"] if kind.varies_ratio else ["task", "model", "ratio"]
    points = points.sort_values("x", kind="stable")
    names = methods_in_order(points["method"])
    if kind.varies_ratio:
        runs = runs.drop_duplicates(["task", "model", "seed"])
    else:
        runs = runs[runs["method"].isin(kind.references)]
    ticks, rows = _ticks(kind, points), []
    for place, group in points.groupby(facets, sort=False):
        place, panels = dict(zip(facets, place, strict=True)), []
        for value in kind.values:
            if lines := _lines(group[group["value"] == value], names):
                title = heading(value) if panels else f"{_title(place)}\n{heading(value)}"
                levels = _levels(kind, runs, place, value, margin)
                y = "" if panels else "%"
                panels.append(Panel(title, kind.x_label, y, lines, levels, kind.log, ticks))
        rows.append(panels)
    return rows


def _lines(points, names):
    """A line for each method that has two points."""
    lines = [
        Line(
            method,
            list(line["x"]),
            list(100 * line["mean"]),
            list(100 * line["half_width"]),
            colour=names.index(method),
        )
        for method, line in points.groupby("method", sort=False)
        if len(line) > 1
    ]
    return sorted(lines, key=lambda line: line.colour)


def _ticks(kind, points):
    """Position → text on the x axis; none where Matplotlib chooses."""
    if kind.x == "order":
        return {number: kind.label_of(level) for number, level in enumerate(kind.levels)}
    if kind.x == "ratio_order":
        return {x: f"{x:g}" for x in sorted({*points["x"]}) if x == int(x)}
    return {x: f"{x:g}" for x in SHARE_TICKS} if kind.x == "share" else {}


def _title(place):
    return f"{place['task']} / {place['model']}" + (f", {described(place['ratio'])}" if "ratio" in place else "")


def _levels(kind, runs, place, value, margin):
    """Name → where the references lie; of the deletion capacity the original less the margin."""
    of_place = runs[np.logical_and.reduce([runs[name] == what for name, what in place.items()])]
    if kind.varies_ratio:
        if value != "test_score" or of_place.empty:
            return {}
        return {"original − margin": 100 * (of_place["original_score"].mean() - margin)}
    means = of_place[of_place["method"].isin(kind.references)].groupby("method")[value].mean()
    return {name: 100 * mean for name, mean in means.dropna().items()}


# -- curves, laws and sizes of models
# ---------------------------------------------------------------------------------------------------------------


def scale_panels(kind, points, runs, margin):
    """Of each task a panel per method, with the curves of all models and their laws, and one with the ends over the
    sizes of models.
    """
    models, rows = sorted(set(points["model"])), []
    at_end = last_points(runs[~runs["method"].isin(REFERENCES)])
    points = points[points["x"] > 0]  # the start, at no FLOPs, is on no log axis
    for (task, ratio), group in points.groupby(["task", "ratio"], sort=False):
        place, panels = f"{task}, {described(ratio)}", []
        methods = set(group["method"])
        for method in [name for name in methods_in_order(methods) if name in methods]:
            if lines := _curves_and_laws(group[group["method"] == method], models):
                panels.append(Panel(f"{place}: {method}", kind.x_label, "", lines, log=True))
        sizes = at_end[(at_end["task"] == task) & (at_end["ratio"] == ratio)]
        if lines := _lines_over_sizes(sizes, methods_in_order(at_end["method"])):
            ticks = {x: f"{x / 1e6:.2g} M" for x in sizes["x"]}
            panels.append(Panel(f"{place}: at the end", "parameters (log)", "", lines, log=True, ticks=ticks))
        rows += wrapped(panels, "forget, %")
    return rows


def _curves_and_laws(points, models):
    """The points of each model's curve, and the law through them."""
    lines = []
    for model, curve in points.groupby("model"):
        colour = MODEL_COLOURS + models.index(model)
        if len(curve) > 1:
            lines.append(Line(model, list(curve["x"]), list(100 * curve["mean"]), kind="points", colour=colour))
        if law := fit(curve["x"], curve["mean"]):
            x = np.geomspace(curve["x"].min(), curve["x"].max(), 60)
            lines.append(Line(model, list(x), list(100 * law(x)), kind="law", colour=colour))
    return lines


def _lines_over_sizes(at_end, names):
    """A line over the parameters of models for each method that has two of them."""
    return [
        Line(method, list(line["x"]), list(100 * line["mean"]), colour=names.index(method))
        for method, line in at_end.groupby("method", sort=False)
        if len(line) > 1
    ]


# -- changes
# ---------------------------------------------------------------------------------------------------------------


def bias_panels(kind, points, runs, margin):
    """Panels of each task and model: what a method changed on the transfer set over what it changed on the test set;
    then what it changed of the bias amplification, where the task states a shortcut.
    """
    names, rows = methods_in_order(points["method"]), []
    for value, y in (("transfer_change", "change on transfer, points"), ("bias_change", "bias amplification, points")):
        panels = []
        changes = points[points["value"] == value]
        for (task, model, ratio), group in changes.groupby(["task", "model", "ratio"], sort=False):
            dots = [
                Line(method, [100 * x], [100 * mean], kind="named", colour=names.index(method))
                for method, x, mean in zip(group["method"], group["x"], group["mean"], strict=True)
            ]
            panel = Panel(f"{task} / {model}, {described(ratio)}", kind.x_label, "", dots)
            if value == "transfer_change":
                panels.append(replace(panel, diagonal=True))
            else:
                panels.append(replace(panel, levels={"": 0}))
        rows += wrapped(panels, y)
    return rows


def wrapped(panels, y, columns=3):
    """Rows of three panels, the first of each with the title of its y axis."""
    return [
        [replace(panel, y="" if number else y) for number, panel in enumerate(panels[start : start + columns])]
        for start in range(0, len(panels), columns)
    ]
