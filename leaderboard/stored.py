"""A stored run as tables need it, from its record or from the index. Imports no torch."""

import functools
import json
import math
import operator
from dataclasses import dataclass, field
from pathlib import Path

from mubench.cache import file_hash
from mubench.errors import MubenchError
from mubench.leaderboard.columns import COSTS, RUN_COLUMNS, VALUES
from mubench.leaderboard.escape import one_line
from mubench.leaderboard.rows import GROUP, SETTINGS, Placed
from mubench.leaderboard.submitter import OWN, submission_folder
from mubench.leaderboard.trust.levels import level_of, standing
from mubench.leaderboard.trust.reading import read_record
from mubench.records.result import RESULT
from mubench.spec import RunSpec

AROUND = ("submission", "level", "flags", "folder")  # columns of what the place and files around the record say
MEASURED = tuple(name for name in COSTS if not name.startswith("relative"))
COLUMNS = tuple(  # of what the record says
    name for name in RUN_COLUMNS if name not in {*VALUES, *AROUND, "modality", "roc"} or name in MEASURED
)


@dataclass(eq=False)
class Record(Placed):
    """A record and its spec, placed among others."""

    result: object
    spec: RunSpec


@dataclass(eq=False)
class StoredRun:
    """A stored run whose record is readable; its metrics are still to be recomputed.

    folder: of the result, with ``/``.
    submission: its folder's name, `OWN` of the project's own results.
    facts: `COLUMNS`; ``role`` (`Placed`); ``clock``, equal where times may be compared, else ""; ``precision``;
        ``limited``, the number of rows of a trial, else 0; ``further``, names of the scores on further sets (JSON);
        ``standing``, its level outside of a submission.
    values: name → number, of `VALUES` that the record does not say; None where it is not known.
    roc: true-positive rates at the false-positive `RATES`, or None.
    index: the `Index` of the folder of results that it was found in, if any.
    stamp: what the file system said of its files before they were read.
    checked: hashes of references → metrics and ``roc`` (JSON), where the index knows them of the files as they are.
    group: the values of `GROUP`.
    settings: the values of `SETTINGS`.

    There may be very many: nothing but numbers and texts is kept of each.
    """

    folder: str
    submission: str
    facts: dict
    values: dict = field(default_factory=dict)
    roc: list | None = None
    index: object = None
    stamp: bytes | None = None
    checked: dict = field(default_factory=dict)
    group: tuple = field(init=False)
    settings: tuple = field(init=False)

    def __post_init__(self):
        self.group, self.settings = _group(self.facts), _settings(self.facts)

    @classmethod
    def read(cls, folder):
        """The run in a folder. Raises `MubenchError` where its record is of no use."""
        result = read_record(folder)
        record = Record(result, RunSpec(**result.spec))
        hash((record.group, record.settings, record.old))  # whatever they lack is to be missed here
        run = cls(Path(folder).as_posix(), submission_of(folder), _facts(folder, record))
        run.result, run.spec = result, record.spec
        return run

    @functools.cached_property
    def result(self):
        """The record."""
        return read_record(self.folder)

    @functools.cached_property
    def spec(self):
        """What was run."""
        return RunSpec(**self.result.spec)

    @property
    def seed(self):
        """Of everything random."""
        return self.facts["seed"]

    @property
    def schema(self):
        """Of the record as it was written."""
        return self.facts["schema"]

    @property
    def role(self):
        """Which of `REFERENCES` it is to others, or None."""
        return self.facts["role"]

    @property
    def anchor(self):
        """Whether distances are measured to it."""
        return self.facts["anchor"]

    def __str__(self):
        task, model, _, ratio = self.group[:4]
        return f"{task}/{model}/{self.facts['method']}/{ratio}, seed {self.seed}"

    def columns(self):
        """The values of `COLUMNS`, then of those `AROUND` the record."""
        level, flags = (self.facts["standing"], ()) if self.submission == OWN else level_of(self.folder)
        around = self.submission, str(level), one_line("; ".join(flags)), one_line(self.folder)
        return *_columns(self.facts), *around


_columns, _group, _settings = (operator.itemgetter(*names) for names in (COLUMNS, GROUP, SETTINGS))


def submission_of(folder):
    """The name of the submission that a result's folder belongs to, or `OWN`."""
    found = submission_folder(folder)
    return found.name if found else OWN


def _facts(folder, record):
    """What is known of a run by its `Record`: `FACTS`."""
    result, spec = record.result, record.spec
    row = {**_identity(record), **_circumstances(record), **_costs(folder, result), **_files(folder, result)}
    texts = {name: one_line(value) if isinstance(value, str) else value for name, value in row.items()}
    return {name: texts[name] for name in COLUMNS} | {
        "role": record.role,
        "clock": "; ".join(result.clock or ()),
        "precision": spec.precision,
        "limited": spec.limit or (-1 if result.status == "limited" else 0),
        "further": json.dumps([f"{name}_score" for name in result.task.get("scored_sets", ())]),
        "standing": str(standing(result)),
    }


def _identity(record):
    """The columns that say what was run."""
    task, model, spec = record.result.task, record.result.model, record.spec
    return {
        **dict(zip(GROUP, record.group, strict=True)),
        **dict(zip(SETTINGS, record.settings, strict=True)),
        "tier": task.get("tier") or "mini",
        "task_version": task["version"],
        "engine": record.engine,
        "architecture": model.get("class") or model["name"],
        "params": json.dumps(spec.params, sort_keys=True, default=str),
        "seed": spec.seed,
        "paper": record.result.method.get("paper", ""),
        "spec": spec.model_dump_json(exclude_defaults=True),
        "command": record.result.command,
        "id": record.result.id,
    }


def _circumstances(record):
    """The columns that say how it went."""
    result, model, environment = record.result, record.result.model, record.result.environment
    return {
        "status": result.status,
        "original": str(result.checkpoint["sha256"]),
        "original_score": float(result.checkpoint["test_score"]),
        "random_guess": float(result.facts["random_guess"]),
        "parameters": float(model.get("parameters") or math.nan),
        "share": float((model.get("lora") or {"share": 100})["share"]),
        "wrapper": (model.get("wrapper") or {"name": ""})["name"],
        "curve": json.dumps(result.curve) if result.curve else "",
        "anchor": record.anchor,
        "machine": environment["machine"],
        "threads": environment["threads"],
        "environment": json.dumps(environment, sort_keys=True, default=str),
        "started": result.started,
    }


def _costs(folder, result):
    """The columns `MEASURED`."""
    given = {**result.costs, "seconds": result.seconds}
    costs = {name: None if given[name] is None else float(given[name]) for name in MEASURED}
    for name, value in costs.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise MubenchError(f"{folder}: {name} is {value}")
    return costs


def _files(folder, result):
    """The columns that say which files the row is made from."""
    return {
        "weights": result.weights or "",
        "result_sha256": file_hash(Path(folder) / RESULT),
        "predictions_sha256": str(result.predictions.get("sha256") or ""),
    }
