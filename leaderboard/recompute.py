"""Every metric of a stored run from its predictions, unless the index knows it of these very files."""

import functools
import json
from pathlib import Path

import numpy as np
from pydantic_core import from_json

from mubench.errors import MubenchError
from mubench.leaderboard.columns import RATES
from mubench.leaderboard.trust.reading import read_run
from mubench.measure.metrics import METRICS
from mubench.records.result import RESULT


class Reader:
    """What is read of a group's runs: the `CheckedRun`s of references are kept."""

    def __init__(self):
        self.reference = functools.cache(_read)

    def run(self, run):
        """The `CheckedRun` of a `StoredRun`. Raises `MubenchError` where its files do not prove it."""
        return self.reference(run) if run.role else _read(run)

    def prove(self, run):
        """The `StoredRun` itself. Raises `MubenchError` unless its record is what its predictions give."""
        if not run.checked:
            self.run(run)
        return run


def _read(run):
    values, _ = from_json(next(iter(run.checked.values()), b"[{},null]"))
    known = {name: value for name, value in values.items() if name in METRICS and not METRICS[name].references}
    checked = read_run(Path(run.folder), known=known)
    if checked.hashes[RESULT] != run.facts["result_sha256"]:
        raise MubenchError("it was written to while it was read")
    return checked


def asked(references):
    """A text that names the references that a run is compared with, which the index knows them by."""
    hashes = {role: [run.facts["result_sha256"] for run in runs] for role, runs in references.items()}
    return json.dumps(hashes).encode()


def recompute(run, references, named, notes, reader):
    """Set the metrics (``values``) and the ROC curve of a run.

    run: a `StoredRun`.
    references: role → the runs that it is compared with, first that of its own seed, which may be the run itself.
    named: what `asked` says of them.
    notes: a list that gets a sentence for each reference that it cannot be compared with.
    reader: the `Reader` of the group.

    Returns the run. Raises `MubenchError` where the result is not what its predictions give.
    """
    if (known := run.checked.get(named)) is not None:
        run.values, run.roc = from_json(known)
        return run
    checked = reader.run(run)
    usable = _comparable(checked, references, notes, reader)
    run.values = checked.score(usable)
    run.roc = None if checked.frame is None else roc(checked.frame)
    if sum(map(len, usable.values())) == sum(map(len, references.values())):  # else its notes would be lost
        run.index.keep(run, named)
    return run


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
                notes.append(f"{checked.folder} has no distances to {role} of seed {other.seed}: {error}")
    return found


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
