"""Stored predictions: written small, read verified, and every metric computed from them again."""

import math
from collections.abc import Sequence
from pathlib import Path

from mubench.cache import file_hash
from mubench.errors import MubenchError
from mubench.records.result import RESULT, read

PREDICTIONS = "predictions.parquet"
PROBES = "probes"  # the folder of what other probes than the evaluation predicted
TOLERANCE = 1e-12  # of a metric that is computed again from the same predictions


def write_predictions(frame, path):
    """Write predictions small, without loss: results are published by the hundred.

    More than level 1 takes up to twenty times as long and saves a few per cent.

    frame: one row per example and set (see `mubench.measure.predict`).
    path: the file.
    """
    from mubench.measure.metrics.base import VECTORS

    floats = [*frame.select_dtypes("float32"), *(f"{name}.list.element" for name in VECTORS if name in frame)]
    frame.to_parquet(
        path,
        index=False,
        compression="zstd",
        compression_level=1,
        use_byte_stream_split=floats,
        use_dictionary=["set", *frame.columns.intersection(["target", "prediction"])],
    )


def probe_file(name):
    """Where the predictions of a probe lie in a result's folder."""
    return f"{PROBES}/{name}.parquet"


def read_predictions(folder, probe=None):
    """The predictions in a result's folder, as a ``DataFrame``.

    probe: whose, with their ``step`` (None: the evaluation's).

    Raises `MubenchError` where they are missing, unreadable, or not those whose checksum the result records.
    """
    import pandas as pd

    result, name = read(folder), PREDICTIONS if probe is None else probe_file(probe)
    facts = result.predictions if probe is None else result.probes.get(probe, {})
    path, recorded = Path(folder) / name, str(facts.get("sha256"))
    if not path.is_file():
        raise MubenchError(f"{folder} has no {name}: the result is incomplete")
    if file_hash(path) != recorded:
        raise MubenchError(
            f"{path} was changed after its result was written: its checksum is not the recorded {recorded[:12]}…"
        )
    try:
        return pd.read_parquet(path)
    except Exception as error:
        raise MubenchError(f"{path} cannot be read ({type(error).__name__}): it is no Parquet file") from error


def read_model(folder):
    """The `Predictions` of the model in a result's folder, those of probes included."""
    from mubench.measure.metrics import Predictions

    result = read(folder)
    probes = {name: read_predictions(folder, name) for name in result.probed}
    return Predictions(read_predictions(folder), result.facts, probes, result.probed)


def score(
    folder: str | Path,
    retrain: str | Path | Sequence[str | Path] | None = None,
    tolerance: float = TOLERANCE,
    original: str | Path | Sequence[str | Path] | None = None,
) -> dict[str, float | None]:
    """Recompute every metric of a stored result from its predictions.

    folder: of the result.
    retrain: the folder of the retrained model's result, or of several: first the one that distances are measured to
        (default: without those).
    tolerance: by how much a stored value may differ from the recomputed one.
    original: the folder of the original's result, or of several, for metrics that ask for it.

    Returns name → value. Raises `MubenchError` if a stored value differs by more than that.
    """
    from mubench.measure.metrics import METRICS, compute_all

    run, given = read_model(folder), {"original": original, "retrain": retrain}
    references = {role: [read_model(place) for place in _listed(places)] for role, places in given.items()}
    values = compute_all(run, references=references)
    claimed = read(folder).metrics
    if unknown := sorted({*claimed} - {*METRICS} - {*values}):
        raise MubenchError(f"{folder}: metric {unknown[0]} is not known here: install the package that brings it")
    agree(folder, claimed, values, tolerance)
    return values


def _listed(folders):
    return [folders] if isinstance(folders, (str, Path)) else [*(folders or ())]


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
