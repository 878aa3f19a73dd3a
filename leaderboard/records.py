"""From folders to one row per run: read, every metric recomputed, related to the retrained model. Imports no torch."""
import contextlib
import functools
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mubench import metrics, registry
from mubench.cache import cache_dir, file_hash, whole
from mubench.errors import MubenchError
from mubench.metrics import METRICS
from mubench.leaderboard.reading import read_record, read_run
from mubench.leaderboard.verify import SUBMISSION, Level, level
from mubench.results import ERROR, PREDICTIONS, RESULT, RunSpec, Store
from mubench.splits import parse_ratio

LEVELS = tuple(map(str, Level))  # each is worth more than those before it
OWN = ""  # the submission of results that lie in no submission: the project's own
REFERENCES = ("original", "retrain")
COSTS = ("seconds", "flops", "peak_memory_bytes", "relative_seconds")
VALUES = (*METRICS, *COSTS)
RATES = np.round(np.concatenate([np.linspace(0, 0.1, 11), np.linspace(0.15, 1, 18)]), 2)  # false-positive rates of stored ROC curves
COLUMNS = {
    "submission": "folder name of the submission, empty for the project's own results", "tier": "mini or paper",
    "modality": "of the task", "task": "its name, with its version if not 1", "model": "the task's name for it",
    "architecture": "the model's class", "ratio": "per cent of D to forget, or file…",
    "method": "registry name", "version": "of the method", "variant": "default, tuned (on validation data) or custom (anything set by hand)",
    "trials": "settings tried to tune", "params": "hyperparameters that differ from the defaults (JSON)", "options": "other settings of the run (JSON)",
    "seed": "of everything random", "status": "complete, or stopped by a budget", "level": "of verification", "flags": "what a reader should look at",
    **{name: m.description for name, m in METRICS.items()},
    "seconds": "unlearning: CPU seconds without a GPU, wall clock with one", "flops": "floating-point operations",
    "peak_memory_bytes": "largest resident size or GPU allocation", "random_guess": "score of a model that knows nothing", "relative_seconds": "seconds as a multiple of retraining's on the same machine",
    "original_score": "of the original model on the test set", "parameters": "of the model", "share": "per cent of the parameters that were trained, if LoRA; else 100",
    "curve": "scores along the run (JSON), where they were recorded",
    "roc": f"true-positive rates of the loss attack at false-positive rates {', '.join(f'{r:g}' for r in RATES[:3])}, …, 1",
    "checkpoint": "sha256 of the original", "forget_rows": "checksum of the forget rows", "data": "checksum of the training rows",
    "ratio_order": "the ratio as a number, infinite for a split file", "anchor": "whether distances are measured to it",
    "machine": "hardware", "threads": "of the run", "environment": "versions (JSON)", "hyperparameters": "all of them (JSON)", "paper": "of the method",
    "spec": "what was run (JSON)", "command": "that repeats the run", "started": "UTC", "id": "of the spec", "folder": "of the result",
    "weights": "sha256 of the unlearned weights", "result_sha256": "of result.json", "predictions_sha256": "of predictions.parquet",
}


# -- reading ---------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Run:
    """A stored run whose record is readable; its metrics are still to be recomputed."""

    folder: Path
    submission: str
    result: object
    spec: RunSpec
    values: dict = field(default_factory=dict)
    roc: list = None

    @classmethod
    def read(cls, folder):
        result, submission = read_record(folder), _submission(folder)
        given = {"seconds": result.seconds, **{name: result.costs[name] for name in ("flops", "peak_memory_bytes")}}
        costs = {name: None if value is None else float(value) for name, value in given.items()}  # None: not known
        for name, value in costs.items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise MubenchError(f"{folder}: {name} is {value}")
        run = cls(folder, submission.name if submission else OWN, result, RunSpec(**result.spec), costs)
        hash((run.group, run.settings, run.hardware))  # whatever they lack is to be missed here
        return run

    @functools.cached_property
    def order(self):
        return math.inf if self.spec.split_file else float(parse_ratio(self.spec.ratio))

    @functools.cached_property
    def group(self):
        """What runs must share to be compared."""
        task, split = self.result.task, self.result.split
        return (versioned(task), str(self.spec.model), self.order, str(split["name"]), str(self.result.checkpoint["sha256"]),
                str(split["checksum"]), str(split["data"]))

    @functools.cached_property
    def settings(self):
        """What runs must share to be averaged: method, version, hyperparameters, trials, options, and who submitted them."""
        return (self.submission, self.result.method["name"], self.result.method["version"], json.dumps(self.spec.params, sort_keys=True),
                self.spec.trials, json.dumps(self.options))

    @functools.cached_property
    def options(self):
        said = self.spec.model_dump(exclude_defaults=True, exclude={
            "task", "model", "method", "ratio", "seed", "params", "split_file", "checkpoint", "limit", "trials"})
        return dict(sorted(said.items()))

    @property
    def variant(self):
        return "custom" if self.options or self.spec.params and not self.spec.trials else "tuned" if self.spec.trials else "default"

    @property
    def anchor(self):
        """Whether others are compared with it: retraining by the recipe, to its end."""
        return (self.result.method["name"] == "retrain" and self.spec.plain and not self.spec.params and not self.spec.trials
                and self.result.status == "complete")

    @property
    def hardware(self):
        """Times are compared only where this is equal."""
        return self.group, self.result.environment["machine"], self.result.environment["threads"]

    def row(self):
        """A row of the frame of runs."""
        r, (found, flags) = self.result, level(self.folder, self.result)
        as_json = functools.partial(json.dumps, sort_keys=True, default=str)
        row = {"submission": self.submission, "tier": r.task.get("tier") or "mini", "modality": _modality(r.task["name"]), "task": self.group[0],
               "model": self.group[1], "architecture": r.model.get("class") or r.model["name"], "ratio": self.group[3],
               "method": r.method["name"], "version": r.method["version"], "variant": self.variant, "trials": self.spec.trials,
               "params": as_json(self.spec.params), "options": as_json(self.options), "seed": self.spec.seed, "status": r.status,
               "level": str(found), "flags": "; ".join(flags), "checkpoint": self.group[4], "forget_rows": self.group[5], "data": self.group[6],
               "original_score": float(r.checkpoint["test_score"]), "parameters": float(r.model.get("parameters") or math.nan),
               "share": float((r.model.get("lora") or {"share": 100})["share"]), "curve": json.dumps(r.curve) if r.curve else "",
               "ratio_order": self.order, "anchor": self.anchor, "machine": r.environment["machine"], "threads": r.environment["threads"],
               "environment": as_json(r.environment), "hyperparameters": as_json(r.method.get("hyperparameters", {})),
               "paper": r.method.get("paper", ""), "spec": self.spec.model_dump_json(exclude_defaults=True), "command": r.command, "started": r.started, "random_guess": float(r.facts["random_guess"]),
               "id": r.id, "folder": self.folder.as_posix(), "weights": r.weights or "", "result_sha256": file_hash(self.folder / RESULT),
               "predictions_sha256": str(r.predictions.get("sha256") or "")}
        texts = {name: clean(value) if isinstance(value, str) else value for name, value in row.items()}
        return {**texts, **{name: self.values.get(name) for name in VALUES}, "roc": self.roc}

    def __str__(self):
        return f"{self.group[0]}/{self.group[1]}/{self.result.method['name']}/{self.group[3]}, seed {self.spec.seed}"


def read_runs(results, only=None, limit=None):
    """One row per verified run, a frame with `COLUMNS`, and a list of sentences on what was left out and why.

    results: folders of results or submissions; only: `RunSpec`s, whose task/model/ratio groups alone are read; limit: read the trials
    on so many rows, and nothing else.
    The frame is a function of the files alone. Recomputed metrics are cached by the hashes of the files they come from.
    """
    roots = [Path(root) for root in ([results] if isinstance(results, (str, Path)) else results)]
    folders = list(dict.fromkeys(folder for root in roots for folder in Store(root).results()))
    if not folders:
        raise MubenchError(f"no results below {', '.join(map(str, roots))}: `mubench run TASK METHOD --out "
                           f"{roots[0] if roots else 'results'}` makes some, `mubench ls` says what there is")
    places, notes = None if only is None else {_place(spec.folder) for spec in only}, []
    runs = _verified([f for f in folders if places is None or _place(f) in places], notes, limit)
    runs.sort(key=lambda run: (run.group, run.settings, run.spec.seed))
    frame = pd.DataFrame([run.row() for run in runs], columns=list(COLUMNS))
    frame = frame.astype(dict.fromkeys([*VALUES, "random_guess", "original_score", "parameters", "share"], "float64") | dict.fromkeys(("seed", "trials", "version"), "int64") | {"anchor": bool})
    return frame, list(dict.fromkeys(map(clean, [*notes, *_failures(roots, places)])))


def _verified(folders, notes, limit=None):
    """The runs in ``folders`` whose metrics follow from their predictions, joined with retrain; the latest of equal ones."""
    runs, limited, counted, anchors = [], [], {}, {}
    for folder in folders:
        with _noting(folder, notes):
            run = Run.read(folder)
            trial = run.spec.limit or run.result.status == "limited"
            (runs if limit and run.spec.limit == limit or not (limit or trial) else limited).append(run)
    if limited and not limit:
        notes.append(f"left out, as they ran on a few rows only (--limit): {'; '.join(map(str, limited))}")
    runs.sort(key=lambda run: run.result.started, reverse=True)
    runs.sort(key=lambda run: (not run.anchor, bool(run.submission), run.group, run.spec.seed))
    for run in runs:
        keys = (run.submission, run.result.id), (run.group, run.settings, run.spec.seed)
        if same := counted.get(keys[0]) or counted.get(keys[1]):
            if same.result != run.result:
                notes.append(f"{run.folder} is left out: {same.folder} is the later result of the same run ({run})")
            continue
        with _noting(run.folder, notes):
            _recompute(run, run if run.anchor else _retrained(run, anchors), notes)
            counted |= dict.fromkeys(keys, run)
            if run.anchor:
                anchors.setdefault((run.group, run.spec.seed), {}).setdefault((run.submission, run.spec.precision), run)
    runs = list({id(run): run for run in counted.values()}.values())
    _relate_times(runs)
    return runs


def _retrained(run, anchors):
    """The retrained model of the same group and seed: the project's own before the submission's, never another submission's."""
    known = anchors.get((run.group, run.spec.seed), {})
    for whose in (OWN, run.submission):
        mine = {precision: there for (owner, precision), there in known.items() if owner == whose}
        if mine:
            return mine.get(run.spec.precision) or next(iter(mine.values()))
    return None


def _recompute(run, retrain, notes):
    """Every metric of a run from its predictions, or from the cache where the same files were read before."""
    files = [file_hash(path) if path.is_file() else None
             for path in (run.folder / RESULT, run.folder / PREDICTIONS, *([retrain.folder / PREDICTIONS] if retrain else []))]
    key = hashlib.sha256(json.dumps([_code(), *files]).encode()).hexdigest()
    path = cache_dir() / "recomputed" / key[:2] / f"{key}.json"
    try:
        run_values, run.roc = json.loads(path.read_text())
    except (OSError, ValueError):
        checked = read_run(run.folder)
        try:
            run_values = checked.score(None if retrain is None else _read_again(retrain.folder))
        except MubenchError as error:
            run_values, path = checked.score(), None  # raises where it is the result itself that is wrong
            notes.append(f"{run.folder} has no distances to retrain: {error}")
        run.roc = None if checked.frame is None else roc(checked.frame)
        if path is not None:
            with whole(path) as temporary:
                temporary.write_text(json.dumps([run_values, run.roc]))
    run.values |= run_values


@functools.lru_cache(maxsize=1)
def _read_again(folder):
    return read_run(folder)


@functools.cache
def _code():
    """A hash of the code of all metrics: what it computed before it was changed is computed again."""
    folder = Path(metrics.__file__).parent
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted([*folder.glob("*.py"), Path(__file__)]))).hexdigest()


def roc(frame):
    """True-positive rates of the attack that calls forget examples of low loss members, at the false-positive `RATES`."""
    from mubench.metrics.arrays import known

    losses = {name: frame.loc[frame["set"] == name, "loss"].to_numpy("float64") for name in ("forget", "test")} if "loss" in frame else {}
    if not losses or not all(map(len, losses.values())):
        return None
    members, others = (np.sort(known(values)) for values in (losses["forget"], losses["test"]))
    steps = np.unique(np.concatenate([members, others]))
    rates = [np.concatenate([[0], np.searchsorted(values, steps, "right") / len(values)]) for values in (others, members)]
    keep = np.append(np.diff(rates[0]) > 0, True)  # of equal false-positive rates the highest true-positive one
    return np.interp(RATES, rates[0][keep], rates[1][keep]).round(4).tolist()


def _relate_times(runs):
    times = {}
    for run in runs:
        if run.anchor and run.values["seconds"] is not None:
            times.setdefault(run.hardware, {}).setdefault(run.submission, []).append(run.values["seconds"])
    for run in runs:
        there = times.get(run.hardware, {})
        known = there.get(OWN) or there.get(run.submission) or [0]
        if np.mean(known) > 0 and run.values["seconds"] is not None:
            run.values["relative_seconds"] = run.values["seconds"] / float(np.mean(known))


def _failures(roots, places):
    """A sentence for every run that failed and has no result."""
    for path in dict.fromkeys(path for root in roots for path in sorted(root.rglob(ERROR))):
        if not (path.parent / RESULT).exists() and (places is None or _place(path.parent) in places):
            try:
                yield f"failed: {path.parent}: {json.loads(path.read_text())['reason']}"
            except (OSError, ValueError, KeyError, TypeError):
                yield f"failed: {path.parent}: its {ERROR} cannot be read"


@contextlib.contextmanager
def _noting(folder, notes):
    """Whatever a stranger's files make fail becomes a note."""
    try:
        yield
    except Exception as error:
        notes.append(f"{folder} is left out: {error if isinstance(error, MubenchError) else repr(error)}")


def _place(folder):
    """Task, model and ratio of a result's folder in a store."""
    return folder.parts[-5:-3], folder.parts[-2:-1]


def _submission(folder):
    """The folder with the `submission.json` that a result belongs to (NAME/results/task/model/method/ratio/id), or None."""
    return next((above for above in Path(folder).parents[4:6] if (above / SUBMISSION).is_file()), None)


def about(folder):
    """What a submission says of itself, by the folder of one of its runs; strings and what holds strings alone."""
    try:
        said = json.loads((_submission(Path(folder)) / SUBMISSION).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return {}
    known = {name: said[name] for name in ("title", "description", "paper", "code", "contact", "selection", "budget", "weights")
             if isinstance(said, dict) and isinstance(said.get(name), str)}
    row = said.get("taxonomy") if isinstance(said, dict) else None
    taxonomy = {name: clean(value) for name, value in row.items() if isinstance(value, str)} if isinstance(row, dict) else None
    return {name: clean(value) for name, value in known.items()} | ({"taxonomy": taxonomy} if taxonomy else {})


@functools.cache
def _modality(task):
    return registry.tasks.get(task).modality if task in registry.tasks.names() else "other"


def versioned(thing):
    return f"{thing['name']}" + ("" if thing["version"] == 1 else f" v{thing['version']}")


def clean(text):
    """One line of printable characters: results come from strangers, and terminals obey control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
