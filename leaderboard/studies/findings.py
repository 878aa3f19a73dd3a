"""What follows from the points of an ablation, where it is no capacity, no law and no bias.

Findings are functions of (runs, points, margin), of the runs of methods alone, that return (frame, notes, missing):
the numbers, sentences on how they are made, and sentences on what could not be made.
"""

import math

import numpy as np
import pandas as pd

from mubench.leaderboard import statistics
from mubench.leaderboard.studies.capacity import MARGIN
from mubench.leaderboard.studies.runs import GROUP

CHANGED = ("test_score", "forget_score", "retain_score", "mia_loss_auc")  # by a curriculum
WORK_SHARES = (0.1, 0.25, 0.5, 1.0)  # of the work of retraining, where `budget` reads scores


def least_shares(runs, points=None, margin=MARGIN):
    """The smallest share of trained parameters that forgets (`lora`).

    runs: with the column ``share``, in per cent.
    margin: a share forgets where its mean forget score is more than this below the largest over all shares.
    """
    rows = []
    for place, group in runs.groupby(GROUP, sort=False):
        scores = group.groupby("share")["forget_score"].mean()
        if len(scores) < 2:
            continue
        forgetting = scores.index[scores < scores.max() - margin]
        least = float(forgetting.min()) if len(forgetting) else math.nan
        rows.append(
            dict(zip(GROUP, place, strict=True))
            | {
                "least_share_that_forgets": least,
                "forget_score_there": float(scores[least]) if len(forgetting) else math.nan,
                "highest_forget_score": float(scores.max()),
                "dense_forget_score": float(scores.get(100.0, math.nan)),
                "seeds": group["seed"].nunique(),
            }
        )
    note = (
        f"a share forgets where the forget score is more than {100 * margin:g} points below the highest over all shares"
    )
    return pd.DataFrame(rows), [note], []


def curriculum_effect(runs, points=None, margin=None):
    """Scores with the curriculum less those without, seeds paired: means and half-widths per task, method and level.

    runs: with the level of the curriculum in ``at``, NaN without one.
    """
    rows, without = [], runs["at"].isna()
    paired = runs[~without].merge(runs[without], on=[*GROUP, "seed"], suffixes=("", "_off"))
    for (*place, level), group in paired.groupby([*GROUP, "at"], sort=False):
        changes = np.array([group[name] - group[f"{name}_off"] for name in CHANGED], "float64")
        means, half_widths, _, _, n = statistics.describe(changes)
        row = dict(zip(GROUP, place, strict=True)) | {"lambda": float(level)}
        for name, mean, half_width in zip(CHANGED, means, half_widths, strict=True):
            row |= {f"{name}_change": float(mean), f"{name}_half_width": float(half_width)}
        rows.append(row | {"n": int(n.max())})
    rows.sort(key=lambda row: [row[name] for name in (*GROUP, "lambda")])
    return pd.DataFrame(rows), ["changes: with the curriculum less without, seeds paired"], []


def scores_by_work(runs, points, margin=None):
    """Mean scores when a share of retraining's work was done (`budget`).

    points: along the curves, with work as a share of retraining's in ``x``. The last one by then is read, nothing is
    interpolated.
    """
    rows = []
    for place, curve in points.groupby([*GROUP, "value"], sort=False):
        row = dict(zip([*GROUP, "value"], place, strict=True))
        for share in WORK_SHARES:
            means = curve["mean"][curve["x"] <= share + 1e-9]
            row[f"{share:.0%}"] = means.iloc[-1] if len(means) else math.nan
        rows.append(row | {"spent": curve["x"].iloc[-1], "n": int(curve["n"].iloc[-1])})
    return pd.DataFrame(rows), [], []
