"""How far a result may be believed: read with limits, recomputed, compared with the task's own data, and run again.

Results come from strangers. What they send is read as numbers and text of stated sizes, never unpickled, imported or run: JSON of
bounded depth, Parquet whose metadata are looked at before a row is decoded, weights in safetensors, put into the task's own network.
"""
import contextlib
import enum
import functools
import hashlib
import json
import math
import os
import re
import stat
import sys
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mubench import registry
from mubench.errors import MubenchError
from mubench.metrics import METRICS, compute_all
from mubench.results import MODEL, PREDICTIONS, RESULT, Result, RunSpec, agree, split_facts, task_facts
from mubench.splits import ratio_name

SUBMISSION, VERIFIED = "submission.json", "verified.json"
SAMPLE = 256  # examples of each set that are predicted again
CLOSE = {"no": 0.01, "bf16": 0.1, "fp16": 0.05}  # of predictions made again on another machine: so far off, relative to the largest
STRAYS = 0.01  # share of examples that may be off by more: near ties go either way
RERUN = 0.03  # of metrics of a run done again on another machine
FAST = {"cpu_seconds": 2, "unlearning_seconds": 5}  # so many times retrain's FLOPs per second is no longer believed


class Level(str, enum.Enum):
    """What a result's numbers rest on, from least to most."""

    REPORTED = "reported"  # the numbers alone were given: shown, never ranked
    RECOMPUTED = "recomputed"  # every metric follows from predictions, which are of the task's own examples and targets
    RE_EVALUATED = "re-evaluated"  # the predictions were made again from the weights
    REPRODUCED = "reproduced"  # the run was done again from its spec

    __str__ = str.__str__

    @property
    def rank(self):
        return list(Level).index(self)


@dataclass(frozen=True)
class Limits:
    """The most that is read of a stranger: bytes, unless said otherwise. Enforced before reading."""

    json: int = 256 * 2**10
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


class Unavailable(MubenchError):
    """What would raise a result's level is not to be had; nothing was found against it."""


# -- what a result says ------------------------------------------------------------------------------------------------

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, Field(max_length=400)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0, le=1e24)]
Share = Annotated[float, Field(ge=0, le=1)]


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
    random_guess: Optional[Share]


class Method(Part):
    name: Name
    version: Count
    paper: Line = ""
    taxonomy: dict[Name, Line] = {}
    hyperparameters: dict[Line, Any] = {}
    recipe: Optional[dict[Line, Any]] = None


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
    test_score: Optional[Share]


class Costs(Part):
    unlearning_seconds: Optional[Amount]
    cpu_seconds: Optional[Amount] = None
    steps: Optional[Count] = None
    examples: Optional[Count] = None
    flops: Optional[Amount]
    peak_memory_bytes: Optional[Amount]
    stopped_by: Name = "epochs"
    losses: list[Optional[float]] = []
    validation: list[Optional[float]] = []


class Predicted(Part):
    sha256: Hash
    rows: Count


class Environment(Part):
    model_config = ConfigDict(extra="allow")
    machine: Line
    threads: Count
    processes: Count = 1


class Record(BaseModel):
    """The parts of a `Result`, one by one; each field is what a table or page may show."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    task: Task
    method: Method
    model: Model
    split: Split
    checkpoint: Checkpoint
    costs: Costs
    environment: Environment
    metrics: dict[Literal[tuple(METRICS)], Optional[Annotated[float, Field(ge=-1e6, le=1)]]]
    evaluation_seconds: Amount
    weights: Optional[Hash] = None
    started: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Run:
    """A result read with suspicion. ``frame``: its predictions, or None where only numbers are *reported*; ``metrics``: computed from
    them, or else as claimed; ``hashes``: of the files result.json and predictions.parquet."""

    folder: Path
    result: Result
    spec: RunSpec
    frame: Optional[pd.DataFrame]
    metrics: dict
    hashes: dict

    def score(self, retrain=None):
        """The metrics, with the distances to a ``retrain`` `Run` where one is given."""
        if self.frame is None or retrain is None or retrain.frame is None:
            return self.metrics
        return compute_all(self.frame, self.result.facts, retrain.frame)


def read_run(folder, limits=LIMITS):
    """The `Run` in a folder: every size, type and range as stated, every claimed metric equal to what its predictions give.

    Raises `MubenchError` for whatever is otherwise, and nothing else, whatever the files hold.
    """
    folder = Path(folder)
    text = content(folder / RESULT, limits.json)
    said = parsed(text, folder / RESULT, limits)
    with _sentence(folder / RESULT):
        result, record = Result.model_validate(said), Record.model_validate(said)
        spec = RunSpec(**result.spec)
        if result.predictions:
            Predicted.model_validate(result.predictions)
    _consistent(folder, record, spec)
    hashes = {RESULT: hashlib.sha256(text).hexdigest()}
    if not result.predictions and not os.path.lexists(folder / PREDICTIONS):
        return Run(folder, result, spec, None, dict(result.metrics), hashes)
    data = content(folder / PREDICTIONS, limits.predictions)
    hashes[PREDICTIONS] = hashlib.sha256(data).hexdigest()
    if hashes[PREDICTIONS] != result.predictions.get("sha256"):
        raise MubenchError(f"{folder / PREDICTIONS} was changed after its result was written: its checksum is not the recorded one")
    frame = _predictions(data, folder / PREDICTIONS, record, limits)
    if len(frame) != result.predictions["rows"]:
        raise MubenchError(f"{folder / PREDICTIONS} has {len(frame)} rows, {RESULT} says {result.predictions['rows']}")
    with _foreign(folder), np.errstate(all="ignore"):
        metrics = compute_all(frame, result.facts)
    agree(folder, result.metrics, metrics)
    return Run(folder, result, spec, frame, metrics, hashes)


def content(path, most):
    """The bytes of a regular file of at most so many."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise MubenchError(f"{path} is no file that can be read ({getattr(error, 'strerror', error)}); links are not followed") from None
    with open(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise MubenchError(f"{path} is no regular file")
        if about.st_size > most:
            raise MubenchError(f"{path} has {about.st_size:,} bytes, at most {most:,} are read")
        return file.read(most)


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
        if hidden := [c for c in value if not c.isprintable()]:
            raise ValueError(f"a text with the character U+{ord(hidden[0]):04X}, which is invisible, moves others or is none")
        if any(all(map(unicodedata.combining, value[i:i + 3])) for i in range(len(value) - 2)):
            raise ValueError("a text with accents piled upon each other")
    elif isinstance(value, (int, float)) and not abs(value) <= 1e24:
        raise ValueError("a number beyond 1e24")


def _consistent(folder, record, spec):
    """A record tells one story."""
    name = spec.method.partition("@")[0] if "@" in spec.method else Path(spec.method.partition(":")[0]).stem
    pairs = {"method": (name, record.method.name), "model": (spec.model, record.model.name),
             "task": (Path(spec.task.partition(":")[0]).stem, record.task.name)}
    if not spec.split_file:
        pairs["ratio"] = ratio_name(spec.ratio), record.split.name
    for what, (asked, found) in pairs.items():
        if asked != found:
            raise MubenchError(f"{folder / RESULT}: the spec's {what} is {_plain(asked)!r}, the record's {found!r}")
    if spec.method != name and name in registry.methods.names():
        raise MubenchError(f"{folder / RESULT}: {_plain(spec.method)!r} goes by the name of {name}, a method of the suite")


_TYPES = {"set": "string", "index": "int64", "target": "int64 string", "prediction": "int64 string", "score": "double float",
          "loss": "double float", "confidence": "double float", "logits": "list<double> list<float>", "incompetent": "list<double> list<float>"}


def _predictions(data, path, record, limits):
    """Predictions as a frame: known columns of known types, each example once, scores in [0, 1]."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with _bounded(limits.decoded), _foreign(path):
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False, thrift_string_size_limit=2**24, thrift_container_size_limit=2**20,
                              schema_depth_limit=4, arrow_extensions_enabled=False)
        about = file.metadata
        columns = [about.row_group(i).column(j) for i in range(about.num_row_groups) for j in range(about.num_columns)]
        types = {}
        for field in file.schema_arrow:
            kind = re.sub("large_|element: |item: | not null", "", str(field.type))
            if field.name in types or kind not in _TYPES.get(field.name, "").split():
                raise MubenchError(f"{path}: column {_plain(field.name)!r} of type {_plain(kind)} is not expected (or stands there twice)")
            types[field.name] = kind
        if missing := {"set", "index", "target", "prediction", "score", "loss"} - {*types}:
            raise MubenchError(f"{path} lacks the column {min(missing)!r}")
        sizes = {"rows": about.num_rows, "values": sum(c.num_values for c in columns), "decoded": sum(c.total_uncompressed_size for c in columns)}
        for name, size in sizes.items():
            if not 0 < size <= getattr(limits, name):
                raise MubenchError(f"{path}: {size:,} {name} are announced, 1 to {getattr(limits, name):,} are read")
        table = file.read(use_threads=False, use_pandas_metadata=False).replace_schema_metadata(None)
        table.validate(full=True)
        for name in types:
            if name not in ("confidence", "logits", "incompetent") and table[name].null_count:
                raise MubenchError(f"{path}: {table[name].null_count} rows have no {name}")
            if "string" in types[name] and pc.max(pc.utf8_length(table[name])).as_py() > limits.answer:
                raise MubenchError(f"{path}: a {name} of more than {limits.answer:,} characters")
            if "list" in types[name] and pc.max(pc.list_value_length(table[name])).as_py() not in (None, len(record.task.labels)):
                raise MubenchError(f"{path}: {name} are not {len(record.task.labels)} numbers, one for each label")
        frame = table.to_pandas()
    unknown = {*frame["set"].unique()} - {"test", "forget", "retain", "transfer"}
    for wrong, what in ((unknown, f"the set {_plain(min(unknown, default=''))!r}"), ((frame["index"] < 0).any(), "a negative index"),
                        (frame.duplicated(["set", "index"]).any(), "an example twice"),
                        (not frame["score"].between(0, 1).all(), "a score outside of [0, 1]")):
        if wrong:
            raise MubenchError(f"{path} holds {what}")
    if types["target"] != types["prediction"]:
        raise MubenchError(f"{path}: targets are {types['target']}, predictions {types['prediction']}")
    return frame.sort_values(["set", "index"], ignore_index=True)


@contextlib.contextmanager
def _bounded(more):
    """So many bytes more of memory, and no others, while the block runs (on Linux): a small file may decode to a huge one."""
    if sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = [pages * resource.getpagesize() + more, *(limit for limit in before if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(most), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def _sentence(path):
    """The first thing a schema has against a file."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        raise MubenchError(f"{path}: {'.'.join(map(str, first['loc']))[:80]}: {first['msg']}") from None


@contextlib.contextmanager
def _foreign(path):
    """Whatever a library says of a stranger's file."""
    try:
        yield
    except MubenchError:
        raise
    except Exception as error:
        raise MubenchError(f"{path} is no use ({type(error).__name__}: {_plain(error)}): it is damaged, or made to be") from None


def _plain(text):
    return "".join(c if c.isprintable() else " " for c in str(text))[:120]


# -- recomputed: compared with the task's own data -----------------------------------------------------------------------


def compare(run):
    """What of a run agrees with the suite: the task's facts, the original, the split, each example and its target, and what one
    column of predictions says of another. Returns flags: what could not be compared. Raises `MubenchError` where something differs."""
    result, spec, flags = run.result, run.spec, []
    task = _loaded(spec.task)
    _same(run, "limited", result.status == "limited", bool(spec.limit))
    _same(run, "model", spec.model, task.model(spec.model))
    method = registry.load_method(spec.method, **spec.params) if spec.method in registry.methods.names() else None
    if (result.task["version"], result.method["version"]) != (task.version, method.version if method else result.method["version"]):
        flags.append("made with another version of task or method")
    else:
        if not (spec.checkpoint or spec.split_file or ".py" in spec.method):  # whose ids depend on files that are not here
            _same(run, "id", result.id, spec.id)
        if method:
            _same(run, "hyperparameters", result.method["hyperparameters"], method.hyperparameters())
    try:
        flags += _compare_original(run, task)
        expected, split = _expected(spec.task, spec.model, ratio_name(spec.ratio), spec.limit)
    except MubenchError as error:
        return [*flags, f"not compared with the data, which are not at hand: {str(error)[:200]}"]
    for name, value in task_facts(task).items():
        _same(run, f"task.{name}", result.task[name], value)
    if spec.split_file:
        flags.append("forget set of its own")
        _same(run, "split.data", result.split["data"], split["data"])
    else:
        for name, value in split.items():
            _same(run, f"split.{name}", result.split[name], value)
    if run.frame is None:
        return [*flags, "no predictions"]
    if not spec.split_file:
        for name, rows in expected.groupby("set"):
            mine = run.frame[run.frame["set"] == name]
            if not np.array_equal(mine["index"], rows["index"]):
                raise MubenchError(f"{run.folder}: the examples of the {name} set are others than the task's, {len(mine)} for {len(rows)}")
            if off := int((mine["target"].to_numpy() != rows["target"].to_numpy()).sum()):
                raise MubenchError(f"{run.folder}: {off} targets of the {name} set are not the task's own")
        if len(expected) != len(run.frame):
            raise MubenchError(f"{run.folder} has {len(run.frame)} predictions, the task {len(expected)} examples")
    return flags + _coherent(run)


def _same(run, what, claimed, found):
    if json.dumps(claimed, sort_keys=True) != json.dumps(found, sort_keys=True):
        raise MubenchError(f"{run.folder}: {what} is {str(claimed)[:80]} in {RESULT}, but {str(found)[:80]} in the suite")


def _compare_original(run, task):
    from mubench.originals import CARD

    card = task.originals_dir(run.spec.model) / CARD
    if run.spec.checkpoint or not card.is_file():
        return ["original of its own" if run.spec.checkpoint else "original not compared: it does not ship with the suite"]
    card = json.loads(card.read_text())
    _same(run, "checkpoint.sha256", run.result.checkpoint["sha256"], card["sha256"])
    if not run.spec.limit:
        _same(run, "checkpoint.test_score", run.result.checkpoint["test_score"], card["scores"]["test"])
    return []


@functools.lru_cache(maxsize=8)
def _expected(task, model, ratio, limit):
    """Set, index and target of all examples that a run predicts, as a frame, and the facts of the split."""
    import torch

    task = _loaded(task)
    split, frames = task.split(ratio), []
    for name, view in _shown(task, model, split, limit).items():
        targets = [task.targets(view[chunk]) for chunk in torch.arange(len(view)).split(256)]
        frames.append(pd.DataFrame({"set": name, "index": view.rows.numpy(), "target": [t for chunk in targets for t in
                                                                                        (chunk if isinstance(chunk, list) else chunk.tolist())]}))
    return pd.concat(frames, ignore_index=True).sort_values(["set", "index"], ignore_index=True), split_facts(split)


@functools.lru_cache(maxsize=2)
def _loaded(name):
    """A task of the suite, kept: its data are read once. A file that a submission names is never imported."""
    if name not in registry.tasks.names():
        raise MubenchError(f"{_plain(name)!r} is no task of the suite: results on a task of one's own cannot be compared")
    return registry.load_task(name)


def _shown(task, model, split, limit):
    from mubench.evaluation import SETS

    sets = task.sets(model, split, limit)
    return task.scored({name: sets[name] for name in SETS if name in sets})


def _coherent(run):
    """Columns say the same of each example: its score follows from prediction and target, loss and prediction from the logits."""
    from scipy.special import logsumexp

    from mubench.metrics.primary import Primary, load_primary

    frame, where = run.frame, f"{run.folder / PREDICTIONS}:"
    primary = load_primary(run.result.task["metric"], **run.result.task.get("metric_options", {}))
    loss = frame["loss"].to_numpy("float64")
    if type(primary).score is Primary.score:  # of pictures drawn only the score is stored
        right = primary.per_example(frame["prediction"].to_numpy(), frame["target"].to_numpy())
        _follows(where, "score", frame["score"], right, 1e-9)
    if "confidence" in frame:
        with np.errstate(over="ignore"):
            _follows(where, "confidence", frame["confidence"], np.exp(-loss), 2e-3)
    if "logits" in frame:
        rows = np.arange(len(frame))
        logits, target, prediction = np.stack(frame["logits"]).astype("float64"), frame["target"].to_numpy(), frame["prediction"].to_numpy()
        if (np.concatenate([target, prediction]) >= logits.shape[1]).any() or (prediction < 0).any():
            raise MubenchError(f"{where} a label beyond the {logits.shape[1]} there are")
        with np.errstate(all="ignore"):
            slack = 2**-9 * (np.abs(logits).max(1) + np.abs(loss)) + 1e-4  # stored with 10 bits of mantissa
            _follows(where, "loss", loss, logsumexp(logits, axis=1) - logits[rows, target], slack)
            _follows(where, "prediction", logits[rows, prediction], logits.max(1), slack)
    wild = int((~np.isfinite(loss)).sum())
    return [f"{wild} losses are not finite"] if wild else []


def _follows(where, column, claimed, found, slack):
    claimed, found = np.asarray(claimed, "float64"), np.asarray(found, "float64")
    with np.errstate(invalid="ignore"):
        off = ~((np.abs(claimed - found) <= slack) | (claimed == found) | (~np.isfinite(claimed) & ~np.isfinite(found)))
    if off.any():
        worst = int(np.argmax(off))
        raise MubenchError(f"{where} {column} of {off.sum()} examples does not follow from the other columns, in row {worst} "
                           f"it is {claimed[worst]:.6g}, they give {found[worst]:.6g}")


# -- re-evaluated: predicted again from the weights ----------------------------------------------------------------------


def re_evaluate(run, folder=None, sample=SAMPLE, seed=None, limits=LIMITS):
    """Predict ``sample`` examples of each set (None: all) again with the weights in a ``folder`` (default: saved with the run), and
    compare. The examples are drawn by ``seed`` (default: one that nobody knew before). Returns a sentence; raises where they differ."""
    import torch

    from mubench.engine import threads
    from mubench.evaluation import predict
    from mubench.runner import UNTRAINED, weights_hash

    spec = run.spec
    task = _loaded(spec.task)
    folder = Path(folder or run.folder / MODEL)
    if folder.name not in (MODEL, run.result.id) or not any(folder.glob("*.safetensors")):
        raise Unavailable(f"{run.folder} has no weights in safetensors, in {MODEL}/ or in a folder {run.result.id}/ on the hub")
    network = _network(task, spec.model, folder, limits)
    if (found := weights_hash(network)) != run.result.weights:
        raise MubenchError(f"{run.folder}: the weights given have hash {found[:12]}…, those evaluated {str(run.result.weights)[:12]}…")
    if run.frame is None:
        raise Unavailable(f"{run.folder} has no predictions to compare with those of its weights")
    if spec.split_file:
        raise Unavailable(f"{run.folder}: predictions on a forget set of its own are not made again")
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    draw, chosen = torch.Generator().manual_seed(seed), {}
    for name, view in _shown(task, spec.model, task.split(spec.ratio), spec.limit).items():
        chosen[name] = view.select(torch.randperm(len(view), generator=draw)[:sample].sort().values)
    with threads(task.threads):
        again = predict(task, network, chosen, task.build(spec.model, UNTRAINED + spec.seed, blank=True))
    both = again.merge(run.frame, on=["set", "index"], suffixes=("_again", ""), validate="one_to_one")
    if len(both) != len(again):
        raise MubenchError(f"{run.folder} lacks {len(again) - len(both)} of {len(again)} examples drawn by seed {seed}")
    for name in again.columns.difference(["set", "index"]):
        if name not in run.frame:
            raise MubenchError(f"{run.folder} has no column {name!r}, its weights give one")
        off = [not _near(a, b, CLOSE[spec.precision]) for a, b in zip(both[name], both[f"{name}_again"])]
        if sum(off) > STRAYS * len(off):
            raise MubenchError(f"{run.folder}: {name} of {sum(off)} in {len(off)} examples (drawn by seed {seed}) is not what the weights give; "
                               f"tolerance: {CLOSE[spec.precision]:g} of the largest number, in all but {STRAYS:.0%} of examples")
    return f"{len(again)} predictions made again from weights {found[:12]}, drawn by seed {seed}"


def _near(claimed, found, close):
    if isinstance(found, (str, int, np.integer)):
        return claimed == found
    gone = [value is None or isinstance(value, float) and math.isnan(value) for value in (claimed, found)]
    if any(gone):
        return all(gone)
    claimed, found = np.atleast_1d(np.asarray(claimed, "float64")), np.atleast_1d(np.asarray(found, "float64"))
    if claimed.shape != found.shape:
        return False
    largest = max(1.0, np.abs(found[np.isfinite(found)]).max(initial=0))
    return bool(np.allclose(claimed, found, rtol=0, atol=close * largest, equal_nan=True))


def _network(task, model, folder, limits):
    """The task's own network, built from its own card, with the weights of safetensors files; a stranger's configuration is not read."""
    from safetensors.torch import load

    network = task.build(model, blank=True)
    own, given = network.state_dict(), {}
    most = min(limits.weights, 4 * sum(t.numel() * t.element_size() for t in own.values()) + 2**20)
    for path in sorted(folder.glob("*.safetensors")):
        data = content(path, most)
        with _foreign(path):
            given |= load(data)
    tied = {name for name, t in own.items() if any(t.data_ptr() == own[other].data_ptr() for other in given if other in own)}
    wrong = [name for name, t in given.items() if name not in own or t.shape != own[name].shape] + sorted({*own} - {*given} - tied)
    if wrong:
        raise MubenchError(f"{folder}: {len(wrong)} weights are not those of {model} of {task.name}, among them {wrong[0][:80]!r}")
    with _foreign(folder):
        network.load_state_dict(given, strict=False)
    return network.eval()


# -- reproduced: run again from the spec ---------------------------------------------------------------------------------


def rerun(run):
    """Do the run again and compare metrics. Returns a sentence; raises where one differs by more than `RERUN`."""
    from mubench.results import Store, make_spec, read
    from mubench.runner import run_spec

    spec = run.spec
    if spec.method not in registry.methods.names():
        raise Unavailable(f"{_plain(spec.method)!r} is no method of the suite, and a stranger's code is not run; who trusts it does that "
                          "where it can do no harm")
    _loaded(spec.task)
    if spec.checkpoint or spec.split_file:
        raise Unavailable("an original or forget set of its own is not run again")
    spec = make_spec(**spec.model_dump())
    with tempfile.TemporaryDirectory() as folder:
        found = read(run_spec(spec, Store(folder), progress=False))
    agree(run.folder, run.result.metrics, found.metrics, RERUN, "when run again")
    apart = max(abs(v - found.metrics[n]) for n, v in run.result.metrics.items() if v is not None)
    return f"run again in {found.costs['unlearning_seconds']:.1f} s, metrics within {apart:.4f}"


# -- flags: what a reader should know ------------------------------------------------------------------------------------


def flags(runs, references=()):
    """For each of ``runs``, sentences on what is strange about it beside the others and ``references`` (more runs: of retrain)."""
    found, seeds, retrained = {run: [] for run in runs}, {}, {}
    for run in dict.fromkeys([*runs, *references]):
        if run.result.method["name"] == "retrain":
            retrained.setdefault(_place(run), []).append(run)
    for run in runs:
        seeds.setdefault((_place(run), _settings(run)), []).append(run)
    for group in seeds.values():
        for run in group:
            found[run] += _outlying(run, group) + _repeated(run, group)
    for run in runs:
        others = [other for other in retrained.get(_place(run), []) if other is not run]
        if run.frame is not None and run.result.method["name"] != "retrain":
            mine = _digest(run, "forget")
            found[run] += [f"forget predictions are those of retrain, seed {other.spec.seed}" for other in others
                           if other.frame is not None and _digest(other, "forget") == mine]
        found[run] += _hasty(run, others)
    return found


def _place(run):
    split = run.result.split
    return run.result.task["name"], run.spec.model, split["name"], split["checksum"], run.result.checkpoint["sha256"]


def _settings(run):
    return run.result.method["name"], run.spec.model_dump_json(exclude={"seed", "method", "trials"})


def _outlying(run, group):
    if len(group) < 4:
        return []
    for name in ("test_score", "forget_score", "retain_score"):
        values = np.array([other.metrics[name] for other in group if other.metrics.get(name) is not None])
        middle = np.median(values) if len(values) else math.nan
        far = max(0.05, 8 * np.median(np.abs(values - middle))) if len(values) else math.inf
        if run.metrics.get(name) is not None and abs(run.metrics[name] - middle) > far:
            return [f"outlier seed: {name} {run.metrics[name]:.3f}, median of {len(values)} seeds {middle:.3f}"]
    return []


def _repeated(run, group):
    if run.frame is None or run.result.costs.get("steps") == 0:  # without training no seed makes a difference
        return []
    same = [other.spec.seed for other in group if other is not run and other.frame is not None and _digest(other) == _digest(run)]
    return [f"predictions equal to those of seed {', '.join(map(str, sorted(same)))}"] if same else []


def _digest(run, part=None):
    rows = run.frame if part is None else run.frame[run.frame["set"] == part]
    shown = "".join(map(str, rows["prediction"])).encode()
    return hashlib.sha256(rows["loss"].to_numpy("float64").tobytes() + shown).digest()


def _hasty(run, retrained):
    """Time claims beyond what the machine did when it retrained."""
    costs, here = run.result.costs, run.result.environment
    if costs["flops"] is None:
        return [] if costs["unlearning_seconds"] is None else ["time as its author claims it, without FLOPs"]
    said, processors = [], here["threads"] * here.get("processes", 1)
    if (costs.get("cpu_seconds") or 0) > 1.25 * costs["unlearning_seconds"] * max(1, processors) + 1:
        said.append(f"time claim: {costs['cpu_seconds']:.0f} CPU seconds in {costs['unlearning_seconds']:.0f} seconds on {processors} threads")
    for clock, factor in FAST.items():
        speeds = [other.result.costs["flops"] / other.result.costs[clock] for other in retrained if other.result.costs.get(clock)
                  and other.result.costs["flops"] and all(other.result.environment[n] == here[n] for n in ("machine", "threads"))]
        if speeds and costs.get(clock) is not None and costs["flops"] > factor * max(speeds) * costs[clock]:
            said.append(f"time claim: {costs['flops']:.3g} FLOPs in {costs[clock]:.3g} {clock.replace('_', ' ')}, retrain on the same "
                        f"machine does {max(speeds):.3g} a second")
            break
    return said


# -- levels --------------------------------------------------------------------------------------------------------------


class Verdict(Part):
    """What a check found of one result, for these very files."""

    level: Level = Field(strict=False)
    files: dict[Literal[RESULT, PREDICTIONS], Hash]
    flags: list[Line] = []
    mubench: Line
    machine: Line
    checked: Line = ""


class Verified(Part):
    """verified.json: result id → `Verdict`. Written by the leaderboard, never taken from a submission."""

    schema_version: Literal[1] = Field(1, alias="schema")
    results: dict[Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")], Verdict]


def read_verified(root, limits=LIMITS):
    """Result id → `Verdict`, as recorded in a submission's folder; empty where nothing is."""
    path = Path(root) / VERIFIED
    if not os.path.lexists(path):
        return {}
    with _sentence(path):
        return Verified.model_validate(parsed(content(path, 64 * limits.json), path, limits)).results


def level(folder):
    """`Level` and flags of a stored result.

    Of a submission (five folders up lies its submission.json): what `mubench check --record` found, as long as the files are those it
    was found for, else *reported*. Results outside of submissions are one's own, *reproduced* by whoever ran them from their spec; of
    weights that other code unlearned, *re-evaluated*.
    """
    folder = Path(folder).absolute()
    root = ([*folder.parents][5:] or [folder])[0]
    if not os.path.lexists(root / SUBMISSION):
        run = Result.model_validate(parsed(content(folder / RESULT, LIMITS.json), folder / RESULT))
        own = Level.RE_EVALUATED if "@" in str(run.spec.get("method")) else Level.REPRODUCED
        return (own if run.predictions else Level.REPORTED), ()
    verdict = read_verified(root).get(folder.name)
    if verdict is None:
        return Level.REPORTED, ()
    for name, known in verdict.files.items():
        most = LIMITS.json if name == RESULT else LIMITS.predictions
        if hashlib.sha256(content(folder / name, most)).hexdigest() != known:
            return Level.REPORTED, (f"{name} was changed after it was checked",)
    return verdict.level, tuple(verdict.flags)
