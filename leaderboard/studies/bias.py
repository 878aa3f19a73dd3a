"""Whether unlearning hurts more elsewhere: changes on the transfer set, and bias amplification on tasks that state a
shortcut.

The attribute of a test row is derived from the task's own rows, so results need no column for it. Imports torch
nowhere, `datasets` only where there is something to measure.
"""

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard import statistics
from mubench.records.predictions import PREDICTIONS

CHANGES = ["test_change", "transfer_change", "bias_change"]


# -- bias amplification
# ---------------------------------------------------------------------------------------------------------------


def amplification(attribute, target, prediction):
    """Directional bias amplification from attribute to label (Wang & Russakovsky 2021, arXiv 2102.12594, BiasAmp A→T).

    attribute: the value of the attribute of each row, [N].
    target: its label, [N].
    prediction: the label that a model gives it, [N].

    Over the values a of the attribute and the labels t, the mean of Δ(a, t) where a and t occur together more often
    than if they were independent, P(a, t) > P(a)·P(t), and of −Δ(a, t) where they do not, with Δ(a, t) = P(prediction =
    t | a) − P(target = t | a). All probabilities are those of the given rows, so predictions that are all right give 0;
    above 0 the model leans on the shortcut more than the data does, below 0 less.

    Returns a number between −1 and 1. Raises `MubenchError` for arrays that are empty or not equally long.
    """
    attribute, target, prediction = map(np.asarray, (attribute, target, prediction))
    if not len(target) == len(prediction) == len(attribute) > 0:
        raise MubenchError(
            f"bias amplification needs equally many rows, not {len(attribute)}, {len(target)} and {len(prediction)}"
        )
    labels = np.unique(target)
    has_value, has_label = _one_hot(attribute, np.unique(attribute)), _one_hot(target, labels)
    sizes = has_value.sum(axis=1, keepdims=True)
    targets, predictions = (
        has_value @ has_label.T,
        has_value @ _one_hot(prediction, labels).T,
    )  # counts [values, labels]
    together = targets / len(target) > sizes / len(target) * has_label.mean(axis=1) + 1e-12
    return float((np.where(together, 1, -1) * (predictions - targets) / sizes).mean())


def _one_hot(values, levels):
    """[levels, N]: 1 where a value is the level."""
    return np.stack([values == level for level in levels]).astype("float64")


def measured(runs):
    """The bias amplification of each run on the test set.

    runs: a frame with ``task`` and ``folder``.

    Returns (values, missing): a series, NaN where the task states no shortcut or something is not here; and sentences
    on what is not.
    """
    values, missing = pd.Series(np.nan, runs.index), {}
    for task, of_task in runs.groupby("task", sort=False):
        if not shortcut(task):
            continue
        for index, folder in of_task["folder"].items():
            try:
                values[index] = _of_run(task, Path(folder) / PREDICTIONS)
            except MubenchError as error:
                missing.setdefault(f"{task}: no bias amplification, {error}", []).append(folder)
    return values, [f"{sentence} ({len(folders)} runs)" for sentence, folders in missing.items()]


def shortcut(task):
    """What a task says of its shortcut, or ""."""
    return registry.tasks.get(task).shortcut if task in registry.tasks.names() else ""


def shortcuts_note(runs):
    """A sentence on the shortcuts that the tasks of runs state."""
    stated = {task: shortcut(task) for task in dict.fromkeys(runs["task"])}
    texts = "; ".join(f"{task}: {text}" for task, text in stated.items() if text)
    if not texts:
        return "bias amplification: no task here states a shortcut"
    return f"bias amplification: BiasAmp A→T of Wang & Russakovsky 2021; stated shortcuts: {texts}"


def _of_run(task, path):
    if not path.is_file():
        raise MubenchError("the predictions are not here")
    frame = pd.read_parquet(path, columns=["set", "index", "target", "prediction"])
    frame = frame[frame["set"] == "test"]
    attribute, target = _test_rows(task)
    rows = frame["index"].to_numpy("int64")
    inside = len(rows) and rows.min() >= 0 and rows.max() < len(target)
    if not (inside and (target[rows] == frame["target"].to_numpy()).all()):
        raise MubenchError("the predictions are of other test rows than the task's")
    return amplification(attribute[rows], target[rows], frame["prediction"].to_numpy())


@functools.cache
def _test_rows(task):
    """Attribute and label of every test row."""
    task = registry.load_task(task)
    rows = task.data["test"]
    return np.array([task.attribute(row) for row in rows]), np.array(rows["label"])


# -- changes against the original
# ---------------------------------------------------------------------------------------------------------------


def changes(runs):
    """What runs changed against the original, on the test set by its record, else by the original's own runs.

    Returns (runs, missing): the runs with the columns `CHANGES`, and sentences on what could not be measured.
    """
    amplified, missing = measured(runs)
    where, runs = ["task", "model", "original"], runs.assign(bias=amplified)
    original = runs[runs["method"] == "original"].groupby(where)[["transfer_score", "bias"]].mean()
    original = runs[where].join(original, on=where)
    changed = runs.assign(
        test_change=runs["test_score"] - runs["original_score"],
        transfer_change=runs["transfer_score"] - original["transfer_score"],
        bias_change=runs["bias"] - original["bias"],
    )
    return changed, missing


def excess(runs, points=None, margin=None):
    """By how much a method changes the transfer score more than the test score, and the bias amplification.

    runs: of methods, with the columns `CHANGES`.

    Means over tasks, with their intervals over these. Returns (frame, notes, missing), as all findings do.
    """
    rows = []
    means = runs.groupby(["method", "task", "model", "ratio"], sort=False)[CHANGES].mean().reset_index()
    for method, group in means.groupby("method", sort=False):
        both = group.dropna(subset=["transfer_change", "test_change"])
        values = np.stack([group["transfer_change"] - group["test_change"], group["bias_change"]])
        (mean, bias), (half_width, bias_half_width), _, _, (n, bias_n) = statistics.describe(values)
        rows.append(
            {
                "method": method,
                "test_change": float(both["test_change"].mean()),
                "transfer_change": float(both["transfer_change"].mean()),
                "excess": mean,
                "half_width": half_width,
                "places": int(n),
                "bias_change": bias,
                "bias_half_width": bias_half_width,
                "bias_places": int(bias_n),
            }
        )
    note = (
        "below the diagonal transfer suffers more than the test set; above 0 a method leans on the stated shortcut"
        " more than the original does"
    )
    return pd.DataFrame(rows), [note], []
