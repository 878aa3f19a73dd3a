"""What records say of the paper's claims.

A claim *holds* where the 95 % intervals of all its comparisons lie above 0, *does not hold* where that of any lies
below 0, and there is *not enough data* else, which says what is missing: runs, or runs enough to tell. An interval is
Student's over tasks (of means over the seeds both sides have), or over seeds where one task alone has the runs;
comparisons are not corrected for their number. All runs are of default hyperparameters. Imports no torch.
"""

import math

import pandas as pd

from mubench.leaderboard.frame import of_one_code
from mubench.leaderboard.studies.claims import CLAIMS
from mubench.leaderboard.studies.figures import Exhibit
from mubench.leaderboard.studies.runs import untuned

HOLDS, FAILS, OPEN = "holds", "does not hold", "not enough data"


def judge_claim(claim, runs):
    """The verdict on a claim.

    claim: a `Claim`.
    runs: a frame of runs, as `read_runs` gives it.

    Returns (verdict, missing, comparisons): one of `HOLDS`, `FAILS` and `OPEN`; what is missing, a text; and a frame,
    one row per comparison, with mean, low and high end, n, what that is over, its own verdict, and what it lacks.
    """
    runs = of_one_code(untuned(runs[runs["status"] == "complete"]))
    compared = claim.compare(runs[runs["options"] == "{}"], runs)
    rows = pd.DataFrame([_row(claim, name, estimate) for name, estimate in compared.items()])
    if (rows["says"] == FAILS).any():
        return FAILS, "", rows
    if (rows["says"] == HOLDS).all():
        return HOLDS, "", rows
    lacking = rows[rows["missing"] != ""].groupby("missing", sort=False)
    return OPEN, "; ".join(f"{', '.join(group['compared'])}: {missing}" for missing, group in lacking), rows


def _row(claim, name, estimate):
    low, high = estimate.mean - estimate.half_width, estimate.mean + estimate.half_width
    says = HOLDS if low > 0 else FAILS if high < 0 else OPEN
    return {
        "claim": claim.name,
        "compared": name,
        "mean": estimate.mean,
        "low": low,
        "high": high,
        "n": estimate.n,
        "over": estimate.over,
        "says": says,
        "missing": _missing(claim, estimate, says),
    }


def _missing(claim, estimate, says):
    if estimate.n == 0:
        return f"no runs (`{claim.runs}` makes them)"
    if math.isnan(estimate.half_width):
        return "a second task or seed"
    return "the interval holds 0" if says == OPEN else ""


# -- shown
# ---------------------------------------------------------------------------------------------------------------


def exhibits(runs):
    """The verdicts, and the numbers they rest on."""
    judged = [(claim, *judge_claim(claim, runs)) for claim in CLAIMS]
    verdicts = [{"claim": claim.text, "rule": claim.rule, "verdict": verdict} for claim, verdict, _, _ in judged]
    numbers = pd.concat([rows.assign(unit=claim.unit) for claim, _, _, rows in judged], ignore_index=True)
    return [
        Exhibit(
            "claims",
            "The paper's claims, by these records",
            table=pd.DataFrame(verdicts),
            notes=[
                "holds: the 95 % intervals of all comparisons lie above 0; does not hold: that of one lies below; else"
                " there is not enough data"
            ],
            missing=[f"{claim.text}: {missing}" for claim, _, missing, _ in judged if missing],
        ),
        Exhibit(
            "claims_numbers",
            "The claims: what was compared",
            table=numbers.drop(columns="missing"),
            cells=_cells(numbers),
            notes=[
                "means and intervals over tasks, each a mean over seeds, or over seeds where one task alone has the"
                " runs; points of a score unless said otherwise; the CSV has fractions, and logarithms of ratios of"
                " work"
            ],
        ),
    ]


def _cells(numbers):
    """The comparisons as texts."""
    texts = {claim.name: claim.text for claim in CLAIMS}
    rows = numbers.to_dict("records")
    return pd.DataFrame(
        {
            "claim": numbers["claim"].map(texts),
            "compared": numbers["compared"],
            "difference": [_difference(row["mean"], row["unit"]) for row in rows],
            "95 % interval": [
                "–"
                if math.isnan(row["low"])
                else f"{_difference(row['low'], row['unit'])} to {_difference(row['high'], row['unit'])}"
                for row in rows
            ],
            "n": [f"{row['n']} {row['over']}" if row["n"] else "–" for row in rows],
            "says": numbers["says"],
        }
    )


def _difference(value, unit):
    """A difference as text; of ``times`` it is a logarithm, and one beyond all bounds is cut."""
    if math.isnan(value):
        return "–"
    return {"points": f"{100 * value:+.1f}", "%": f"{value:+.1f} %", "times": f"×{math.exp(min(value, 50)):.2f}"}[unit]
