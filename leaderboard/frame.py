"""Folders of results → one frame with a row per run: read, recomputed, compared with retraining. Imports no torch."""

import contextlib
import itertools
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mubench import registry
from mubench.cache import file_hash
from mubench.errors import MubenchError
from mubench.leaderboard.columns import RUN_COLUMNS, VALUES
from mubench.leaderboard.escape import one_line
from mubench.leaderboard.recompute import Reader, recompute
from mubench.leaderboard.rows import GROUP, REFERENCES, SETTINGS, Placed, alike, repeated
from mubench.leaderboard.submitter import OWN, submission_folder
from mubench.leaderboard.trust.levels import level_of
from mubench.leaderboard.trust.reading import read_record
from mubench.measure.metrics import looked_at
from mubench.records.result import RESULT
from mubench.records.store import ERROR, Store
from mubench.spec import RunSpec


@dataclass(eq=False)
class StoredRun(Placed):
    """A stored run whose record is readable; its metrics are still to be recomputed.

    folder: of the result.
    submission: its folder's name, `OWN` of the project's own results.
    result: the record.
    spec: what was run.
    values: name → number, of `VALUES`; None where it is not known.
    roc: true-positive rates at the false-positive `RATES`, or None.
    """

    folder: Path
    submission: str
    result: object
    spec: RunSpec
    values: dict = field(default_factory=dict)
    roc: list | None = None

    @classmethod
    def read(cls, folder):
        """The run in a folder. Raises `MubenchError` where its record is of no use."""
        result, submission = read_record(folder), submission_folder(folder)
        given = {"seconds": result.seconds, **{name: result.costs[name] for name in ("flops", "peak_memory_bytes")}}
        costs = {name: None if value is None else float(value) for name, value in given.items()}
        for name, value in costs.items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise MubenchError(f"{folder}: {name} is {value}")
        run = cls(folder, submission.name if submission else OWN, result, RunSpec(**result.spec), costs)
        hash((run.group, run.settings, run.old, result.clock))  # whatever they lack is to be missed here
        return run

    def row(self):
        """A row of the frame of runs, `RUN_COLUMNS`."""
        verified, flags = level_of(self.folder, self.result)
        verification = {"level": str(verified), "flags": "; ".join(flags)}
        row = {**self._identity(), **self._circumstances(), **self._files(), **verification}
        texts = {name: one_line(value) if isinstance(value, str) else value for name, value in row.items()}
        scores = {name: self.values.get(name) for name in (*VALUES, *self.further)}
        return {**texts, **scores, "roc": self.roc}

    @property
    def further(self):
        """The names of the scores on the further sets of the task."""
        return [f"{name}_score" for name in self.result.task.get("scored_sets", ())]

    def _identity(self):
        """The columns that say what was run."""
        task, model = self.result.task, self.result.model
        return {
            **dict(zip(GROUP, self.group, strict=True)),
            **dict(zip(SETTINGS, self.settings, strict=True)),
            "submission": self.submission,
            "tier": task.get("tier") or "mini",
            "modality": _modality(task["name"]),
            "task_version": task["version"],
            "engine": self.engine,
            "architecture": model.get("class") or model["name"],
            "params": json.dumps(self.spec.params, sort_keys=True, default=str),
            "seed": self.spec.seed,
            "paper": self.result.method.get("paper", ""),
            "spec": self.spec.model_dump_json(exclude_defaults=True),
            "command": self.result.command,
            "id": self.result.id,
        }

    def _circumstances(self):
        """The columns that say how it went."""
        result, model, environment = self.result, self.result.model, self.result.environment
        return {
            "status": result.status,
            "original": str(result.checkpoint["sha256"]),
            "original_score": float(result.checkpoint["test_score"]),
            "random_guess": float(result.facts["random_guess"]),
            "parameters": float(model.get("parameters") or math.nan),
            "share": float((model.get("lora") or {"share": 100})["share"]),
            "wrapper": (model.get("wrapper") or {"name": ""})["name"],
            "curve": json.dumps(result.curve) if result.curve else "",
            "anchor": self.anchor,
            "machine": environment["machine"],
            "threads": environment["threads"],
            "environment": json.dumps(environment, sort_keys=True, default=str),
            "started": result.started,
        }

    def _files(self):
        """The columns that say which files the row is made from."""
        return {
            "folder": self.folder.as_posix(),
            "weights": self.result.weights or "",
            "result_sha256": file_hash(self.folder / RESULT),
            "predictions_sha256": str(self.result.predictions.get("sha256") or ""),
        }


def _modality(task):
    return registry.tasks.get(task).modality if task in registry.tasks.names() else "other"


# -- reading -----------------------------------------------------------------------------------------------------------


def read_runs(results, only=None, limit=None):
    """Every verified run, and what was left out.

    results: a folder of results or submissions, or several.
    only: `RunSpec`s, whose task/model/ratio groups alone are read; of failures, their own.
    limit: read the trials on so many rows, and nothing else.

    Returns a frame with `RUN_COLUMNS`, one row per run, and a list of sentences on what was left out and why. Scores on
    further sets that some task names come after these columns. The frame is a function of the files alone. Recomputed
    metrics are cached by the hashes of the files they come from. Raises `MubenchError` where there is no result at all.
    """
    roots = [Path(root) for root in ([results] if isinstance(results, (str, Path)) else results)]
    folders = list(dict.fromkeys(folder for root in roots for folder in Store(root).results()))
    if not folders:
        raise MubenchError(
            f"no results below {', '.join(map(str, roots))}: `mubench run TASK METHOD --out "
            f"{roots[0] if roots else 'results'}` makes some, `mubench ls` says what there is"
        )
    places, notes = None if only is None else {_place(spec.folder) for spec in only}, []
    runs = _verified([f for f in folders if places is None or _place(f) in places], notes, limit)
    runs.sort(key=lambda run: (run.group, run.submission, run.settings, run.spec.seed))
    more = sorted({name for run in runs for name in run.further})
    frame = pd.DataFrame([run.row() for run in runs], columns=[*RUN_COLUMNS, *more])
    floats = (*VALUES, *more, "random_guess", "original_score", "parameters", "share", "engine")
    counts = ("seed", "trials", "version", "task_version", "schema")
    frame = frame.astype(dict.fromkeys(floats, "float64") | dict.fromkeys(counts, "int64") | {"anchor": bool})
    return frame, list(dict.fromkeys(map(one_line, [*notes, *_failures(roots, only)])))


def _verified(folders, notes, limit=None):
    """The runs whose metrics follow from their predictions, one of each row and seed, related to retraining."""
    runs = _readable(folders, notes, limit)
    runs.sort(key=lambda run: (run.result.started, run.result.id, str(run.folder)), reverse=True)
    runs.sort(key=lambda run: (run.group, run.spec.seed))
    verified = []
    for _, group in itertools.groupby(runs, key=lambda run: run.group):
        verified += _verified_group([*group], notes)
    relate(verified)
    return verified


def _verified_group(runs, notes):
    """`_verified` for the runs of one group, latest first: references by themselves, then all compared with them."""
    reader, sound = Reader(), []
    for run in runs:
        if run.role:
            with _noting(run.folder, notes):
                recompute(run, {}, notes, reader)
                sound.append(run)
    references = _one_each(sound, notes)
    unsound, verified = {run for run in runs if run.role} - {*references}, []
    for run in runs:
        if run not in unsound:
            with _noting(run.folder, notes):
                recompute(run, references_of(run, references), notes, reader)
                verified.append(run)
    return _one_each(verified, notes)


def _readable(folders, notes, limit):
    """The runs with a record that can be read: the trials on ``limit`` rows, or those on all rows."""
    runs, limited = [], []
    for folder in folders:
        with _noting(folder, notes):
            run = StoredRun.read(folder)
            is_trial = run.spec.limit or run.result.status == "limited"
            wanted = run.spec.limit == limit if limit else not is_trial
            (runs if wanted else limited).append(run)
    if limited and not limit:
        notes.append(f"left out, as they ran on a few rows only (--limit): {'; '.join(map(str, limited))}")
    return runs


def _one_each(runs, notes):
    """Of several results of one row and seed, the latest where all are the same run, else none.

    runs: latest first.
    """
    left_out = set()
    for same in repeated(runs):
        left_out |= {*same[1:]} if alike(same) else {*same}
        if not alike(same):
            notes.append(
                f"{same[0]}: {' and '.join(str(run.folder) for run in same)} are results of one seed of one "
                "row, and differ: none of them counts"
            )
    return [run for run in runs if run not in left_out]


def references_of(run, references):
    """Role → the runs that a run is compared with, as many as the metrics look at: first that of its own seed.

    references: the runs of the group that have a role.

    They are the project's own or else the submission's, never another submission's. That of the run's own seed is of
    the same schema and precision, where there is such a one; it may be the run itself. The others differ from it in
    their seed alone; where there is none, they are those of most seeds.
    """
    found = {}
    for role in REFERENCES:
        if (most := looked_at(role)) == 0:
            continue
        near = lambda other: (other.schema == run.schema, other.spec.precision == run.spec.precision)
        candidates = [other for other in references if other.role == role and other.submission in (OWN, run.submission)]
        candidates.sort(key=lambda other: other.submission != OWN)
        same_seed = [other for other in candidates if other.spec.seed == run.spec.seed]
        same_seed = [other for other in same_seed if other.submission == same_seed[0].submission]
        own = [run] if run in candidates else [max(same_seed, key=near)] if same_seed else []
        alike = {}
        for other in candidates:
            alike.setdefault(other.settings, {}).setdefault(other.spec.seed, other)
        rest = alike[own[0].settings] if own else max(alike.values(), key=lambda a: (near(_any(a)), len(a)), default={})
        others = [rest[seed] for seed in sorted(rest) if not own or seed != run.spec.seed]
        found[role] = (own + others)[:most] if most is None or own else []
    return found


def _any(runs):
    return next(iter(runs.values()))


def _failures(roots, only):
    """A sentence for every run, or for each of those asked for, that failed and has no result."""
    asked = None if only is None else {spec.folder for spec in only}
    for path in dict.fromkeys(path for root in roots for path in sorted(root.rglob(ERROR))):
        if not (path.parent / RESULT).exists() and (asked is None or Path(*path.parts[-6:-1]) in asked):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                yield f"failed: {path.parent}: {record['reason']}"
            except (OSError, ValueError, KeyError, TypeError):
                yield f"failed: {path.parent}: its {ERROR} cannot be read"


@contextlib.contextmanager
def _noting(folder, notes):
    """Whatever a stranger's files make fail becomes a note."""
    try:
        yield
    except Exception as error:
        notes.append(f"{folder} is left out: {error if isinstance(error, MubenchError) else repr(error)}")


def _place(folder):
    """Task, model and ratio of a result's folder in a store."""
    return folder.parts[-5:-3], folder.parts[-2:-1]


# -- relating and choosing ---------------------------------------------------------------------------------------------

RELATIVE = {  # share → of what, and which runs may be compared: those where this is equal, and true
    "relative_flops": ("flops", lambda run: True),
    "relative_seconds": ("seconds", lambda run: run.result.clock),
}


def relate(runs):
    """Set what runs cost as shares of retraining in the same group.

    Retraining costs the mean over the project's own seeds, else over the submission's.
    """
    for share, (cost, comparable) in RELATIVE.items():
        retraining = {}  # (group, where costs can be compared) → submission → costs
        for run in runs:
            if run.anchor and comparable(run) and run.values[cost]:
                place = retraining.setdefault((run.group, comparable(run)), {})
                place.setdefault(run.submission, []).append(run.values[cost])
        for run in runs:
            place = retraining.get((run.group, comparable(run)), {})
            costs = place.get(OWN) or place.get(run.submission)
            if costs and run.values[cost] is not None:
                run.values[share] = run.values[cost] / float(np.mean(np.sort(costs)))


def of_one_code(runs):
    """Of runs that differ in their code alone (versions, fingerprint, schema), those of one code.

    It is the code with most seeds, of equal ones the latest.
    """
    place = ["submission", "task", "model", "ratio", "method", "params", "trials", "options"]
    code = [*place, "version", "engine", "schema", "fingerprint"]
    by_code, by_place = (runs.groupby(names, dropna=False) for names in (code, place))
    order = pd.DataFrame(
        {
            "seeds": by_code["seed"].transform("nunique"),
            "started": by_code["started"].transform("max"),
            "code": by_code.ngroup(),
            "place": by_place.ngroup(),
        }
    )
    best = order.sort_values(["seeds", "started", "code"]).groupby("place")["code"].last()
    return runs[order["code"].eq(order["place"].map(best))]
