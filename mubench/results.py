"""Runs and their records: what is run (`RunSpec`), what came of it (`Result`), where both are kept (`Store`)."""
import contextlib
import hashlib
import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from mubench import networks, registry
from mubench.cache import file_hash, fsync, whole, writing
from mubench.errors import MubenchError
from mubench.splits import ratio_name

SCHEMA = 1
RESULT, PREDICTIONS, MODEL, ERROR = "result.json", "predictions.parquet", "model", "error.json"


class Incompatible(MubenchError):
    """The method needs what the task does not provide."""


class RunSpec(BaseModel):
    """What exactly is run; frozen. ``id`` is the hash of its canonical JSON and of the versions of task and method."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="registry name of the task, or path/to/file.py:Class")
    model: str = Field(description="name of the task's model")
    method: str = Field(description="registry name of the method, path/to/file.py:Class, or name@hash of weights that other code has unlearned")
    ratio: str = Field("5", description="deletion ratio in per cent, above 0 and at most 50; ignored with split_file")
    seed: int = Field(0, ge=0, description="of everything random in unlearning, not of the split")
    params: dict[str, Any] = Field({}, description="hyperparameters passed; the others keep the method's defaults")
    split_file: Optional[str] = Field(None, description="an index file used instead of the standard split")
    checkpoint: Optional[str] = Field(None, description="the original model, a folder or hub id, instead of the standard one")
    precision: Literal["no", "bf16", "fp16"] = Field("no", description="mixed precision")
    lora: Optional[float] = Field(None, gt=0, le=100, description="train LoRA adapters of so many per cent of the original's parameters")
    lora_rank: Optional[int] = Field(None, gt=0, description="or of this rank")
    curriculum: Optional[Literal["superloss"]] = Field(None, description="weighs examples by how easy they are")
    curriculum_lambda: float = Field(1.0, gt=0, allow_inf_nan=False, description="of superloss: the larger, the more alike all examples count")
    curriculum_tau: Union[Literal["mean", "log_classes"], float] = Field("mean", description="of superloss: the loss of an average example")
    max_steps: Optional[int] = Field(None, gt=0, description="budget of optimiser steps")
    max_seconds: Optional[float] = Field(None, gt=0, description="budget of seconds")
    limit: Optional[int] = Field(None, gt=0, description="only so many rows of each set: a trial, never ranked")
    trials: int = Field(0, ge=0, description="how many settings were tried on validation data to choose params; 0: by hand")

    @property
    def adapt(self):
        """What LoRA is asked for (see `lora.solve`), or None."""
        said = {"share": self.lora, "rank": self.lora_rank}
        return {name: value for name, value in said.items() if value is not None} or None

    @property
    def plain(self):
        """Whether the method runs as it is, without LoRA and curriculum."""
        return not (self.adapt or self.curriculum)

    @property
    def id(self):
        """12 hex digits, the same for the same spec, whatever order its options were given in."""
        said = self.model_dump(exclude_defaults=True) | {"ratio": self.ratio, "seed": self.seed}
        said["versions"] = [str(registry.tasks.fingerprint(self.task)), str(registry.methods.fingerprint(self.method))]
        if self.split_file:
            del said["ratio"]
            said["split_file"] = hashlib.sha256(Path(self.split_file).read_bytes()).hexdigest()
        if self.checkpoint and networks.weights(self.checkpoint):
            said["checkpoint"] = networks.weights_sha256(self.checkpoint)  # other weights in the same folder are another run
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self):
        """Where its result lies in a store: task/model/method/ratio/id."""
        names = registry.tasks.name(self.task), self.model, registry.methods.name(self.method)
        return Path(*names, "file" if self.split_file else self.ratio, self.id)


def make_spec(**fields):
    """A `RunSpec` from what a user typed: names checked, ratio and hyperparameters brought to one form."""
    task = registry.load_task(fields["task"])
    method = registry.load_method(fields["method"], **fields.get("params") or {})
    fields["model"] = task.model(fields.get("model"))
    fields["ratio"] = ratio_name(fields.get("ratio", "5"))
    fields["params"] = {n: v for n in fields.get("params") or {} if (v := getattr(method, n)) != method.defaults()[n]}
    if fields.get("split_file") and not Path(fields["split_file"]).is_file():
        raise MubenchError(f"no index file {str(fields['split_file'])!r}: give a file with one row index per line")
    if missing := method.needs - set(task.provides):
        raise Incompatible(f"{method.name} cannot work on {task.name}: it needs {', '.join(sorted(missing))}, which the task "
                           "does not provide")
    try:
        spec = RunSpec(**{k: v for k, v in fields.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise MubenchError(f"{'.'.join(map(str, first['loc']))}={first['input']!r}: {first['msg']}") from None
    if spec.adapt and method.start == "fresh":
        raise Incompatible(f"{method.name} starts from a new model, LoRA adapts a trained one: run it without")
    if spec.adapt and not method.adapts:
        raise Incompatible(f"{method.name} edits the weights themselves, LoRA leaves them as they are: run it without")
    if spec.lora and spec.lora_rank:
        raise MubenchError(f"lora={spec.lora:g} and lora_rank={spec.lora_rank} are two answers to one question: give one of them")
    if spec.curriculum_tau == "log_classes" and not task.num_labels:
        raise MubenchError(f"curriculum_tau='log_classes': {task.name} has no classes, use mean or a number")
    if not spec.curriculum and {"curriculum_lambda", "curriculum_tau"} & {*spec.model_dump(exclude_defaults=True)}:
        raise MubenchError("curriculum_lambda and curriculum_tau are of a curriculum: say curriculum='superloss' too")
    return spec


class Result(BaseModel):
    """The record of a finished run: everything needed to judge it and to do it again."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = Field(SCHEMA, alias="schema", description="version of this format")
    id: str = Field(description="hash of the spec")
    spec: dict = Field(description="what was passed (RunSpec)")
    task: dict = Field(description="name, version, tier, metric and its options, further measures (also), labels, random_guess")
    method: dict = Field(description="name, version, paper, row of Table 2, all hyperparameters, the recipe they came to")
    model: dict = Field(description="name, class, number of parameters; with LoRA its share, parameters and the rank of each layer")
    split: dict = Field(description="name, sizes, checksum of the forget rows, checksum of the training rows")
    checkpoint: dict = Field(description="the original: source, weights hash, its test score")
    costs: dict = Field(description="unlearning seconds, steps, examples, FLOPs, peak memory, why it stopped, losses; None: not known")
    evaluation_seconds: float
    metrics: dict[str, Optional[float]] = Field(description="fractions; a function of the predictions and facts alone")
    predictions: dict = Field(description="sha256 and rows of predictions.parquet")
    weights: Optional[str] = Field(None, description="sha256 over names, shapes and bytes of the unlearned weights, saved or not")
    environment: dict = Field(description="versions, hardware, git state")
    command: str = Field(description="the command that repeats this run")
    tuning: Optional[dict] = Field(None, description="how the hyperparameters were chosen (`mubench.tune`); None: by hand")
    curve: list[dict[str, Optional[float]]] = Field([], description="with eval_every: step, seconds, cpu_seconds, FLOPs and scores along the run")
    started: str
    status: Literal["complete", "stopped", "limited"] = Field(
        description="stopped: a budget ran out; limited: a trial on a few rows, never ranked")

    @model_validator(mode="before")
    @classmethod
    def _of_this_schema(cls, said):
        """Nothing is guessed of a record of another schema."""
        if isinstance(said, dict) and type(version := said.get("schema", SCHEMA)) is int and version != SCHEMA:
            raise PydanticCustomError("schema", "its schema is {version}, this mubench reads {known}: its command with --force runs it again",
                                      {"version": version, "known": SCHEMA})
        return said

    @property
    def seconds(self):
        """What unlearning took: CPU seconds on a machine without GPU, which other load hardly changes, wall clock on one with."""
        cpu = self.costs.get("cpu_seconds") if "CPU" in self.environment["machine"] else None
        return self.costs["unlearning_seconds"] if cpu is None else cpu

    @property
    def facts(self):
        """What metrics may use besides the predictions."""
        from mubench.metrics.primary import load_primary

        try:
            return {"num_labels": len(self.task["labels"]), "random_guess": self.task["random_guess"],
                    "original_test_score": self.checkpoint["test_score"],
                    "scorer": load_primary(self.task["metric"], **self.task.get("metric_options", {})).score,
                    **{measure: True for measure in self.task.get("also", ())}}
        except (KeyError, TypeError) as error:
            raise MubenchError(f"result {self.id} lacks a fact that metrics need: {error}") from None


def task_facts(task):
    """What a result records of its task."""
    return {"name": task.name, "version": task.version, "tier": task.tier, "metric": task.metric, "metric_options": task.metric_options,
            "also": list(task.also), "labels": list(task.labels), "random_guess": task.random_guess}


def split_facts(split):
    """What a result records of its split."""
    return {"name": split.name, "forget": len(split.forget), "retain": split.n - len(split.forget), "checksum": split.checksum,
            "data": split.data}


class Store:
    """A folder of results. A reader sees a whole result or none; writers of the same run exclude each other."""

    def __init__(self, root="results"):
        self.root = Path(root)

    def path(self, spec):
        return self.root / spec.folder

    def done(self, spec, curve=False):
        """Whether it holds the result of a run (with its curve)."""
        return (self.path(spec) / RESULT).is_file() and (not curve or bool(read(self.path(spec)).curve))

    @contextlib.contextmanager
    def hold(self, name):
        """Holds a lock of this name for this process; gives False where another process holds it. Released by the system if we die."""
        from filelock import FileLock, Timeout

        with writing(self.root):
            (self.root / ".locks").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".locks" / f"{name}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                lock = None
        try:
            yield lock is not None
        finally:
            if lock:
                lock.release()

    @contextlib.contextmanager
    def claim(self, spec):
        """`hold` a run; what a process that died in the middle of it has left is put in order."""
        with self.hold(spec.id) as mine:
            if mine:
                self._restore(spec)
                for left_over in self.path(spec).parent.glob(f".{spec.id}.*"):
                    shutil.rmtree(left_over, ignore_errors=True)
            yield mine

    def write(self, spec, result, frame, model=None, exhibits=None):
        """Store a result whole: written aside, synced, renamed. ``frame``: predictions; ``model``: saved too if given;
        ``exhibits``: files to lay beside, name → bytes."""
        final = self.path(spec)
        with writing(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            aside, old = (final.parent / f".{spec.id}.{suffix}" for suffix in (os.getpid(), "old"))
            try:
                aside.mkdir()
                _write_predictions(frame, aside / PREDICTIONS)
                for name, content in (exhibits or {}).items():
                    (aside / name).write_bytes(content)
                if model is not None:
                    from mubench.networks import no_bars

                    with no_bars():
                        model.save_pretrained(aside / MODEL, safe_serialization=True)
                result.predictions = {"sha256": file_hash(aside / PREDICTIONS), "rows": len(frame)}
                (aside / RESULT).write_text(result.model_dump_json(by_alias=True, indent=1) + "\n")
                self._place(aside, spec)
            finally:
                self._restore(spec)
                for left_over in (aside, old):
                    shutil.rmtree(left_over, ignore_errors=True)
        return final

    def adopt(self, spec, folder):
        """Put what a run left in a folder of the same file system (its result, or why it failed) in its place, whole."""
        final = self.path(spec)
        with writing(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            if not (folder / RESULT).is_file():
                with whole(final / ERROR) as path:
                    path.write_bytes((folder / ERROR).read_bytes())
                return
            try:
                self._place(folder, spec)
            finally:
                self._restore(spec)
                shutil.rmtree(final.parent / f".{spec.id}.old", ignore_errors=True)

    def _place(self, folder, spec):
        final = self.path(spec)
        for path in [*folder.rglob("*"), folder]:
            fsync(path)
        if final.exists():
            final.rename(final.parent / f".{spec.id}.old")
        folder.rename(final)
        fsync(final.parent)

    def _restore(self, spec):
        """Put back a result that was moved out of the way of a new one that never came."""
        old, final = self.path(spec).parent / f".{spec.id}.old", self.path(spec)
        if old.exists() and not final.exists():
            old.rename(final)

    def write_error(self, spec, reason, **recorded):
        """Record that a run failed, and what was recorded until then."""
        with whole(self.path(spec) / ERROR) as path:
            path.write_text(json.dumps({"spec": spec.model_dump(), "id": spec.id, "reason": reason, "time": now(), **recorded},
                                       indent=1, default=str) + "\n")

    def clock(self):
        """The time as the file system tells it (coarser than the system's, or another machine's), after all files there are."""
        with writing(self.root):
            (self.root / ".locks").mkdir(parents=True, exist_ok=True)
            times, path = [], self.root / ".locks" / "clock"
            while len(set(times)) < 2:
                path.touch()
                times.append(path.stat().st_mtime)
                time.sleep(0.001)
            return times[-1]

    def failed(self, spec, since=0.0):
        """Whether the run failed, at or after a time (seconds since the epoch), and nobody succeeded later."""
        path, result = self.path(spec) / ERROR, self.path(spec) / RESULT
        if result.is_file():
            since = max(since, result.stat().st_mtime)
        return path.is_file() and path.stat().st_mtime >= since

    def results(self):
        """Folders of all finished runs below the root, in a fixed order."""
        return self._folders(RESULT)

    def errors(self):
        """What `write_error` recorded of runs that have no result."""
        return [json.loads((folder / ERROR).read_text()) for folder in self._folders(ERROR) if not (folder / RESULT).exists()]

    def _folders(self, name):
        found = []
        for folder, inside, files in os.walk(self.root):
            inside[:] = [part for part in inside if not part.startswith(".")]  # these are under way, and may vanish while we look
            found += [Path(folder)] * (name in files)
        return sorted(found)


def _write_predictions(frame, path):
    """As small as Parquet gets it without loss: results are published by the hundred."""
    from mubench.metrics.base import VECTORS

    floats = [*frame.select_dtypes("float32"), *(f"{name}.list.element" for name in VECTORS if name in frame)]
    frame.to_parquet(path, index=False, compression="zstd", compression_level=19, use_byte_stream_split=floats,
                     use_dictionary=["set", *frame.columns.intersection(["target", "prediction"])])


def read(folder):
    """The `Result` in a folder; raises `MubenchError` where there is none or it is not one."""
    path = Path(folder)
    path = path / RESULT if path.is_dir() else path
    if not path.is_file():
        raise MubenchError(f"no result at {str(folder)!r}: give a folder that holds {RESULT}")
    try:
        return Result.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        raise MubenchError(f"{path} is no result of schema {SCHEMA}: {' '.join(filter(None, ['.'.join(map(str, first['loc'])), first['msg']]))}") from None


def read_predictions(folder):
    """The predictions in a result's folder, their hash verified against the result."""
    import pandas as pd

    path, recorded = Path(folder) / PREDICTIONS, str(read(folder).predictions.get("sha256"))
    if not path.is_file():
        raise MubenchError(f"{folder} has no {PREDICTIONS}: the result is incomplete")
    if file_hash(path) != recorded:
        raise MubenchError(f"{path} was changed after its result was written: its checksum is not the recorded {recorded[:12]}…")
    try:
        return pd.read_parquet(path)
    except Exception as error:
        raise MubenchError(f"{path} cannot be read ({type(error).__name__}): it is no Parquet file") from error


def score(folder, retrain=None, tolerance=1e-12):
    """Recompute every metric of a stored result from its predictions.

    Returns name → value, with the distances to the retrained model where the folder of a ``retrain`` result is given.
    Raises `MubenchError` if a stored value differs by more than ``tolerance``.
    """
    from mubench.metrics import compute_all

    result = read(folder)
    values = compute_all(read_predictions(folder), result.facts, None if retrain is None else read_predictions(retrain))
    agree(folder, result.metrics, values, tolerance)
    return values


def agree(folder, claimed, found, tolerance=1e-12, source="from the predictions"):
    """Raise unless every claimed metric was found again to a ``tolerance``."""
    for name, stored in claimed.items():
        value = found.get(name, math.nan)
        if not (stored is value is None) and not (None not in (stored, value) and abs(stored - value) <= tolerance):
            raise MubenchError(f"{folder}: metric {name} is {stored} in {RESULT} but {value} {source} (tolerance {tolerance:g})")


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
