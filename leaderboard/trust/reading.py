"""A result as its files prove it: its record tells one story, and every metric is what its predictions give."""

import functools
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard.rows import Placed
from mubench.leaderboard.trust.limits import LIMITS
from mubench.leaderboard.trust.predictions import parse_predictions
from mubench.leaderboard.trust.schema import PredictionFacts, ResultFacts
from mubench.leaderboard.trust.untrusted import library_errors, parse_json, printable, read_bytes, schema_errors
from mubench.measure.metrics import METRICS, Predictions, compare, compute_all
from mubench.records.predictions import PREDICTIONS, PROBES, agree, probe_file
from mubench.records.result import RESULT, Result, renamed
from mubench.spec import RunSpec
from mubench.splits import split_name


@dataclass(eq=False)
class CheckedRun(Placed):
    """A run whose record and predictions agree.

    folder: of the result.
    result: its record.
    spec: what was run.
    frame: its predictions; None where only numbers are *reported*.
    metrics: computed from the predictions; as claimed where there are none.
    hashes: SHA-256 of the files result.json, predictions.parquet and those of probes.
    probes: name of each other probe → its predictions, with their ``step``.
    """

    folder: Path
    result: Result
    spec: RunSpec
    frame: pd.DataFrame | None
    metrics: dict
    hashes: dict
    probes: dict = field(default_factory=dict)

    @functools.cached_property
    def predictions(self):
        """What metrics read of it, `Predictions`."""
        return Predictions(self.frame, self.result.facts, self.probes, self.result.probed, self.spec.seed)

    @property
    def unknown(self):
        """The metrics that its record claims and nobody here can compute: they are not shown."""
        return sorted({*self.result.metrics} - {*METRICS} - {*self.metrics})

    @property
    def home(self):
        """Where it belongs in a store."""
        ratio = "file" if self.spec.split_file else self.result.split["name"]
        return Path(
            self.result.task["name"], self.result.model["name"], self.result.method["name"], ratio, self.result.id
        )

    def compare(self, reference):
        """Raise `MubenchError` where a reference, another `CheckedRun`, was evaluated on other examples."""
        if self.frame is not None and reference.frame is not None and reference is not self:
            compare(self.predictions, reference.predictions)

    def score(self, references=None):
        """The metrics, with those that look at references: role → `CheckedRun`s, as `compute_all` takes them."""
        models = {
            role: [run.predictions for run in runs if run.frame is not None]
            for role, runs in (references or {}).items()
        }
        if self.frame is None or not any(models.values()):
            return self.metrics
        return compute_all(self.predictions, references=models, known=self.metrics)


def read_run(folder, limits=LIMITS, known=None):
    """The `CheckedRun` in a folder.

    limits: on its files.
    known: metrics that were computed from these very files before, name → value.

    Every size, type and range is as stated in `limits`, `schema` and `predictions`. Every claimed metric is equal to
    what the predictions give. Raises `MubenchError` for whatever is otherwise, and nothing else, whatever the files
    hold.
    """
    folder = Path(folder)
    text = read_bytes(folder / RESULT, limits.json)
    fields = parse_json(text, folder / RESULT, limits)
    with schema_errors(folder / RESULT):
        result, facts = Result.model_validate(fields), ResultFacts.model_validate(renamed(fields))
        spec = RunSpec(**result.spec)
        if result.predictions:
            PredictionFacts.model_validate(result.predictions)
    _refuse_contradictions(folder / RESULT, facts, spec)
    _refuse_other_ending(folder / RESULT, result)
    hashes = {RESULT: hashlib.sha256(text).hexdigest()}
    if not result.predictions and not os.path.lexists(folder / PREDICTIONS):
        if result.probes:
            raise MubenchError(f"{folder / RESULT}: probes without predictions of the evaluation")
        return CheckedRun(folder, result, spec, None, _known(result.metrics), hashes)
    data = read_bytes(folder / PREDICTIONS, limits.predictions)
    hashes[PREDICTIONS] = hashlib.sha256(data).hexdigest()
    if hashes[PREDICTIONS] != result.predictions.get("sha256"):
        raise MubenchError(
            f"{folder / PREDICTIONS} was changed after its result was written: its checksum is not the recorded one"
        )
    frame = parse_predictions(data, folder / PREDICTIONS, len(facts.task.labels), limits, facts.task.scored_sets)
    if len(frame) != result.predictions["rows"]:
        raise MubenchError(f"{folder / PREDICTIONS} has {len(frame)} rows, {RESULT} says {result.predictions['rows']}")
    run = CheckedRun(folder, result, spec, frame, {}, hashes)
    _read_probes(run, facts, limits)
    with library_errors(folder), np.errstate(all="ignore"):
        run.metrics = compute_all(run.predictions, known=known)
    agree(folder, _known(result.metrics, run.metrics), run.metrics)
    return run


def _read_probes(run, facts, limits):
    """Put the predictions of a run's other probes in, and the hashes of their files."""
    for name, probe in facts.probes.items():
        if probe.error:
            continue
        file, path = probe_file(name), run.folder / probe_file(name)
        data = read_bytes(path, limits.predictions)
        run.hashes[file] = hashlib.sha256(data).hexdigest()
        if run.hashes[file] != probe.sha256:
            raise MubenchError(f"{path} was changed after its result was written: its checksum is not the recorded one")
        run.probes[name] = parse_predictions(data, path, len(facts.task.labels), limits, steps=probe.steps)
        if len(run.probes[name]) != probe.rows:
            raise MubenchError(f"{path} has {len(run.probes[name])} rows, {RESULT} says {probe.rows}")
    stray = {path.name for path in (run.folder / PROBES).glob("*")} - {Path(file).name for file in run.hashes}
    if stray:
        raise MubenchError(f"{run.folder / PROBES} holds {printable(min(stray))}, of which {RESULT} says nothing")


def _known(claimed, found=()):
    """The metrics that are known here, of a record that may claim others."""
    return {name: value for name, value in claimed.items() if name in METRICS or name in found}


def read_record(folder, limits=LIMITS):
    """The `Result` in a folder, as its author claims it: its form is checked, its numbers are not (see `read_run`)."""
    path = Path(folder) / RESULT
    fields = parse_json(read_bytes(path, limits.json), path, limits)
    with schema_errors(path):
        return Result.model_validate(fields)


def is_elsewhere(method):
    """Whether a spec's method is ``name@hash``: weights that other code has unlearned."""
    return "@" in str(method)


def _refuse_contradictions(path, facts, spec):
    """Raise where the record says another thing than its spec."""
    elsewhere = is_elsewhere(spec.method)
    name = spec.method.partition("@")[0] if elsewhere else Path(spec.method.partition(":")[0]).stem
    pairs = {
        "method": (name, facts.method.name),
        "model": (spec.model, facts.model.name),
        "task": (Path(spec.task.partition(":")[0]).stem, facts.task.name),
    }
    if not spec.split_file:
        pairs["ratio"] = split_name(spec.ratio, spec.unit), facts.split.name
    if facts.schema_version == 2:
        pairs["seed of the original"] = None if spec.checkpoint else spec.seed, facts.checkpoint.seed
    if facts.schema_version == 2 and not elsewhere:  # of weights from elsewhere nobody knows the code
        needed = {"engine": facts.engine, "budget": facts.budget, "method.fingerprint": facts.method.fingerprint}
        for field, value in needed.items():
            if value is None:
                raise MubenchError(f"{path}: {field} is not said, though {printable(spec.method)!r} is a method")
    for field, (asked, found) in pairs.items():
        if asked != found:
            raise MubenchError(f"{path}: the spec's {field} is {printable(asked)!r}, the record's {found!r}")
    if spec.method != name and name in registry.methods.names():
        raise MubenchError(f"{path}: {printable(spec.method)!r} goes by the name of {name}, a method of the suite")


def _refuse_other_ending(path, result):
    """Raise where the record says another end of the run than its costs."""
    stopped = result.costs.get("stopped_by", "epochs")
    if result.status != "limited" and (result.status == "complete") != (stopped == "epochs"):
        raise MubenchError(f"{path}: it is said to be {result.status}, but stopped by {printable(stopped)}")
    most, used = (result.budget or {}).get("examples"), result.costs.get("examples")
    if most is not None and used is not None and used > most and stopped != "examples":
        raise MubenchError(
            f"{path}: it used {used:,} examples of a budget of {most:,}, and is not said to be stopped by it"
        )
