"""The metric registry and the predictions that metrics read. Imports nothing heavy: see `mubench.measure.metrics`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from mubench.errors import MubenchError

METRICS: dict = {}
INTEGERS = ("index", "target", "prediction")
TEXTS = ("target", "prediction")
VECTORS = ("logits", "incompetent")


class Rows:
    """One set's rows in the order of ``index``: ``rows["loss"]`` is a read-only array, ``len(rows)`` their number.

    Integers come as int64, texts (targets and predictions of generators) as ``str``, everything else as float64;
    ``logits`` and ``incompetent`` as [rows, classes].
    """

    def __init__(self, frame):
        self._frame, self._arrays = frame, {}

    def __len__(self):
        return len(self._frame)

    def has(self, column):
        """Whether the column was recorded here; one that is null (or NaN) in every row was not."""
        return column in self._frame and bool(self._frame[column].notna().any())

    def __getitem__(self, column):
        if column not in self._arrays:
            try:
                array = self._read(column)
            except (TypeError, ValueError) as error:
                raise MubenchError(f"column {column!r} of the predictions holds something else than numbers") from error
            array.flags.writeable = False
            self._arrays[column] = array
        return self._arrays[column]

    def _read(self, column):
        import numpy as np

        values = self._frame[column]
        if column in TEXTS and isinstance(values.iloc[0], str):
            return values.to_numpy("object", copy=True)
        if column in INTEGERS:
            return values.to_numpy("int64", copy=True)
        if column not in VECTORS:
            return values.to_numpy("float64", copy=True, na_value=float("nan"))
        if values.isna().any() or values.map(len).nunique() != 1:
            raise MubenchError(f"column {column!r} must hold equally many numbers in every row of a set")
        return np.stack(values.to_numpy()).astype("float64")


class Predictions:
    """A read-only view of stored predictions: ``p["forget"]`` gives that set's `Rows`, ``"test" in p`` asks for it.

    frame: one row per example and set, in any order.
    facts: what else metrics may use: ``random_guess`` and ``original_test_score`` (fractions), ``num_labels``, and
        ``scorer``, a function of `Rows` for tasks whose score is not the mean of the per-example ones.
    retrain: the retrained model's `Predictions`, or None.

    Raises `MubenchError` where a set holds an example twice, or other examples than the retrained model's.
    """

    def __init__(self, frame, facts=None, retrain=None):
        self.facts, self.retrain = dict(facts or {}), retrain
        if missing := {"set", "index"} - set(frame.columns):
            raise MubenchError(f"predictions lack the column {min(missing)!r}")
        if (twice := frame.duplicated(["set", "index"])).any():
            row = frame[twice].iloc[0]
            raise MubenchError(f"predictions hold example {row['index']} of the {row['set']} set twice")
        # Sorted, so that the order of the file cannot change the last bit of a sum or a random subsample.
        self._sets = {name: Rows(rows.sort_values("index")) for name, rows in frame.groupby("set", observed=True)}
        for name, rows in self._sets.items():
            if retrain and name in retrain and list(rows["index"]) != list(retrain[name]["index"]):
                raise MubenchError(f"the retrained model was evaluated on other {name} examples: the indices differ")

    def __contains__(self, name):
        return name in self._sets

    def __getitem__(self, name):
        return self._sets[name]


@dataclass(frozen=True)
class Metric:
    """What is known of a metric without running it.

    name: as in results.
    description: one sentence.
    better: ``higher``, ``lower``, ``retrain`` (the closer to the retrained model's value the better) or the ideal value
        itself, as in ``0.5``.
    needs: names of the sets it is computed from.
    columns: names of the columns of those sets.
    facts: names of the facts.
    retrain: whether a retrained model's predictions are needed, with the same sets and columns.
    compute: `Predictions` → the value; NaN where it is undefined.
    """

    name: str
    description: str
    better: str
    needs: tuple
    columns: tuple
    facts: tuple
    retrain: bool
    compute: Callable

    def applies(self, p):
        """Whether ``p`` has all that this metric needs."""
        models = [p, p.retrain] if self.retrain else [p]
        return all(p.facts.get(fact) is not None for fact in self.facts) and all(
            m is not None and s in m and m[s].has(c) for m in models for s in self.needs for c in self.columns
        )


def metric(better, needs, columns=("score",), facts=(), retrain=False):
    """Registers ``def name(p: Predictions) -> float`` under its name; the docstring's first line is its description.

    The function returns NaN where its value is undefined. The arguments are those of `Metric`.
    """

    def register(function):
        name, description = function.__name__, function.__doc__.strip().splitlines()[0]
        METRICS[name] = Metric(name, description, better, tuple(needs), tuple(columns), tuple(facts), retrain, function)
        return function

    return register


def compute_all(predictions, facts=None, retrain=None, known=None):
    """All metrics that apply, name → value. The same input gives the same bits.

    predictions: a data frame.
    facts: as in `Predictions`.
    retrain: the data frame of the retrained model of the same task, model, ratio and seed, or None.
    known: values of the same predictions, which are not computed again.

    A metric that lacks an input is absent. One whose inputs are there but whose value is undefined (a diverged model's
    NaN logits, fewer examples than folds) is None.

    Raises `MubenchError` as `Predictions` does, and where the numbers of classes differ.
    """
    reference = None if retrain is None else Predictions(retrain, facts)
    p = Predictions(predictions, facts, reference)
    known, values = known or {}, {}
    for name, m in METRICS.items():
        if name in known:
            values[name] = known[name]
        elif m.applies(p):
            value = float(m.compute(p))
            values[name] = value if math.isfinite(value) else None
    return values | _further(p)


def mean_score(rows, p):
    """The score of some `Rows` of predictions: the task's own, or the mean over examples."""
    scorer = p.facts.get("scorer")
    return scorer(rows) if scorer else rows["score"].mean()


def _further(p):
    """``NAME_score`` of each further set that the fact ``scored_sets`` names, in the task's own score."""
    there = [name for name in p.facts.get("scored_sets", ()) if name in p and p[name].has("score")]
    values = {f"{name}_score": float(mean_score(p[name], p)) for name in there}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
