"""Laws of forgetting: how the forget score falls with FLOPs along a run, and with the size of the model."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from mubench.leaderboard.studies.runs import GROUP, over_seeds

LEAST_POINTS = 5  # that a law is fitted to and tried on
LOG_RATES = np.linspace(math.log(0.02), math.log(20), 60)  # among which the search for the rate begins


@dataclass(frozen=True)
class Law:
    """y = c + a·(x/x₀)^−b (power), or y = c + a·exp(−b·(x − x₀)) (exponential), fitted to all points but the last.

    form: ``power`` or ``exponential``.
    a, b, c, x0: as in the formula.
    r2: the share of the variance that it explains.
    predicted: y of the last point by the law.
    actual: y of the last point.
    n: points, with the last.
    """

    form: str
    a: float
    b: float
    c: float
    x0: float
    r2: float
    predicted: float
    actual: float
    n: int

    def __call__(self, x):
        x = np.asarray(x, "float64")
        return self.c + self.a * ((x / self.x0) ** -self.b if self.form == "power" else np.exp(-self.b * (x - self.x0)))

    @property
    def error(self):
        return self.predicted - self.actual


# -- the fit
# -------------------------------------------------------------------------------------------------------------------


def fit(x, y):
    """The law that fits best, or None where there are fewer than five points or they do not change.

    x, y: equally many numbers; points at x ≤ 0 are left out.

    The last point is held out: how well it is predicted is the law's predictability.
    """
    x, y = (np.asarray(values, "float64")[np.argsort(x, kind="stable")] for values in (x, y))
    x, y = x[x > 0], y[x > 0]
    if len(np.unique(x)) < LEAST_POINTS or np.ptp(y[:-1]) < 1e-9:
        return None
    seen, start = x[:-1], x[0]
    width = float(np.ptp(seen))
    forms = {"power": (np.log(seen / start), 1.0), "exponential": ((seen - start) / np.ptp(seen), width)}
    laws = []
    for form, (u, unit) in forms.items():
        a, rate, c, r2 = _decay(u, y[:-1])
        law = Law(form, a, rate / unit, c, float(start), r2, math.nan, float(y[-1]), len(x))
        laws.append(replace(law, predicted=float(law(x[-1]))))
    return max(laws, key=lambda law: law.r2)


def _decay(u, y):
    """The a, rate, c and R² of y = c + a·exp(−rate·u) by least squares.

    For a given rate this is a straight line, so the rate alone is searched: on a grid, then between its best point's
    neighbours.
    """
    nearest = int(np.argmin(_lines(LOG_RATES, u, y)[0]))
    best_rate = minimize_scalar(
        lambda log_rate: _lines(log_rate, u, y)[0][0],
        bounds=(LOG_RATES[max(0, nearest - 1)], LOG_RATES[min(len(LOG_RATES) - 1, nearest + 1)]),
        method="bounded",
        options={"xatol": 1e-9},
    )
    (residual,), (a,), (decayed,) = _lines(best_rate.x, u, y)
    return float(a), math.exp(best_rate.x), float(y.mean() - a * decayed.mean()), 1 - float(residual) / _squares(y)


def _lines(log_rates, u, y):
    """Of each rate the least-squares line of y over exp(−rate·u): residual sum of squares, slope, and exp(−rate·u)."""
    decayed = np.exp(-np.exp(np.atleast_1d(log_rates))[:, None] * u)
    centred = decayed - decayed.mean(axis=1, keepdims=True)
    slopes = centred @ (y - y.mean()) / (centred**2).sum(axis=1)
    return _squares(y) - slopes**2 * (centred**2).sum(axis=1), slopes, decayed


def _squares(y):
    """The sum of squares about the mean."""
    return float(((y - y.mean()) ** 2).sum())


# -- of the runs
# ---------------------------------------------------------------------------------------------------------------


def last_points(runs):
    """The mean forget score at the end of runs (``mean``) over the parameters of their models (``x``)."""
    if runs.empty:
        return pd.DataFrame(columns=[*GROUP, "x", "mean"])
    groups, means = over_seeds(runs, GROUP, ["parameters", "forget_score"])
    table = groups.assign(x=means["parameters"][0], mean=means["forget_score"][0])
    return table.dropna().sort_values("x", kind="stable")


def laws(runs, points, margin=None):
    """The law of every curve of forget scores over FLOPs, and of the ends over the sizes of models.

    runs: of methods, no references.
    points: along their curves, as `points.points` gives them.
    margin: not used.

    Returns (frame, notes, missing), as all findings do.
    """
    rows, lacks = [], {}
    for task, model, ratio, method, over, x, y in _series(runs, points):
        if law := fit(x, y):
            place = {"task": task, "model": model, "ratio": ratio, "method": method, "over": over}
            rows.append(place | _row(law))
            continue
        tried = len(set(x))
        why = (
            f"has {tried} of the {LEAST_POINTS} points that a law needs" if tried < LEAST_POINTS else "does not change"
        )
        where = " / ".join([task, *([model] if model != "all" else []), method])
        lacks.setdefault(f"the forget score over {over} {why}", []).append(where)
    missing = [f"{', '.join(where)}: {lack}" for lack, where in lacks.items()]
    note = "dashed: the law fitted to all points of a curve but its last, which it is tried on"
    return pd.DataFrame(rows), [note] if rows else [], missing


def _series(runs, points):
    """(task, model, ratio, method, over what, x, y) of all that a law is fitted to; the model is "all" over sizes."""
    curves = points[points["value"] == "forget_score"]
    for place, curve in curves.groupby(GROUP, sort=False):
        yield *place, "FLOPs along the run", curve["x"], curve["mean"]
    for (task, ratio, method), sizes in last_points(runs).groupby(["task", "ratio", "method"], sort=False):
        yield task, "all", ratio, method, "parameters", sizes["x"], sizes["mean"]


def _row(law):
    return {
        "law": law.form,
        "a": law.a,
        "b": law.b,
        "c": law.c,
        "x0": law.x0,
        "r2": law.r2,
        "predicted": law.predicted,
        "actual": law.actual,
        "error": law.error,
        "points": law.n,
    }
