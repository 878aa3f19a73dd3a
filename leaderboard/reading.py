"""Results of strangers, read as numbers and text of stated sizes: nothing is unpickled, imported or run.

Regular files of bounded size; JSON of bounded depth; Parquet whose metadata are looked at before a row is decoded. What
comes out has known fields of known types and ranges, and every metric is what its predictions give.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import stat
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mubench import registry
from mubench.errors import MubenchError
from mubench.measure.metrics import METRICS, compute_all
from mubench.leaderboard.rows import Placed
from mubench.records.predictions import PREDICTIONS, agree
from mubench.records.result import RESULT, Result
from mubench.spec import RunSpec


@dataclass(frozen=True)
class Limits:
    """The most that is read of a stranger: bytes, unless said otherwise. Enforced before reading."""

    json: int = 2**20
    depth: int = 12  # of nested JSON
    text: int = 4_000  # characters of a text in JSON
    predictions: int = 64 * 2**20
    rows: int = 1_000_000  # of predictions
    values: int = 200_000_000  # numbers and texts in them
    decoded: int = 4 * 2**30  # memory that decoding them may take
    answer: int = 20_000  # characters of a predicted text
    weights: int = 16 * 2**30  # a file of them
    files: int = 20_000  # in a submission
    total: int = 64 * 2**30  # a submission, unpacked
    ratio: int = 100  # unpacked to packed


LIMITS = Limits()


# -- what a result says ------------------------------------------------------------------------------------------------

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, Field(max_length=400)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0, le=1e24)]
Share = Annotated[float, Field(ge=0, le=1)]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Part(BaseModel):
    """A part of a record: of these fields, types and ranges, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Task(Part):
    name: Name
    version: Count
    tier: Literal["mini", "paper"] = "mini"
    metric: Literal["accuracy", "micro_f1", "rouge_l", "clip_score"]
    metric_options: dict[Literal["positive_labels"], list[Count]] = {}
    also: list[Literal["accuracy", "verbatim"]] = []
    labels: Annotated[list[Line], Field(max_length=10_000)]
    random_guess: Share | None


Measures = Annotated[str, Field(pattern=r"^(-|(Loss|Logit|Rep)( \+ (Loss|Logit|Rep)){0,2})$")]


class Taxonomy(Part):
    """A method's row of the paper's Table 2."""

    forget: Measures
    corruption: Annotated[str, Field(pattern=r"^(-|(Data|Grad|Model)( \+ (Data|Grad|Model)){0,2})$")]
    retain: Measures
    parameters: Annotated[str, Field(pattern="^(dense|sparse) (internal|external)$")]
    schedule: Literal["none", "forget_only", "retain_only", "union", "joint", "alternate"]


class Method(Part):
    name: Name
    version: Count
    fingerprint: Fingerprint | None = None
    paper: Line = ""
    taxonomy: Taxonomy | None = None
    hyperparameters: dict[Line, Any] = {}
    recipe: dict[Line, Any] | None = None


class Model(Part):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    class_: Line = Field("", alias="class")
    parameters: Count = 0
    lora: dict[Line, Any] = {}


class Split(Part):
    name: Annotated[str, Field(pattern=r"^([0-9]{1,2}(\.[0-9]{1,6})?|file-[0-9a-f]{8})$")]
    forget: Count = 0
    retain: Count = 0
    checksum: Hash
    data: Hash


class Checkpoint(Part):
    source: Line = ""
    sha256: Hash
    test_score: Share | None
    seed: Count | None = None


class Budget(Part):
    examples: Count | None
    steps: Count | None
    seconds: Amount | None


class Costs(Part):
    unlearning_seconds: Amount | None
    cpu_seconds: Amount | None = None
    steps: Count | None = None
    examples: Count | None = None
    flops: Amount | None
    peak_memory_bytes: Amount | None
    stopped_by: Name = "epochs"
    losses: list[float | None] = []
    validation: list[float | None] = []


class Predicted(Part):
    sha256: Hash
    rows: Count


class Environment(Part):
    model_config = ConfigDict(extra="allow")
    device: Literal["cpu", "cuda"] | None = None
    machine: Line
    memory_bytes: Count | None = None
    threads: Count
    processes: Count = 1
    calibration_seconds: Annotated[float, Field(gt=0, le=1000000.0)] | None = None
    __pydantic_extra__: dict[str, Line | Count | bool | None]


# What schema 1 does not say.
SINCE_2 = {"engine": None, "budget": None, "method": "fingerprint", "checkpoint": "seed", "environment": "device"}


class Record(BaseModel):
    """The parts of a `Result`, one by one; each field is what a table or page may show."""

    model_config = ConfigDict(extra="ignore", strict=True)

    schema_version: Literal[1, 2] = Field(alias="schema")
    migrated: None = None  # only reading says that
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    task: Task
    method: Method
    model: Model
    split: Split
    checkpoint: Checkpoint
    engine: Count | None = None
    budget: Budget | None = None
    costs: Costs
    environment: Environment
    metrics: dict[Literal[tuple(METRICS)], Annotated[float, Field(ge=-1000000.0, le=1)] | None]
    evaluation_seconds: Amount
    weights: Hash | None = None
    started: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    command: Annotated[str, AfterValidator(lambda text: _plain_command(text))]

    @model_validator(mode="after")
    def _of_its_schema(self):
        for name, inner in SINCE_2.items():
            part = self if inner is None else getattr(self, name)
            if ((inner or name) in part.model_fields_set) != (self.schema_version == 2):
                raise ValueError(f"{'.'.join(filter(None, [name, inner]))} is what schema 2 says and schema 1 does not")
        return self


def _plain_command(text):
    """A reader may paste it: nothing but one mubench with its arguments, or nothing."""
    if text and (shlex.join(words := shlex.split(text)) != text or words[0] != "mubench"):
        raise ValueError("it must be one mubench command, quoted as shlex.join does")
    return text


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Run(Placed):
    """A result read with suspicion. ``frame``: its predictions, or None where only numbers are *reported*; ``metrics``:
    computed from them, or else as claimed; ``hashes``: of the files result.json and predictions.parquet."""

    folder: Path
    result: Result
    spec: RunSpec
    frame: pd.DataFrame | None
    metrics: dict
    hashes: dict

    @property
    def home(self):
        """Where it belongs in a store."""
        ratio = "file" if self.spec.split_file else self.result.split["name"]
        return Path(
            self.result.task["name"], self.result.model["name"], self.result.method["name"], ratio, self.result.id
        )

    def score(self, retrain=None):
        """The metrics, with the distances to a ``retrain`` `Run` where one is given."""
        if self.frame is None or retrain is None or retrain.frame is None:
            return self.metrics
        return compute_all(self.frame, self.result.facts, retrain.frame, self.metrics)


def read_run(folder, limits=LIMITS):
    """The `Run` in a folder: every size, type and range as stated, every claimed metric equal to what its predictions
    give.

    Raises `MubenchError` for whatever is otherwise, and nothing else, whatever the files hold.
    """
    folder = Path(folder)
    text = content(folder / RESULT, limits.json)
    said = parsed(text, folder / RESULT, limits)
    with sentence(folder / RESULT):
        result, record = Result.model_validate(said), Record.model_validate(said)
        spec = RunSpec(**result.spec)
        if result.predictions:
            Predicted.model_validate(result.predictions)
    _consistent(folder, record, spec)
    _ended(folder, result)
    hashes = {RESULT: hashlib.sha256(text).hexdigest()}
    if not result.predictions and not os.path.lexists(folder / PREDICTIONS):
        return Run(folder, result, spec, None, dict(result.metrics), hashes)
    data = content(folder / PREDICTIONS, limits.predictions)
    hashes[PREDICTIONS] = hashlib.sha256(data).hexdigest()
    if hashes[PREDICTIONS] != result.predictions.get("sha256"):
        raise MubenchError(
            f"{folder / PREDICTIONS} was changed after its result was written: its checksum is not the recorded one"
        )
    frame = _predictions(data, folder / PREDICTIONS, record, limits)
    if len(frame) != result.predictions["rows"]:
        raise MubenchError(f"{folder / PREDICTIONS} has {len(frame)} rows, {RESULT} says {result.predictions['rows']}")
    with foreign(folder), np.errstate(all="ignore"):
        metrics = compute_all(frame, result.facts)
    agree(folder, result.metrics, metrics)
    return Run(folder, result, spec, frame, metrics, hashes)


def read_record(folder, limits=LIMITS):
    """The `Result` in a folder, as its author claims it: its form is checked, its numbers are not (see `read_run`)."""
    path = Path(folder) / RESULT
    said = parsed(content(path, limits.json), path, limits)
    with sentence(path):
        return Result.model_validate(said)


def content(path, most):
    """The bytes of a regular file of at most so many."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise MubenchError(
            f"{path} is no file that can be read ({getattr(error, 'strerror', error)}); links are not followed"
        ) from None
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise MubenchError(f"{path} is no regular file")
        if about.st_size > most:
            raise MubenchError(f"{path} has {about.st_size:,} bytes, at most {most:,} are read")
        with open(handle, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(handle)


def parsed(data, path, limits=LIMITS):
    """JSON as Python values: no name twice, no NaN, numbers below 1e24, one line of printable characters per text."""

    def unique(pairs):
        names = [name for name, _ in pairs]
        if len({*names}) < len(names):
            raise ValueError("a name stands twice in one object")
        return dict(pairs)

    def refuse(word):
        raise ValueError(f"{word} is no number")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
        _decent(value, limits, limits.depth)
    except (ValueError, RecursionError) as error:
        raise MubenchError(f"{path} is refused: {str(error)[:200]}") from None
    return value


def _decent(value, limits, depth):
    if isinstance(value, (dict, list)):
        if not depth:
            raise ValueError(f"nested more than {limits.depth} deep")
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _decent(inner, limits, depth - 1)
    elif isinstance(value, str):
        if len(value) > limits.text:
            raise ValueError(f"a text of {len(value):,} characters, at most {limits.text:,} are read")
        if not value.isprintable():
            hidden = next(c for c in value if not c.isprintable())
            raise ValueError(
                f"a text with the character U+{ord(hidden):04X}, which is invisible, moves others or is none"
            )
        if not value.isascii() and any(
            all(map(unicodedata.combining, value[i : i + 3])) for i in range(len(value) - 2)
        ):
            raise ValueError("a text with accents piled upon each other")
    elif isinstance(value, (int, float)) and not abs(value) <= 1e24:
        raise ValueError("a number beyond 1e24")


def _consistent(folder, record, spec):
    """A record tells one story."""
    name = spec.method.partition("@")[0] if "@" in spec.method else Path(spec.method.partition(":")[0]).stem
    pairs = {
        "method": (name, record.method.name),
        "model": (spec.model, record.model.name),
        "task": (Path(spec.task.partition(":")[0]).stem, record.task.name),
    }
    if not spec.split_file:
        pairs["ratio"] = spec.ratio, record.split.name
    if record.schema_version == 2:
        pairs["seed of the original"] = None if spec.checkpoint else spec.seed, record.checkpoint.seed
    if record.schema_version == 2 and "@" not in spec.method:  # of weights from elsewhere nobody knows the code
        needed = {"engine": record.engine, "budget": record.budget, "method.fingerprint": record.method.fingerprint}
        for what, said in needed.items():
            if said is None:
                raise MubenchError(f"{folder / RESULT}: {what} is not said, though {plain(spec.method)!r} is a method")
    for what, (asked, found) in pairs.items():
        if asked != found:
            raise MubenchError(f"{folder / RESULT}: the spec's {what} is {plain(asked)!r}, the record's {found!r}")
    if spec.method != name and name in registry.methods.names():
        raise MubenchError(
            f"{folder / RESULT}: {plain(spec.method)!r} goes by the name of {name}, a method of the suite"
        )


def _ended(folder, result):
    """How a run ended is what its costs say."""
    stopped = result.costs.get("stopped_by", "epochs")
    if result.status != "limited" and (result.status == "complete") != (stopped == "epochs"):
        raise MubenchError(f"{folder / RESULT}: it is said to be {result.status}, but stopped by {plain(stopped)}")
    most, used = (result.budget or {}).get("examples"), result.costs.get("examples")
    if most is not None and used is not None and used > most and stopped != "examples":
        raise MubenchError(
            f"{folder / RESULT}: it used {used:,} examples of a budget of {most:,}, and is not said to be stopped by it"
        )


_TYPES = {
    "set": "string",
    "index": "int64",
    "target": "int64 string",
    "prediction": "int64 string",
    "score": "double float",
    "loss": "double float",
    "confidence": "double float",
    "logits": "list<double> list<float>",
    "incompetent": "list<double> list<float>",
}


def _predictions(data, path, record, limits):
    """Predictions as a frame: known columns of known types, each example once, scores in [0, 1]."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with _bounded(limits.decoded), foreign(path):
        file = pq.ParquetFile(
            pa.BufferReader(data),
            pre_buffer=False,
            thrift_string_size_limit=2**24,
            thrift_container_size_limit=2**20,
            schema_depth_limit=4,
            arrow_extensions_enabled=False,
        )
        about = file.metadata
        columns = [about.row_group(i).column(j) for i in range(about.num_row_groups) for j in range(about.num_columns)]
        types = {}
        for field in file.schema_arrow:
            kind = re.sub("large_|element: |item: | not null", "", str(field.type))
            if field.name in types or kind not in _TYPES.get(field.name, "").split():
                raise MubenchError(
                    f"{path}: column {plain(field.name)!r} of type {plain(kind)} is not expected (or stands there"
                    " twice)"
                )
            types[field.name] = kind
        if missing := {"set", "index", "target", "prediction", "score", "loss"} - {*types}:
            raise MubenchError(f"{path} lacks the column {min(missing)!r}")
        sizes = {
            "rows": about.num_rows,
            "values": sum(c.num_values for c in columns),
            "decoded": sum(c.total_uncompressed_size for c in columns),
        }
        for name, size in sizes.items():
            if not 0 < size <= getattr(limits, name):
                raise MubenchError(f"{path}: {size:,} {name} are announced, 1 to {getattr(limits, name):,} are read")
        table = file.read(use_threads=False, use_pandas_metadata=False).replace_schema_metadata(None)
        table.validate(full=True)
        for name in types:
            if (
                name not in ("loss", "confidence", "incompetent") and table[name].null_count
            ):  # a loss that is NaN is stored as null
                raise MubenchError(f"{path}: {table[name].null_count} rows have no {name}")
            if "string" in types[name] and pc.max(pc.utf8_length(table[name])).as_py() > limits.answer:
                raise MubenchError(f"{path}: a {name} of more than {limits.answer:,} characters")
            widths = pc.min_max(pc.list_value_length(table[name])).as_py() if "list" in types[name] else {}
            if not {*widths.values()} <= {None, len(record.task.labels)}:
                raise MubenchError(f"{path}: {name} are not {len(record.task.labels)} numbers, one for each label")
        frame = table.to_pandas()
    unknown = {*frame["set"].unique()} - {"test", "forget", "retain", "transfer"}
    for wrong, what in (
        (unknown, f"the set {plain(min(unknown, default=''))!r}"),
        ((frame["index"] < 0).any(), "a negative index"),
        (frame.duplicated(["set", "index"]).any(), "an example twice"),
        (not frame["score"].between(0, 1).all(), "a score outside of [0, 1]"),
    ):
        if wrong:
            raise MubenchError(f"{path} holds {what}")
    if types["target"] != types["prediction"]:
        raise MubenchError(f"{path}: targets are {types['target']}, predictions {types['prediction']}")
    return frame.sort_values(["set", "index"], ignore_index=True)


@contextlib.contextmanager
def _bounded(more):
    """So many bytes more of memory, and no others, while the block runs (on Linux): a small file may decode to a huge
    one.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    import pyarrow as pa

    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())  # the other one has address space in reserve
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = [pages * resource.getpagesize() + more, *(limit for limit in before if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(most), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        pa.set_memory_pool(pool)


@contextlib.contextmanager
def sentence(path):
    """The first thing a schema has against a file."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        raise MubenchError(
            ": ".join(filter(None, [str(path), ".".join(map(str, first["loc"]))[:80], first["msg"]]))
        ) from None


@contextlib.contextmanager
def foreign(path):
    """Whatever a library says of a stranger's file."""
    try:
        yield
    except MubenchError:
        raise
    except Exception as error:
        raise MubenchError(
            f"{path} is no use ({type(error).__name__}: {plain(error)}): it is damaged, or made to be"
        ) from None


def plain(text):
    return "".join(c if c.isprintable() else " " for c in str(text))[:120]
