"""Every metric of a stored run from its predictions, cached by the files and the code it follows from."""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from mubench.cache import cache_dir, file_hash, whole
from mubench.errors import MubenchError
from mubench.fingerprint import fingerprint
from mubench.leaderboard import trust
from mubench.leaderboard.columns import RATES
from mubench.leaderboard.trust.reading import read_run
from mubench.measure import metrics
from mubench.records.predictions import PREDICTIONS, probe_file
from mubench.records.result import RESULT


class Reader:
    """What is read of a group's runs, each file once: `CheckedRun`s of references, hashes of files."""

    def __init__(self):
        self.reference = functools.cache(lambda folder: read_run(folder))
        self.hash = functools.cache(lambda path: file_hash(path) if path.is_file() else None)

    def run(self, run):
        """The `CheckedRun` of a `StoredRun`; those of references are kept."""
        return self.reference(run.folder) if run.role else read_run(run.folder)


def recompute(run, references, notes, reader):
    """Set the metrics (``values``) and the ROC curve of a run.

    run: a `StoredRun`.
    references: role → the runs that it is compared with, first that of its own seed, which may be the run itself.
    notes: a list that gets a sentence for each reference that it cannot be compared with.
    reader: the `Reader` of the group.

    Raises `MubenchError` where the result is not what its predictions give.
    """
    path = _cached(run, references, reader)
    try:
        values, run.roc = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        checked = reader.run(run)
        usable = _comparable(checked, references, notes, reader)
        values = checked.score(usable)
        run.roc = None if checked.frame is None else roc(checked.frame)
        if sum(map(len, usable.values())) == sum(map(len, references.values())):  # else its notes would be lost
            with whole(path) as temporary:
                temporary.write_text(json.dumps([values, run.roc]), encoding="utf-8")
    run.values |= values


def _comparable(checked, references, notes, reader):
    """Role → the `CheckedRun`s of references that were evaluated on the run's examples."""
    found = {role: [] for role in references}
    for role, runs in references.items():
        for other in runs:
            try:
                reference = reader.run(other)
                checked.compare(reference)
                found[role].append(reference)
            except MubenchError as error:
                notes.append(f"{checked.folder} has no distances to {role} of seed {other.spec.seed}: {error}")
    return found


def _cached(run, references, reader):
    """The file in the cache that belongs to a run, named by a hash of all that its numbers follow from."""
    files = [_files(run)] + [_files(other) for role in references for other in references[role]]
    hashes = [[reader.hash(path) for path in group] for group in files]
    roles = {role: len(runs) for role, runs in references.items()}
    key = hashlib.sha256(json.dumps([_code(), roles, hashes]).encode()).hexdigest()
    return cache_dir() / "recomputed" / key[:2] / f"{key}.json"


def _files(run):
    """The files that what is known of a run follows from."""
    names = RESULT, PREDICTIONS, *(probe_file(name) for name in run.result.probed)
    return [run.folder / name for name in names]


@functools.cache
def _code():
    """A hash of the code that reads and computes: what other code found is not found again."""
    folders = Path(metrics.__file__).parent, Path(trust.__file__).parent
    files = sorted([*(path for folder in folders for path in folder.glob("*.py")), Path(__file__)])
    added = [f"{m.name} {fingerprint(m.compute)}" for m in metrics.METRICS.values() if m.name not in metrics.SUITE]
    return hashlib.sha256(b"".join([*(path.read_bytes() for path in files), *map(str.encode, added)])).hexdigest()


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
