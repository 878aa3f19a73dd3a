"""The claims of the MU-Bench paper, each with the rule by which records decide on it.

A claim is a set of comparisons, each a difference that the claim says is above 0. It *holds* where the 95 % intervals
of all lie above 0,
*does not hold* where that of any lies below 0, and there is *not enough data* else, which says what is missing: runs,
or runs enough to tell. An interval is Student's over tasks (of means over the seeds both sides have), or over seeds
where one task alone has the runs; comparisons are not corrected for their number. All runs are of default
hyperparameters. Imports no torch.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mubench.leaderboard import statistics
from mubench.leaderboard.studies import ablations
from mubench.leaderboard.studies.ablations import LEAST, MARGIN, METHODS, within
from mubench.leaderboard.board import RANKED
from mubench.leaderboard.studies.figures import Exhibit
from mubench.leaderboard.records import of_one_code
from mubench.leaderboard.rows import REFERENCES
from mubench.spec import command

HOLDS, FAILS, OPEN = "holds", "does not hold", "not enough data"
PLACE = ["task", "model", "ratio", "seed"]
HARD = ("speech", "video", "generation")
GRID = command({"task": "mini", "method": ",".join([*REFERENCES, *METHODS]), "seed": [*range(5)]})


@dataclass(frozen=True)
class Claim:
    """name; text: what the paper says; rule: what is compared and when it holds; compare: the plain runs and all others
    (of default hyperparameters) → what is compared → differences, a series over `PLACE`; unit: of the differences
    (``points``, ``times``, ``%``);
    runs: the command that makes the runs."""

    name: str
    text: str
    rule: str
    compare: Callable
    unit: str = "points"
    runs: str = GRID


def judge(claim, runs):
    """(verdict, what is missing, a frame of comparisons: mean, low and high end, number of tasks or seeds, verdict of
    each).
    """
    runs = runs[(runs["params"] == "{}") & (runs["trials"] == 0) & (runs["status"] == "complete")]
    runs = of_one_code(runs)
    rows = []
    for what, differences in claim.compare(runs[runs["options"] == "{}"], runs).items():
        mean, half, n, over = differences if isinstance(differences, tuple) else estimate(differences)
        low, high = mean - half, mean + half
        says = HOLDS if low > 0 else FAILS if high < 0 else OPEN
        missing = (
            f"no runs (`{claim.runs}` makes them)"
            if n == 0
            else "a second task or seed"
            if math.isnan(half)
            else "the interval holds 0"
            if says == OPEN
            else ""
        )
        rows.append(
            {
                "claim": claim.name,
                "compared": what,
                "mean": mean,
                "low": low,
                "high": high,
                "n": n,
                "over": over,
                "says": says,
                "missing": missing,
            }
        )
    rows = pd.DataFrame(rows)
    verdict = FAILS if (rows["says"] == FAILS).any() else HOLDS if (rows["says"] == HOLDS).all() else OPEN
    missing = [
        f"{', '.join(group['compared'])}: {why}"
        for why, group in rows[rows["missing"] != ""].groupby("missing", sort=False)
    ]
    return verdict, "; ".join(missing) if verdict == OPEN else "", rows


def estimate(differences):
    """Mean, half-width of the 95 % interval, n and what it is over (tasks, or the seeds of the only one)."""
    differences = differences.dropna()
    means = differences.groupby(level="task").mean()
    over = "tasks" if len(means) > 1 else "seeds"
    values = means if len(means) > 1 else differences.groupby(level="seed").mean()
    if values.empty:
        return math.nan, math.nan, 0, over
    (mean,), (half,), _, _, (n,) = statistics.describe(values.to_numpy("float64")[None])
    return float(mean), float(half), int(n), over


# -- what is compared
# ------------------------------------------------------------------------------------------------------


def _score(runs, method, value=RANKED):
    """A value of a method, over `PLACE`."""
    return runs[runs["method"] == method].groupby(PLACE)[value].mean()


def _robust(plain, _):
    return {
        f"{ours} over {other}": _score(plain, other) - _score(plain, ours)
        for ours in ("rand_label", "salun")
        for other in METHODS
        if other not in ("rand_label", "salun")
    }


def _destructive(plain, _):
    return {
        f"{name} set: loss beyond {100 * MARGIN:g} points": (
            _score(plain, "original", value) - _score(plain, "neggrad", value) - MARGIN
        )
        for name, value in (("test", "test_score"), ("retain", "retain_score"))
    }


def _hard(plain, _):
    """Two groups of tasks, the same spread in both: an interval needs two tasks in one of them."""
    mine = plain[plain["method"].isin(METHODS)]
    means = mine.groupby(["modality", "task", "method"])[RANKED].mean().dropna().groupby(level=["modality", "task"])
    means = means.mean()[means.count() == len(METHODS)]
    kind = means.index.get_level_values("modality")
    easy = means[~kind.isin(HARD)].to_numpy()
    return {f"{hard} over pictures and texts": _groups(means[kind == hard].to_numpy(), easy) for hard in HARD}


def _groups(left, right):
    """The difference of the means of two groups of one spread, as `estimate` gives it."""
    n, freedom = len(left) + len(right), len(left) + len(right) - 2
    if not len(left) or not len(right):
        return math.nan, math.nan, 0, "tasks"
    spread = sum(((group - group.mean()) ** 2).sum() for group in (left, right)) / freedom if freedom else math.nan
    half = (
        statistics.student(freedom + 1) * math.sqrt(spread * (1 / len(left) + 1 / len(right))) if freedom else math.nan
    )
    return float(left.mean() - right.mean()), half, n, "tasks"


def _adapters(plain, runs):
    """Of each share of parameters the forgetting, a mean over methods, beyond the margin or below it."""
    options = runs["options"].map(json.loads)
    lora = runs[[{*said} == {"lora"} for said in options]]
    level = options.loc[lora.index].map(lambda said: said["lora"]).astype("float64")
    before, found = _score(plain, "original", "forget_score"), {}
    for name, part, sign in (
        ("shares below 50 %: loss of D_f within", lora[level < 50], -1),
        ("shares of 50 % and more: loss of D_f beyond", lora[level >= 50], 1),
    ):
        after = part[~part["method"].isin(REFERENCES)].groupby(PLACE)["forget_score"].mean()
        found[f"{name} {100 * MARGIN:g} points"] = sign * (before - after - MARGIN)
    return found


def _curriculum(plain, runs):
    where = [*PLACE, "method"]
    on = runs[runs["options"] == '{"curriculum": "superloss"}'].groupby(where)["forget_score"].mean()
    return {"score on D_f with the curriculum over that without": on - plain.groupby(where)["forget_score"].mean()}


def _smallest(plain, _):
    """Capacities of two methods over the ratios that both have, per seed, where there are enough of them."""
    tried, here = plain[np.isfinite(plain["ratio_order"])], ["task", "model", "seed"]

    def largest(method, other):
        both = tried[tried["method"].isin([method, other])]
        both = both[both.groupby([*here, "ratio_order"])["method"].transform("nunique") == 2]
        both = both[both.groupby(here)["ratio_order"].transform("nunique") >= LEAST]
        return (
            within(both[both["method"] == method], here, MARGIN)[1]
            if len(both)
            else pd.Series(index=pd.MultiIndex.from_arrays([[]] * 3, names=here), dtype="float64")
        )

    return {
        f"{other} over bad_t": largest(other, "bad_t") - largest("bad_t", other)
        for other in METHODS
        if other != "bad_t"
    }


def _fast(plain, _):
    """Logarithms of ratios of work."""
    done = plain[plain["flops"] > 0]
    work = lambda method: np.log(done[done["method"] == method].groupby(PLACE)["flops"].mean())
    return {
        f"{other} by {ours}": work(other) - work(ours)
        for ours in ("neggrad", "scrub")
        for other in METHODS
        if other not in ("neggrad", "scrub")
    }


def _loss(plain, _):
    from mubench.listing import taxonomy

    known = {row["method"]: row["forget"] for row in taxonomy()}
    gaps = plain.groupby([*PLACE, "method"])[RANKED].mean()
    kinds = gaps.index.get_level_values("method").map(known)
    by = lambda kind: gaps[kinds == kind].groupby(level=PLACE).mean()
    return {"methods that measure the loss over those that measure logits": by("Logit") - by("Loss")}


CLAIMS = tuple(
    Claim(*said)
    for said in (
        (
            "robust",
            "RandLabel and SalUn are the most robust",
            (
                "On the same task, ratio and seed, the gap to retrain of NegGrad, of Bad-T and of SCRUB less that of"
                " each of the two: all six differences are above 0."
            ),
            _robust,
        ),
        (
            "destructive",
            "NegGrad is destructive",
            (
                f"By how much NegGrad's scores on D_t and D_r lie below the original's, less {100 * MARGIN:g} points"
                " (the margin of the deletion capacity): both are above 0."
            ),
            _destructive,
        ),
        (
            "hard",
            "Speech, video and generation are the hardest",
            (
                "The mean gap to retrain of the paper's five methods on tasks of speech, of video and of generation,"
                " less that on tasks of pictures, texts and both: all three are above 0."
            ),
            _hard,
        ),
        (
            "adapters",
            "Adapters forget nothing below half of the parameters",
            (
                f"The loss of score on D_f against the original, a mean over methods: within {100 * MARGIN:g} points"
                " with LoRA at shares below 50 %, beyond that at 50 % and more."
            ),
            _adapters,
            "points",
            ablations.command("lora", ["mini"], method=["salun", "neggrad_plus", "bad_t"], seed=range(3)),
        ),
        (
            "curriculum",
            "A curriculum forgets less",
            "On the same task, method and seed, the score on D_f with SuperLoss (λ = 1) less that without is above 0.",
            _curriculum,
            "points",
            ablations.command("curriculum", ["mini"], seed=range(3)),
        ),
        (
            "capacity",
            "Bad-T has the smallest deletion capacity",
            (
                f"Over the ratios that both have, at least {LEAST}, the deletion capacity of each of the other four"
                " methods less that of Bad-T: all four are above 0."
            ),
            _smallest,
            "%",
            ablations.command("ratio", ["mini"], seed=range(3)),
        ),
        (
            "fast",
            "NegGrad and SCRUB are the fastest",
            (
                "On the same task and seed, the work (floating-point operations) of each of the other three methods as"
                " a multiple of NegGrad's and of SCRUB's: all six are above 1."
            ),
            _fast,
            "times",
        ),
        (
            "loss",
            "Measuring the loss works better than measuring logits",
            (
                "On the same task and seed, the mean gap to retrain of all methods whose knowledge measure on D_f is"
                " logits, less that of those which measure the loss, is above 0."
            ),
            _loss,
            "points",
            command({"task": "mini", "method": "all", "seed": [*range(3)]}),
        ),
    )
)


# -- shown
# -----------------------------------------------------------------------------------------------------------------


def exhibits(runs):
    """The verdicts, and the numbers they rest on."""
    judged = [(claim, *judge(claim, runs)) for claim in CLAIMS]
    verdicts = pd.DataFrame(
        [{"claim": claim.text, "rule": claim.rule, "verdict": verdict} for claim, verdict, _, _ in judged]
    )
    numbers = pd.concat([rows.assign(unit=claim.unit) for claim, _, _, rows in judged], ignore_index=True)
    texts = {claim.name: claim.text for claim in CLAIMS}
    cells = pd.DataFrame(
        {
            "claim": numbers["claim"].map(texts),
            "compared": numbers["compared"],
            "difference": [_said(*row) for row in zip(numbers["mean"], numbers["unit"])],
            "95 % interval": [
                f"{_said(low, unit)} to {_said(high, unit)}" if low == low else "–"
                for low, high, unit in zip(numbers["low"], numbers["high"], numbers["unit"])
            ],
            "n": [f"{n} {over}" if n else "–" for n, over in zip(numbers["n"], numbers["over"])],
            "says": numbers["says"],
        }
    )
    numbers = numbers.drop(columns="missing")
    return [
        Exhibit(
            "claims",
            "The paper's claims, by these records",
            table=verdicts,
            notes=[
                "holds: the 95 % intervals of all comparisons lie above 0; does not hold: that of one lies below; else"
                " there is not enough data"
            ],
            missing=[f"{claim.text}: {missing}" for claim, _, missing, _ in judged if missing],
        ),
        Exhibit(
            "claims_numbers",
            "The claims: what was compared",
            table=numbers,
            cells=cells,
            notes=[
                "means and intervals over tasks, each a mean over seeds, or over seeds where one task alone has the"
                " runs; points of a score unless said otherwise; the CSV has fractions, and logarithms of ratios of"
                " work"
            ],
        ),
    ]


def _said(value, unit):
    if math.isnan(value):
        return "–"
    return {"points": f"{100 * value:+.1f}", "%": f"{value:+.1f} %", "times": f"×{math.exp(min(value, 50)):.2f}"}[unit]
