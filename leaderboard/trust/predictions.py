"""What a stranger's predictions.parquet may hold: its metadata are looked at before a row is decoded."""

import contextlib
import re
import sys
from pathlib import Path

from mubench.errors import MubenchError
from mubench.leaderboard.trust.untrusted import library_errors, printable
from mubench.measure.metrics.base import REQUIRED

COLUMNS = {  # name → types it may have
    "step": ("int64",),
    "set": ("string",),
    "index": ("int64",),
    "target": ("int64", "string"),
    "prediction": ("int64", "string"),
    "score": ("double", "float"),
    "loss": ("double", "float"),
    "confidence": ("double", "float"),
    "logits": ("list<double>", "list<float>"),
    "incompetent": ("list<double>", "list<float>"),
}
WITH_GAPS = ("loss", "confidence", "incompetent", "logits")  # a loss that is NaN is stored as null
BARE = {"retain"}  # sets that may have no logits, as `mubench.measure.predict` says, which imports torch
SET = r"[a-z][a-z0-9_]{0,63}"  # a name of a set that a probe predicts
SETS = {"test", "forget", "retain", "transfer"}  # as `mubench.measure.predict` says, which imports torch


def parse_predictions(data, path, label_count, limits, further=(), steps=None):
    """Predictions as a frame: known columns of known types, each example once, scores in [0, 1].

    data: bytes of a Parquet file.
    path: where they come from, for errors.
    label_count: numbers in a row of logits.
    further: names of sets that the task has besides `SETS`.
    steps: of a probe, those it says there are, each with its examples (None: the evaluation, which has no steps).

    Raises `MubenchError` for anything else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _memory_bound(limits.decoded), library_errors(path):
        file = pq.ParquetFile(
            pa.BufferReader(data),
            pre_buffer=False,
            thrift_string_size_limit=2**24,
            thrift_container_size_limit=2**20,
            schema_depth_limit=4,
            arrow_extensions_enabled=False,
        )
        types = _column_types(file.schema_arrow, path, {*REQUIRED, *["step"] * (steps is not None)})
        _inspect_sizes(file.metadata, path, limits)
        table = file.read(use_threads=False, use_pandas_metadata=False).replace_schema_metadata(None)
        table.validate(full=True)
        _inspect_columns(table, types, path, label_count, limits)
        frame = table.to_pandas()
    _inspect_rows(frame, path, further, steps)
    if types["target"] != types["prediction"]:
        raise MubenchError(f"{path}: targets are {types['target']}, predictions {types['prediction']}")
    return frame.sort_values([*["step"] * (steps is not None), "set", "index"], ignore_index=True)


def _column_types(schema, path, required):
    """Column → type, of an Arrow schema; raises where a column or type is not of `COLUMNS`, or a required one lacks."""
    types = {}
    for field in schema:
        kind = re.sub("large_|element: |item: | not null", "", str(field.type))
        unexpected = field.name == "step" and "step" not in required
        if field.name in types or unexpected or kind not in COLUMNS.get(field.name, ()):
            raise MubenchError(
                f"{path}: column {printable(field.name)!r} of type {printable(kind)} is not expected (or stands there"
                " twice)"
            )
        types[field.name] = kind
    if missing := required - {*types}:
        raise MubenchError(f"{path} lacks the column {min(missing)!r}")
    return types


def _inspect_sizes(metadata, path, limits):
    """Raise where the metadata of a Parquet file announce more than the limits."""
    columns = [
        metadata.row_group(i).column(j) for i in range(metadata.num_row_groups) for j in range(metadata.num_columns)
    ]
    sizes = {
        "rows": metadata.num_rows,
        "values": sum(column.num_values for column in columns),
        "decoded": sum(column.total_uncompressed_size for column in columns),
    }
    for name, size in sizes.items():
        if not 0 < size <= getattr(limits, name):
            raise MubenchError(f"{path}: {size:,} {name} are announced, 1 to {getattr(limits, name):,} are read")


def _inspect_columns(table, types, path, label_count, limits):
    """Raise where a column has gaps, texts that are too long, or lists of another length than there are labels."""
    import pyarrow.compute as pc

    for name, kind in types.items():
        column = table[name]
        if name not in WITH_GAPS and column.null_count:
            raise MubenchError(f"{path}: {column.null_count} rows have no {name}")
        if kind == "string" and pc.max(pc.utf8_length(column)).as_py() > limits.answer:
            raise MubenchError(f"{path}: a {name} of more than {limits.answer:,} characters")
        widths = pc.min_max(pc.list_value_length(column)).as_py() if kind.startswith("list") else {}
        if not {*widths.values()} <= {None, label_count}:
            raise MubenchError(f"{path}: {name} are not {label_count} numbers, one for each label")


def _inspect_rows(frame, path, further, steps):
    named = {*frame["set"].unique()}
    probed = {name for name in named if not re.fullmatch(SET, name, re.ASCII)}
    unknown = named - {*SETS, *further} if steps is None else probed
    example = ["set", "index"] if steps is None else ["step", "set", "index"]
    bare = frame.loc[frame["logits"].isna(), "set"] if "logits" in frame else ()
    for wrong, what in (
        ({*bare} - BARE, "rows without logits"),
        (unknown, f"the set {printable(min(unknown, default=''))!r}"),
        (steps is not None and sorted(frame["step"].unique()) != steps, "other steps than its record says"),
        ((frame["index"] < 0).any(), "a negative index"),
        (frame.duplicated(example).any(), "an example twice"),
        (not frame["score"].between(0, 1).all(), "a score outside of [0, 1]"),
    ):
        if wrong:
            raise MubenchError(f"{path} holds {what}")


@contextlib.contextmanager
def _memory_bound(more):
    """So many bytes more of memory while the block runs (on Linux): a small file may decode to a huge one.

    Arrow offers no bound of its own, so this is one of the process; it is put back.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    import pyarrow as pa

    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())  # the other one has address space in reserve
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    most = [pages * resource.getpagesize() + more, *(limit for limit in before if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(most), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        pa.set_memory_pool(pool)
