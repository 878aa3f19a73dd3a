"""The figures of a run's page."""

import numpy as np

from mubench.leaderboard import recompute
from mubench.leaderboard.charts import Line, Panel, inline
from mubench.leaderboard.site.figures import colours, roc_curves

SETS = ("forget", "test", "retain")
BINS = 30
LEAST, MOST = 1e-5, 1e5  # losses below and above stand in the first and in the last bin


def losses(models):
    """A histogram of the losses on each set.

    models: name → run.
    """
    return [{"set": name, "svg": _histogram(name, models)} for name in SETS]


def _histogram(name, models):
    """Shares of the losses per bin, the bins equally wide on a logarithmic axis."""
    values = {model: np.clip(_losses(run, name), LEAST, MOST) for model, run in models.items()}
    every = np.concatenate([*values.values()])
    if not len(every):
        return ""
    room = max(0.03 * np.log10(every.max() / every.min()), 0.05)
    edges = np.logspace(np.log10(every.min()) - room, np.log10(every.max()) + room, BINS + 1)
    lines = []
    for (model, losses), colour in zip(values.items(), colours(models), strict=True):
        shares = 100 * np.histogram(losses, edges)[0] / max(1, len(losses))
        lines.append(Line(model, np.repeat(edges, 2)[1:-1].tolist(), np.repeat(shares, 2).tolist(), colour=colour))
    panel = Panel("", f"loss on the {name} set (log)", "share, %", lines, log=True, key=True, floor=0)
    return inline(panel, f"Histogram of the losses on the {name} set of {', '.join(models)}", narrow=True)


def _losses(run, name):
    frame = run.checked.frame
    if "loss" not in frame:
        return np.array([])
    found = frame.loc[frame["set"] == name].sort_values("index")["loss"].to_numpy("float64")
    return found[np.isfinite(found)]


def roc(models):
    """ROC curves of the membership attack.

    models: name → run.
    """
    curves = [(name, name, recompute.roc(run.checked.frame)) for name, run in models.items()]
    curves = [(name, method, curve) for name, method, curve in curves if curve]
    return roc_curves(curves, "ROC curves of the membership attack by loss")


def training(result):
    """Captions and figures of how the run went: the objective and the validation score per epoch, and the scores along
    it where they were measured."""
    figures = [
        (caption, _per_epoch(result.costs.get(key) or [], y, caption))
        for caption, key, y in (
            ("Mean of the objective per epoch.", "losses", "objective"),
            ("Score on the validation set after each epoch.", "validation", "score"),
        )
    ]
    caption = "Scores while unlearning, measured off the clock."
    figures.append((caption, _along(result.curve, caption)))
    return [(caption, svg) for caption, svg in figures if svg]


def _per_epoch(values, y, caption):
    points = [(epoch, value) for epoch, value in enumerate(values, 1) if value is not None]
    if len(points) < 2:  # one epoch is no curve
        return ""
    floor = 0 if min(value for _, value in points) >= 0 else None
    line = Line("", *map(list, zip(*points, strict=True)))
    return inline(Panel("", "epoch", y, [line], floor=floor, span=0), caption, narrow=True)


def _along(curve, caption):
    lines = []
    for name in ("test_score", "forget_score", "retain_score"):
        points = [(step["step"], 100 * step[name]) for step in curve if step.get(name) is not None]
        if points:
            x, y = map(list, zip(*points, strict=True))
            lines.append(Line(name.removesuffix("_score"), x, y, colour=len(lines)))
    return inline(Panel("", "step", "score, %", lines), caption, narrow=True)
