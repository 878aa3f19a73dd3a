"""Every metric of a stored run from its predictions, cached by the files and the code it follows from."""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from mubench.cache import cache_dir, file_hash, whole
from mubench.errors import MubenchError
from mubench.leaderboard import trust
from mubench.leaderboard.columns import RATES
from mubench.leaderboard.trust.reading import read_run
from mubench.measure import metrics
from mubench.records.predictions import PREDICTIONS
from mubench.records.result import RESULT


def recompute(run, retrain, notes, read_retrain=read_run):
    """Set the metrics (``values``) and the ROC curve of a run.

    run: a `StoredRun`.
    retrain: the run of retraining that distances are measured to, or None.
    notes: a list that gets a sentence where there is a retrained model and no distance to it.
    read_retrain: folder → what `read_run` gives of it.

    Raises `MubenchError` where the result is not what its predictions give.
    """
    path = _cached(run, retrain)
    try:
        values, run.roc = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        checked = read_run(run.folder)
        try:
            values = checked.score(None if retrain is None else read_retrain(retrain.folder))
        except MubenchError as error:
            values, path = checked.score(), None  # raises where it is the result itself that is wrong
            notes.append(f"{run.folder} has no distances to retrain: {error}")
        run.roc = None if checked.frame is None else roc(checked.frame)
        if path is not None:
            with whole(path) as temporary:
                temporary.write_text(json.dumps([values, run.roc]), encoding="utf-8")
    run.values |= values


def _cached(run, retrain):
    """The file in the cache that belongs to a run, named by a hash of all that its numbers follow from."""
    files = [run.folder / RESULT, run.folder / PREDICTIONS, *([retrain.folder / PREDICTIONS] if retrain else [])]
    hashes = [file_hash(path) if path.is_file() else None for path in files]
    key = hashlib.sha256(json.dumps([_code(), *hashes]).encode()).hexdigest()
    return cache_dir() / "recomputed" / key[:2] / f"{key}.json"


@functools.cache
def _code():
    """A hash of the code that reads and computes: what other code found is not found again."""
    folders = Path(metrics.__file__).parent, Path(trust.__file__).parent
    files = sorted([*(path for folder in folders for path in folder.glob("*.py")), Path(__file__)])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def roc(frame):
    """The ROC curve of the attack that calls forget examples of low loss members.

    frame: predictions, with the columns ``set`` and ``loss``.

    Returns true-positive rates at the false-positive `RATES`, rounded to four digits, or None without losses.
    """
    from mubench.measure.metrics.arrays import known

    if "loss" not in frame:
        return None
    losses = [frame.loc[frame["set"] == name, "loss"].to_numpy("float64") for name in ("test", "forget")]
    if not all(map(len, losses)):
        return None
    others, members = (np.sort(known(values)) for values in losses)
    thresholds = np.unique(np.concatenate([members, others]))
    false, true = (
        np.concatenate([[0], np.searchsorted(values, thresholds, "right") / len(values)])
        for values in (others, members)
    )
    keep = np.append(np.diff(false) > 0, True)  # of equal false-positive rates the highest true-positive one
    return np.interp(RATES, false[keep], true[keep]).round(4).tolist()
