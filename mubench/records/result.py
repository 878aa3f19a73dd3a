"""The record of a run (`Result`) and where records are kept (`Store`)."""

import contextlib
import json
import math
import os
import re
import shutil
import time
import traceback
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from mubench.records import machine
from mubench.cache import file_hash, fsync, whole, writing
from mubench.errors import MubenchError

SCHEMA = 2
RESULT, PREDICTIONS, MODEL, ERROR = "result.json", "predictions.parquet", "model", "error.json"


class Result(BaseModel):
    """The record of a finished run: everything needed to judge it and to do it again."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = Field(SCHEMA, alias="schema", description="version of this format")
    migrated: Literal[1] | None = Field(
        None, description="the schema it was written in, where that is older; what that lacks is None"
    )
    id: str = Field(description="hash of the spec and the code")
    spec: dict = Field(description="what was passed (RunSpec)")
    task: dict = Field(
        description="name, version, tier, metric and its options, further measures (also), labels, random_guess"
    )
    method: dict = Field(
        description=(
            "name, version, fingerprint of its code, paper, row of Table 2, all hyperparameters, the recipe they"
            " came to"
        )
    )
    engine: int | None = Field(None, description="version of the training code")
    model: dict = Field(
        description="name, class, number of parameters; with LoRA its share, parameters and the rank of each layer"
    )
    split: dict = Field(description="name, sizes, checksum of the forget rows, checksum of the training rows")
    checkpoint: dict = Field(
        description="the original: source, weights hash, its test score, the seed it was trained with"
    )
    budget: dict | None = Field(
        None, description="the most it might use, resolved before the run: examples, steps, seconds; None: no limit"
    )
    costs: dict = Field(
        description="unlearning seconds, steps, examples, FLOPs, peak memory, why it stopped, losses; None: not known"
    )
    evaluation_seconds: float
    metrics: dict[str, float | None] = Field(description="fractions; a function of the predictions and facts alone")
    predictions: dict = Field(description="sha256 and rows of predictions.parquet")
    weights: str | None = Field(
        None, description="sha256 over names, shapes and bytes of the unlearned weights, saved or not"
    )
    environment: dict = Field(
        description="versions, processor, memory, threads, calibration_seconds (`mubench.records.machine`), git"
    )
    command: str = Field(description="the command that repeats this run")
    tuning: dict | None = Field(None, description="how the hyperparameters were chosen (`mubench.tune`); None: by hand")
    curve: list[dict[str, float | None]] = Field(
        [], description="with eval_every: step, seconds, cpu_seconds, FLOPs and scores along the run"
    )
    started: str
    status: Literal["complete", "stopped", "limited"] = Field(
        description="stopped: a budget ran out; limited: a trial on a few rows, never ranked"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_this_schema(cls, said):
        """Records of schema 1 are migrated; of others nothing is guessed."""
        if isinstance(said, dict) and type(version := said.get("schema", SCHEMA)) is int and version != SCHEMA:
            if version == 1:
                return migrated(said)
            raise PydanticCustomError(
                "schema",
                "its schema is {version}, this mubench reads 1 and {known}: its command with --force runs it again",
                {"version": version, "known": SCHEMA},
            )
        return said

    @property
    def seconds(self):
        """What unlearning took: CPU seconds on a machine without GPU, which other load hardly changes, wall clock on
        one with.
        """
        cpu = self.costs.get("cpu_seconds") if self.environment.get("device") == "cpu" else None
        return self.costs["unlearning_seconds"] if cpu is None else cpu

    @property
    def clock(self):
        """What two records share whose times may be compared, or None: where the machine is not known, times are
        compared with none.
        """
        known = [self.environment.get(name) for name in machine.ALIKE]
        return None if self.migrated or None in known else tuple(map(str, known))

    @property
    def facts(self):
        """What metrics may use besides the predictions."""
        from mubench.measure.metrics.primary import load_primary

        try:
            return {
                "num_labels": len(self.task["labels"]),
                "random_guess": self.task["random_guess"],
                "original_test_score": self.checkpoint["test_score"],
                "scorer": load_primary(self.task["metric"], **self.task.get("metric_options", {})).score,
                **{measure: True for measure in self.task.get("also", ())},
            }
        except (KeyError, TypeError) as error:
            raise MubenchError(f"result {self.id} lacks a fact that metrics need: {error}") from None


def migrated(said):
    """A record of schema 1 as one of schema 2: what was not recorded then is None. The spec, the numbers and the id
    stay.
    """
    if not isinstance(environment := said.get("environment"), dict):
        return said | {"schema": SCHEMA, "migrated": 1}
    cpu = "CPU" in str(environment.get("machine"))  # what schema 1 had to say of the device
    return said | {"schema": SCHEMA, "migrated": 1, "environment": {"device": "cpu" if cpu else "cuda", **environment}}


def task_facts(task):
    """What a result records of its task."""
    return {
        "name": task.name,
        "version": task.version,
        "tier": task.tier,
        "metric": task.metric,
        "metric_options": task.metric_options,
        "also": list(task.also),
        "labels": list(task.labels),
        "random_guess": task.random_guess,
    }


def split_facts(split):
    """What a result records of its split."""
    return {
        "name": split.name,
        "forget": len(split.forget),
        "retain": split.n - len(split.forget),
        "checksum": split.checksum,
        "data": split.data,
    }


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
        """Holds a lock of this name for this process; gives False where another process holds it. Released by the
        system if we die.
        """
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
                    from mubench.models.networks import no_bars

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
        """Put what a run left in a folder of the same file system (its result, or why it failed) in its place,
        whole.
        """
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

    @contextlib.contextmanager
    def recording(self, spec, exhausted):
        """What makes the block fail is recorded: the reason, and what costs there were until then.

        exhausted: (spec, reason) → the reason of a run that failed for want of memory.
        """
        try:
            yield
        except Exception as error:
            known = isinstance(error, MubenchError)
            why = str(error) if known else f"{type(error).__name__}: {error}"
            if isinstance(error, MemoryError) or re.search(
                "(out of|not enough|allocate) memory", why, re.IGNORECASE
            ):  # PyTorch's have no class in common
                why = exhausted(spec, why)
            recorded = {"costs": error.costs.asdict()} if hasattr(error, "costs") else {}
            self.write_error(spec, why, traceback=None if known else traceback.format_exc(), **recorded)
            raise

    def write_error(self, spec, reason, **recorded):
        """Record that a run failed, and what was recorded until then."""
        with whole(self.path(spec) / ERROR) as path:
            path.write_text(
                json.dumps(
                    {"spec": spec.model_dump(), "id": spec.id, "reason": reason, "time": now(), **recorded},
                    indent=1,
                    default=str,
                )
                + "\n"
            )

    def clock(self):
        """The time as the file system tells it (coarser than the system's, or another machine's), after all files there
        are.
        """
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
        return [
            json.loads((folder / ERROR).read_text())
            for folder in self._folders(ERROR)
            if not (folder / RESULT).exists()
        ]

    def _folders(self, name):
        found = []
        for folder, inside, files in os.walk(self.root):
            inside[:] = [
                part for part in inside if not part.startswith(".")
            ]  # these are under way, and may vanish while we look
            found += [Path(folder)] * (name in files)
        return sorted(found)


def _write_predictions(frame, path):
    """As small as Parquet gets it without loss: results are published by the hundred."""
    from mubench.measure.metrics.base import VECTORS

    floats = [*frame.select_dtypes("float32"), *(f"{name}.list.element" for name in VECTORS if name in frame)]
    frame.to_parquet(
        path,
        index=False,
        compression="zstd",
        compression_level=19,
        use_byte_stream_split=floats,
        use_dictionary=["set", *frame.columns.intersection(["target", "prediction"])],
    )


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
        raise MubenchError(
            f"{path} is no result of schema 1 or {SCHEMA}:"
            f" {' '.join(filter(None, ['.'.join(map(str, first['loc'])), first['msg']]))}"
        ) from None


def read_predictions(folder):
    """The predictions in a result's folder, their hash verified against the result."""
    import pandas as pd

    path, recorded = Path(folder) / PREDICTIONS, str(read(folder).predictions.get("sha256"))
    if not path.is_file():
        raise MubenchError(f"{folder} has no {PREDICTIONS}: the result is incomplete")
    if file_hash(path) != recorded:
        raise MubenchError(
            f"{path} was changed after its result was written: its checksum is not the recorded {recorded[:12]}…"
        )
    try:
        return pd.read_parquet(path)
    except Exception as error:
        raise MubenchError(f"{path} cannot be read ({type(error).__name__}): it is no Parquet file") from error


def score(folder, retrain=None, tolerance=1e-12):
    """Recompute every metric of a stored result from its predictions.

    Returns name → value, with the distances to the retrained model where the folder of a ``retrain`` result is given.
    Raises `MubenchError` if a stored value differs by more than ``tolerance``.
    """
    from mubench.measure.metrics import compute_all

    result = read(folder)
    values = compute_all(read_predictions(folder), result.facts, None if retrain is None else read_predictions(retrain))
    agree(folder, result.metrics, values, tolerance)
    return values


def agree(folder, claimed, found, tolerance=1e-12, source="from the predictions"):
    """Raise unless every claimed metric was found again to a ``tolerance``."""
    for name, stored in claimed.items():
        value = found.get(name, math.nan)
        if not (stored is value is None) and not (None not in (stored, value) and abs(stored - value) <= tolerance):
            raise MubenchError(
                f"{folder}: metric {name} is {stored} in {RESULT} but {value} {source} (tolerance {tolerance:g})"
            )


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
