"""What each claim of the paper compares: functions that give what is compared → its `Estimate`.

Each takes (plain, runs): the runs as they are, and all runs of default hyperparameters, those with options too. Every
difference is one that the claim says is above 0.
"""

import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mubench.leaderboard import statistics
from mubench.leaderboard.columns import RANKED
from mubench.leaderboard.rows import REFERENCES, standard
from mubench.leaderboard.studies.capacity import MARGIN, largest_within
from mubench.leaderboard.studies.runs import METHODS

PLACE = ["task", "model", "ratio", "seed"]
HARD = ("speech", "video", "generation")
LEAST_RATIOS = 5  # that two capacities are compared over


@dataclass(frozen=True)
class Estimate:
    """A mean difference.

    mean: NaN where there is no run.
    half_width: of the 95 % interval; NaN of a single value.
    n: values that the mean is over.
    over: what these are, ``tasks`` or ``seeds``.
    """

    mean: float
    half_width: float
    n: int
    over: str


def estimate(differences):
    """The `Estimate` of differences, a series over `PLACE`: over tasks (of means over the seeds both sides have), or
    over the seeds of the only task.
    """
    differences = differences.dropna()
    values, over = differences.groupby(level="task").mean(), "tasks"
    if len(values) < 2:
        values, over = differences.groupby(level="seed").mean(), "seeds"
    if values.empty:
        return Estimate(math.nan, math.nan, 0, over)
    (mean,), (half_width,), _, _, (n,) = statistics.describe(values.to_numpy("float64")[None])
    return Estimate(float(mean), float(half_width), int(n), over)


def estimate_of_groups(left, right):
    """The `Estimate` of the mean of one group of tasks less that of another, of one spread in both: an interval needs
    two tasks in one of them.
    """
    n, freedom = len(left) + len(right), len(left) + len(right) - 2
    if not len(left) or not len(right):
        return Estimate(math.nan, math.nan, 0, "tasks")
    half_width = math.nan
    if freedom:
        variance = sum(((group - group.mean()) ** 2).sum() for group in (left, right)) / freedom
        half_width = statistics.student(freedom + 1) * math.sqrt(variance * (1 / len(left) + 1 / len(right)))
    return Estimate(float(left.mean() - right.mean()), half_width, n, "tasks")


def of_method(runs, method, value=RANKED):
    """A value of a method, over `PLACE`."""
    return runs[runs["method"] == method].groupby(PLACE)[value].mean()


# -- the comparisons
# ---------------------------------------------------------------------------------------------------------------


def robust(plain, _):
    """The gap to retrain of the other methods less that of RandLabel and of SalUn."""
    best = ("rand_label", "salun")
    return {
        f"{method} over {other}": estimate(of_method(plain, other) - of_method(plain, method))
        for method in best
        for other in METHODS
        if other not in best
    }


def destructive(plain, _):
    """By how much NegGrad's scores lie below the original's, beyond the margin."""
    return {
        f"{name} set: loss beyond {100 * MARGIN:g} points": estimate(
            of_method(plain, "original", score) - of_method(plain, "neggrad", score) - MARGIN
        )
        for name, score in (("test", "test_score"), ("retain", "retain_score"))
    }


def hard(plain, _):
    """The mean gap to retrain on tasks of a hard modality less that on the easy ones, where all five methods ran."""
    runs = plain[plain["method"].isin(METHODS)]
    by_method = runs.groupby(["modality", "task", "method"])[RANKED].mean().dropna()
    by_task = by_method.groupby(level=["modality", "task"])
    gaps = by_task.mean()[by_task.count() == len(METHODS)]
    modality = gaps.index.get_level_values("modality")
    easy = gaps[~modality.isin(HARD)].to_numpy()
    return {
        f"{name} over pictures and texts": estimate_of_groups(gaps[modality == name].to_numpy(), easy) for name in HARD
    }


def adapters(plain, runs):
    """Of the shares of parameters that LoRA trains, the loss of forget score, a mean over methods, beyond the margin or
    below it.
    """
    options = runs["options"].map(json.loads)
    lora = runs[[{*names} == {"lora"} for names in options]]
    share = options.loc[lora.index].map(lambda names: names["lora"]).astype("float64")
    original, found = of_method(plain, "original", "forget_score"), {}
    for name, part, sign in (
        ("shares below 50 %: loss of D_f within", lora[share < 50], -1),
        ("shares of 50 % and more: loss of D_f beyond", lora[share >= 50], 1),
    ):
        unlearned = part[~part["method"].isin(REFERENCES)].groupby(PLACE)["forget_score"].mean()
        found[f"{name} {100 * MARGIN:g} points"] = estimate(sign * (original - unlearned - MARGIN))
    return found


def curriculum(plain, runs):
    """The forget score with SuperLoss less that without."""
    keys = [*PLACE, "method"]
    with_curriculum = runs[runs["options"] == '{"curriculum": "superloss"}'].groupby(keys)["forget_score"].mean()
    difference = with_curriculum - plain.groupby(keys)["forget_score"].mean()
    return {"score on D_f with the curriculum over that without": estimate(difference)}


def capacities(plain, _):
    """The deletion capacity of the other methods less that of Bad-T."""
    return {
        f"{other} over bad_t": estimate(_capacity(plain, other, "bad_t") - _capacity(plain, "bad_t", other))
        for other in METHODS
        if other != "bad_t"
    }


def _capacity(plain, method, other):
    """The capacity of a method per seed, over the ratios that the other method has too, where there are enough."""
    place = ["task", "model", "seed"]
    runs = plain[standard(plain["ratio"]) & plain["method"].isin([method, other])]
    runs = runs[runs.groupby([*place, "ratio_order"])["method"].transform("nunique") == 2]
    runs = runs[runs.groupby(place)["ratio_order"].transform("nunique") >= LEAST_RATIOS]
    if runs.empty:
        return pd.Series(index=pd.MultiIndex.from_arrays([[]] * 3, names=place), dtype="float64")
    return largest_within(runs[runs["method"] == method], place, MARGIN)[1]


def fast(plain, _):
    """Logarithms of the work of the other methods as a multiple of NegGrad's and of SCRUB's."""
    runs, fastest = plain[plain["flops"] > 0], ("neggrad", "scrub")
    log_work = {method: np.log(of_method(runs, method, "flops")) for method in METHODS}
    return {
        f"{other} by {method}": estimate(log_work[other] - log_work[method])
        for method in fastest
        for other in METHODS
        if other not in fastest
    }


def measures(plain, _):
    """The mean gap to retrain of all methods that measure logits on D_f less that of those that measure the loss."""
    from mubench.listing import taxonomy

    measure_of = {row["method"]: row["forget"] for row in taxonomy()}
    gaps = plain.groupby([*PLACE, "method"])[RANKED].mean()
    measure = gaps.index.get_level_values("method").map(measure_of)
    logit, loss = (gaps[measure == name].groupby(level=PLACE).mean() for name in ("Logit", "Loss"))
    return {"methods that measure the loss over those that measure logits": estimate(logit - loss)}
