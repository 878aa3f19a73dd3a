"""The metric registry and the predictions that metrics read. Imports nothing heavy: see `mubench.measure.metrics`."""

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from mubench.errors import MubenchError

METRICS: dict = {}
ROLES = ("original", "retrain")  # that a reference may have
BETTER = ("higher", "lower", "retrain")
REQUIRED = ("set", "index", "target", "prediction", "score", "loss")  # columns of stored predictions
INTEGERS = ("index", "target", "prediction")
TEXTS = ("target", "prediction")
VECTORS = ("logits", "incompetent")


class Rows:
    """One set's rows in the order of ``index``: ``rows["loss"]`` is a read-only array, ``len(rows)`` their number.

    Integers come as int64, texts (targets and predictions of generators) as ``str``, everything else as float64;
    ``logits`` and ``incompetent`` as [rows, classes].
    """

    def __init__(self, frame):
        self._frame, self._arrays, self._widths, self._there = frame, {}, {}, {}

    def __len__(self):
        return len(self._frame)

    def has(self, column):
        """Whether the column was recorded here; one that is null (or NaN) in every row was not."""
        if column not in self._there:
            self._there[column] = column in self._frame and bool(self._frame[column].notna().any())
        return self._there[column]

    def __getitem__(self, column):
        if column not in self._arrays:
            try:
                array = self._read(column)
            except (TypeError, ValueError) as error:
                raise MubenchError(f"column {column!r} of the predictions holds something else than numbers") from error
            array.flags.writeable = False
            self._arrays[column] = array
        return self._arrays[column]

    def width(self, column):
        """How many numbers a row of ``logits`` or ``incompetent`` has; None where it was not recorded."""
        if column not in self._widths:
            recorded = self._frame[column].dropna() if column in self._frame else ()
            self._widths[column] = len(recorded.iloc[0]) if len(recorded) else None
        return self._widths[column]

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
    """A read-only view of one model's stored predictions: ``p["forget"]`` gives that set's `Rows`, ``"test" in p`` asks
    for it.

    frame: one row per example and set, in any order.
    facts: what else metrics may use: ``random_guess`` and ``original_test_score`` (fractions), ``num_labels``, and
        ``scorer``, a function of `Rows` for tasks whose score is not the mean of the per-example ones.
    probes: name of a probe → its predictions: a frame as ``frame`` is, with a column ``step``.
    settings: name of a probe → its version, options and fingerprint; those of a reference count where they are equal.
    seed: of the run (None: not said).
    values: function of a metric → its value without references, where that is known.

    Raises `MubenchError` where a set holds an example twice.
    """

    def __init__(self, frame, facts=None, probes=None, settings=None, seed=None):
        self.facts, self.settings, self.seed = dict(facts or {}), dict(settings or {}), seed
        self._probes, self._steps, self.values = dict(probes or {}), {}, {}
        if missing := {"set", "index"} - set(frame.columns):
            raise MubenchError(f"predictions lack the column {min(missing)!r}")
        if (twice := frame.duplicated(["set", "index"])).any():
            row = frame[twice].iloc[0]
            raise MubenchError(f"predictions hold example {row['index']} of the {row['set']} set twice")
        # Sorted, so that the order of the file cannot change the last bit of a sum or a random subsample.
        self._sets = {name: Rows(rows.sort_values("index")) for name, rows in frame.groupby("set", observed=True)}

    def __contains__(self, name):
        return name in self._sets

    def __iter__(self):
        return iter(self._sets)

    def __getitem__(self, name):
        return self._sets[name]

    def value(self, metric):
        """What a metric's function gives without references; computed once."""
        if metric not in self.values:
            self.values[metric] = float(metric(self, {}))
        return self.values[metric]

    @property
    def probes(self):
        """The names of the probes there are predictions of."""
        return {*self._probes}

    def probe(self, name):
        """Step → `Predictions`, in order, of what a probe has done to the model; empty where it has not."""
        if name not in self._steps:
            frame = self._probes.get(name)
            steps = () if frame is None else frame.groupby("step")
            self._steps[name] = {int(step): Predictions(rows, self.facts) for step, rows in steps}
        return self._steps[name]

    def alike(self, other, probe):
        """Whether a probe was done to both models in the same way."""
        return self.settings.get(probe) == other.settings.get(probe)


def compare(run, reference):
    """Raise `MubenchError` where a reference was evaluated on other examples or classes than a run.

    run, reference: `Predictions`, those of probes included; what only one of them has is not compared.
    """
    import numpy as np

    for name in run:
        if name not in reference:
            continue
        rows, others = run[name], reference[name]
        if not np.array_equal(rows["index"], others["index"]):
            raise MubenchError(f"the reference was evaluated on other {name} examples: the indices differ")
        shapes = [(len(part), part.width("logits")) for part in (rows, others) if part.width("logits")]
        if len({*shapes}) > 1:
            raise MubenchError(f"{name} logits of shapes {shapes[0]} and {shapes[1]} cannot be compared")
    for probe in run.probes & reference.probes:
        if run.alike(reference, probe):
            steps, others = run.probe(probe), reference.probe(probe)
            for step in steps.keys() & others.keys():
                compare(steps[step], others[step])


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
    references: role (`ROLES`) → how many models of it there must be at least, with the same sets and columns.
    own_seed: whether it looks at one model of each role alone, that of the run's own seed.
    probe: whose predictions ``needs`` and ``columns`` are of, at every step (None: those of the evaluation).
    compute: (run, references) → the value; NaN where it is undefined. ``run`` is a `Predictions`, ``references`` role →
        list of them: first that of the run's own seed, where there is one, which may be the run itself.
    """

    name: str
    description: str
    better: str
    needs: tuple
    columns: tuple
    facts: tuple
    references: dict
    own_seed: bool
    probe: str | None
    compute: Callable

    def usable(self, run, references):
        """The references this metric is computed with, role → list of `Predictions`; None where it lacks an input."""
        if any(run.facts.get(fact) is None for fact in self.facts) or not self._complete(run):
            return None
        found = {}
        for role, least in self.references.items():
            models = references.get(role, [])
            if self.own_seed:
                models = [model for model in models[:1] if model.seed == run.seed]
            found[role] = [m for m in models if self._complete(m) and (not self.probe or run.alike(m, self.probe))]
            if len(found[role]) < least:
                return None
        return found

    def _complete(self, model):
        """Whether a model's predictions have all the sets and columns."""
        parts = [model] if self.probe is None else [*model.probe(self.probe).values()]
        return bool(parts) and all(s in p and p[s].has(c) for p in parts for s in self.needs for c in self.columns)

    def refuse(self):
        """Raise `MubenchError` for what cannot be a metric, and for a name that another one has."""
        wrong = None
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", self.name):
            wrong = "its name must be snake_case: it becomes a column"
        elif self.name in METRICS:
            wrong = "another metric has this name"
        elif not self.description:
            wrong = "it has no docstring, whose first line describes it"
        elif self.better not in BETTER and not _is_number(self.better):
            wrong = f"better={self.better!r}: it is one of {', '.join(BETTER)}, or its ideal value, such as '0.5'"
        elif unknown := {*self.references} - {*ROLES}:
            wrong = f"unknown role {min(unknown)!r}: references are {', '.join(ROLES)}"
        elif not all(type(least) is int and least > 0 for least in self.references.values()):
            wrong = f"references={self.references}: of each role it needs a number of models, at least 1"
        elif self.own_seed and {*self.references.values()} != {1}:
            wrong = f"own_seed looks at 1 model of each role, references={self.references}"
        elif not self.needs or not self.columns:
            wrong = "it needs no set or no column: it must be computed from predictions"
        elif len(inspect.signature(self.compute).parameters) != 2:
            wrong = f"write it as def {self.name}(run, references)"
        if wrong:
            raise MubenchError(f"metric {self.name}: {wrong}")


def _is_number(text):
    try:
        return isinstance(text, str) and math.isfinite(float(text))
    except ValueError:
        return False


def metric(better, needs, columns=("score",), facts=(), references=None, own_seed=False, probe=None):
    """Registers ``def name(run, references) -> float`` under its name; the docstring's first line is its description.

    The function returns NaN where its value is undefined. The arguments are those of `Metric`. Raises `MubenchError`
    where they are wrong or the name is taken.
    """

    def register(function):
        name, description = function.__name__, ((function.__doc__ or "").strip().splitlines() or [""])[0]
        parts = tuple(needs), tuple(columns), tuple(facts), dict(references or {})
        made = Metric(name, description, better, *parts, own_seed, probe, function)
        made.refuse()
        METRICS[name] = made
        return function

    return register


def looked_at(role):
    """How many models of a role the metrics look at: 0, 1 (that of the run's own seed) or all of them (None)."""
    asking = [m for m in METRICS.values() if role in m.references]
    return 0 if not asking else 1 if all(m.own_seed for m in asking) else None


def compute_all(predictions, facts=None, references=None, known=None):
    """All metrics that apply, name → value. The same input gives the same bits.

    predictions: of the run, a data frame or `Predictions`.
    facts: as in `Predictions`, of all that is given as a data frame.
    references: role → list of data frames or `Predictions` of the same task, model and split; first that of the run's
        own seed, where there is one.
    known: values of the same predictions, which are not computed again.

    A metric that lacks an input is absent. One whose inputs are there but whose value is undefined (a diverged model's
    NaN logits, fewer examples than folds) is None.

    Raises `MubenchError` as `Predictions` and `compare` do.
    """
    view = lambda given: given if isinstance(given, Predictions) else Predictions(given, facts)
    run, known, values = view(predictions), known or {}, {}
    references = {role: [view(model) for model in models] for role, models in (references or {}).items()}
    for reference in (model for models in references.values() for model in models):
        if reference is not run:
            compare(run, reference)
    for name, m in METRICS.items():
        if name in known:
            values[name] = known[name]
            if not m.references:
                run.values[m.compute] = math.nan if known[name] is None else known[name]
        elif (models := m.usable(run, references)) is not None:
            value = float(m.compute(run, models)) if m.references else run.value(m.compute)
            values[name] = value if math.isfinite(value) else None
    return values | _further(run)


def mean_score(rows, p):
    """The score of some `Rows` of predictions: the task's own, or the mean over examples."""
    scorer = p.facts.get("scorer")
    return scorer(rows) if scorer else rows["score"].mean()


def _further(p):
    """``NAME_score`` of each further set that the fact ``scored_sets`` names, in the task's own score."""
    there = [name for name in p.facts.get("scored_sets", ()) if name in p and p[name].has("score")]
    values = {f"{name}_score": float(mean_score(p[name], p)) for name in there}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
