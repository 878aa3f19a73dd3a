"""Table 3: the score on D_f without and with SuperLoss, a mean over the methods that have both."""

import math

import pandas as pd

from mubench.leaderboard import statistics
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.studies.coverage import ablate_command
from mubench.leaderboard.studies.figures import Exhibit, spread
from mubench.leaderboard.studies.paper.published import CURRICULUM_SCORES, SOURCE, TASKS
from mubench.leaderboard.studies.runs import untuned

UNKNOWN = (math.nan, math.nan)


def curriculum_table(runs):
    """Table 3, a row per task and one of their means."""
    scores = _scores(runs)
    rows = [
        _row(task, scores[scores["task"] == task])
        for task in TASKS
        if task in set(scores["task"]) or task in CURRICULUM_SCORES
    ]
    table = pd.DataFrame([*rows, _mean_row(scores)])
    absent = sorted({*TASKS} - set(scores["task"]))
    line = ablate_command("curriculum", absent, at=[1], seed=range(3))
    lacking = f"no method with and without the curriculum on {', '.join(absent)}: `{line}` runs both"
    return Exhibit(
        "table_3",
        "Score on D_f (%) without and with a curriculum (SuperLoss, λ = 1)",
        table=table,
        cells=_cells(table),
        notes=[
            f"published: {SOURCE}, Table 3 (only Speech Commands and the averages are known here); means over methods,"
            " ± the 95 % interval of the change over methods"
        ],
        missing=[lacking] if absent else [],
    )


def _scores(runs):
    """Per task and method the mean forget score without (``off``) and with (``on``) the curriculum, where both are
    there, and the ``change``.
    """
    runs = untuned(runs)
    runs = runs[(runs["ratio"] == "5") & ~runs["method"].isin(REFERENCES)]
    keys = ["task", "model", "method"]
    off, on = (
        runs[runs["options"] == options].groupby(keys)["forget_score"].mean()
        for options in ("{}", '{"curriculum": "superloss"}')
    )
    by_model = pd.DataFrame({"off": off, "on": on}).dropna().reset_index()
    scores = by_model.groupby(["task", "method"])[["off", "on"]].mean().reset_index()
    return scores.assign(change=scores["on"] - scores["off"])


def _row(task, scores):
    """Means over methods, and the interval of the change."""
    off = on = change = half_width = math.nan
    if len(scores):
        means, half_widths, *_ = statistics.describe(scores[["off", "on", "change"]].to_numpy("float64").T)
        off, on, change = means
        half_width = half_widths[2]
    return {
        "task": task,
        "off": off,
        "on": on,
        "change": change,
        "half_width": half_width,
        "methods": scores["method"].nunique(),
        **_published(task),
    }


def _mean_row(scores):
    """Means over tasks, each a mean over methods."""
    means = [of_task[["off", "on"]].mean() for _, of_task in scores.groupby("task")]
    mean = pd.DataFrame(means).mean() if means else {"off": math.nan, "on": math.nan}
    return {
        "task": "mean over tasks",
        "off": mean["off"],
        "on": mean["on"],
        "change": mean["on"] - mean["off"],
        "half_width": math.nan,
        "methods": None,
        **_published("mean"),
    }


def _published(task):
    off, on = CURRICULUM_SCORES.get(task, UNKNOWN)
    return {"published_off": off / 100, "published_on": on / 100}


def _cells(table):
    changes = zip(table["change"], table["half_width"], strict=True)
    return pd.DataFrame(
        {
            "task": table["task"],
            "off": [spread(value) for value in table["off"]],
            "on": [spread(value) for value in table["on"]],
            "change": [spread(mean, half_width) for mean, half_width in changes],
            "off, published": [spread(value) for value in table["published_off"]],
            "on, published": [spread(value) for value in table["published_on"]],
            "methods": [f"{n:.0f}" if n > 0 else "–" for n in table["methods"].astype("float64")],
        }
    )
