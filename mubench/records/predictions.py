"""Stored predictions: written small, read verified, and every metric computed from them again."""

import math
from pathlib import Path

from mubench.cache import file_hash
from mubench.errors import MubenchError
from mubench.records.result import RESULT, read

PREDICTIONS = "predictions.parquet"
TOLERANCE = 1e-12  # of a metric that is computed again from the same predictions


def write_predictions(frame, path):
    """Write predictions as small as Parquet gets them without loss: results are published by the hundred.

    frame: one row per example and set (see `mubench.measure.predict`).
    path: the file.
    """
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


def read_predictions(folder):
    """The predictions in a result's folder, as a ``DataFrame``.

    Raises `MubenchError` where they are missing, unreadable, or not those whose checksum the result records.
    """
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


def score(
    folder: str | Path, retrain: str | Path | None = None, tolerance: float = TOLERANCE
) -> dict[str, float | None]:
    """Recompute every metric of a stored result from its predictions.

    folder: of the result.
    retrain: the folder of the retrained model's result, for the distances to it (default: without those).
    tolerance: by how much a stored value may differ from the recomputed one.

    Returns name → value. Raises `MubenchError` if a stored value differs by more than that.
    """
    from mubench.measure.metrics import compute_all

    result = read(folder)
    values = compute_all(read_predictions(folder), result.facts, None if retrain is None else read_predictions(retrain))
    agree(folder, result.metrics, values, tolerance)
    return values


def agree(folder, claimed, found, tolerance=TOLERANCE, source="from the predictions"):
    """Raise `MubenchError` unless every claimed metric was found again.

    folder: of the result, for the message.
    claimed, found: metric → value; None where it is undefined.
    tolerance: by how much two values may differ.
    source: where the found values come from, for the message.
    """
    for name, stored in claimed.items():
        value = found.get(name, math.nan)
        if not (stored is value is None) and not (None not in (stored, value) and abs(stored - value) <= tolerance):
            raise MubenchError(
                f"{folder}: metric {name} is {stored} in {RESULT} but {value} {source} (tolerance {tolerance:g})"
            )
