"""Recomputed: the columns of predictions say the same of each example."""

import numpy as np
from scipy.special import logsumexp

from mubench.errors import MubenchError
from mubench.measure.metrics.primary import load_primary
from mubench.records.predictions import PREDICTIONS, probe_file


def compare_columns(run):
    """Compare the columns of a run's predictions, those of probes included, with each other.

    The score follows from prediction and target, the confidence from the loss, loss and prediction from the logits.
    Returns flags. Raises `MubenchError` where one does not follow.
    """
    frames = {PREDICTIONS: run.frame} | {probe_file(name): frame for name, frame in run.probes.items()}
    return [flag for name, frame in frames.items() for flag in _compare(run, frame, run.folder / name)]


def _compare(run, frame, path):
    primary = load_primary(run.result.task["metric"], **run.result.task.get("metric_options", {}))
    losses = frame["loss"].to_numpy("float64")
    if primary.follows:
        scores = primary.per_example(frame["prediction"].to_numpy(), frame["target"].to_numpy())
        _follows(path, "score", frame["score"], scores, 1e-9)
    if "confidence" in frame:
        with np.errstate(over="ignore"):
            _follows(path, "confidence", frame["confidence"], np.exp(-losses), 2e-3)
    if "logits" in frame:
        there = frame["logits"].notna().to_numpy()
        _compare_logits(path, frame[there], losses[there])
    wild = int((~np.isfinite(losses)).sum())
    return [f"{wild} losses are not finite" + f", of {path.stem}" * (frame is not run.frame)] if wild else []


def _compare_logits(path, frame, losses):
    rows, logits = np.arange(len(frame)), np.stack(frame["logits"]).astype("float64")
    target, prediction = frame["target"].to_numpy(), frame["prediction"].to_numpy()
    if (np.concatenate([target, prediction]) >= logits.shape[1]).any() or (prediction < 0).any():
        raise MubenchError(f"{path}: a label beyond the {logits.shape[1]} there are")
    with np.errstate(all="ignore"):
        slack = 2**-9 * (np.abs(logits).max(1) + np.abs(losses)) + 1e-4  # stored with 10 bits of mantissa
        _follows(path, "loss", losses, logsumexp(logits, axis=1) - logits[rows, target], slack)
        _follows(path, "prediction", logits[rows, prediction], logits.max(1), slack)


def _follows(path, column, claimed, found, slack):
    """Raise unless the claimed values of a column are those found from others, ``slack`` apart at most."""
    claimed, found = np.asarray(claimed, "float64"), np.asarray(found, "float64")
    with np.errstate(invalid="ignore"):
        off = ~((np.abs(claimed - found) <= slack) | (claimed == found) | (~np.isfinite(claimed) & ~np.isfinite(found)))
    if off.any():
        worst = int(np.argmax(off))
        raise MubenchError(
            f"{path}: {column} of {off.sum()} examples does not follow from the other columns, in row {worst} "
            f"it is {claimed[worst]:.6g}, they give {found[worst]:.6g}"
        )
