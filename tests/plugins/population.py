"""Metrics of an installed package: over all retrained models, and of what an attack found."""

import numpy as np

from mubench.measure.metrics import metric


@metric(better="lower", needs=["forget"], columns=["loss"], references={"retrain": 2})
def loss_deviation(run, references):
    """Mean distance of the forget losses to their means over the other retrained models."""
    losses = np.stack([model["forget"]["loss"] for model in references["retrain"] if model is not run])
    return np.abs(run["forget"]["loss"] - losses.mean(0)).mean()


@metric(better="retrain", needs=["forget"], columns=["loss"], probe="relearn")
def relearned(run, references):
    """By how much the relearning attack lowers the loss on the rest of the forget set."""
    return fall(run)


@metric(better="lower", needs=["forget"], columns=["loss"], references={"retrain": 1}, own_seed=True, probe="relearn")
def relearn_gap(run, references):
    """Difference of what the relearning attack gains on the run and on its retrained model."""
    [retrain] = references["retrain"]
    return abs(fall(run) - fall(retrain))


def fall(model):
    before, *_, after = model.probe("relearn").values()
    return before["forget"]["loss"].mean() - after["forget"]["loss"].mean()
