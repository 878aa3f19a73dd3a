"""Bias amplification of stored runs, on tasks that state a shortcut.

The attribute of a test row is derived from the task's own rows, so results need no column for it. Imports torch
nowhere, `datasets` only where there is something to measure.
"""

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from mubench import registry
from mubench.errors import MubenchError
from mubench.records.result import PREDICTIONS


def amplification(attribute, target, prediction):
    """Directional bias amplification from attribute to label (Wang & Russakovsky 2021, arXiv 2102.12594, BiasAmp A→T).

    Over the values a of the attribute and the labels t, the mean of Δ(a, t) where a and t occur together more often
    than if they were independent, P(a, t) > P(a)·P(t), and of −Δ(a, t) where they do not, with Δ(a, t) = P(prediction =
    t | a) − P(target = t | a). All probabilities are those of the given rows, so predictions that are all right give 0;
    above 0 the model leans on the shortcut more than the data does, below 0 less. Three equally long arrays → a number
    between −1 and 1.
    """
    attribute, target, prediction = map(np.asarray, (attribute, target, prediction))
    if not len(target) == len(prediction) == len(attribute) > 0:
        raise MubenchError(
            f"bias amplification needs equally many rows, not {len(attribute)}, {len(target)} and {len(prediction)}"
        )
    having, labels = (
        np.stack([values == value for value in np.unique(values)]).astype("float64") for values in (attribute, target)
    )
    size = having.sum(axis=1, keepdims=True)
    there, said = (
        having @ labels.T,
        having @ np.stack([prediction == label for label in np.unique(target)]).astype("float64").T,
    )
    together = there / len(target) > size / len(target) * labels.mean(axis=1) + 1e-12
    return float((np.where(together, 1, -1) * (said - there) / size).mean())


def measured(runs):
    """The bias amplification of each run on the test set, NaN where its task states no shortcut or something is not
    here; and sentences
    on what is not. runs: a frame with ``task`` and ``folder``."""
    values, missing = pd.Series(np.nan, runs.index), {}
    for task, mine in runs.groupby("task", sort=False):
        if not shortcut(task):
            continue
        for index, folder in mine["folder"].items():
            try:
                values[index] = _of_run(task, Path(folder) / PREDICTIONS)
            except MubenchError as error:
                missing.setdefault(f"{task}: no bias amplification, {error}", []).append(folder)
    return values, [f"{sentence} ({len(folders)} runs)" for sentence, folders in missing.items()]


def shortcut(task):
    """What a task says of its shortcut, or ""."""
    return registry.tasks.get(task).shortcut if task in registry.tasks.names() else ""


def _of_run(task, path):
    if not path.is_file():
        raise MubenchError("the predictions are not here")
    frame = pd.read_parquet(path, columns=["set", "index", "target", "prediction"])
    frame = frame[frame["set"] == "test"]
    attribute, target = _rows(task)
    rows = frame["index"].to_numpy("int64")
    if not (
        len(rows)
        and rows.min() >= 0
        and rows.max() < len(target)
        and (target[rows] == frame["target"].to_numpy()).all()
    ):
        raise MubenchError("the predictions are of other test rows than the task's")
    return amplification(attribute[rows], target[rows], frame["prediction"].to_numpy())


@functools.cache
def _rows(task):
    """Attribute and label of every test row."""
    task = registry.load_task(task)
    rows = task.data["test"]
    return np.array([task.attribute(row) for row in rows]), np.array(rows["label"])
