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

from mubench import registry
from mubench.measure import metrics
from mubench.cache import cache_dir, file_hash, whole
from mubench.errors import MubenchError
from mubench.measure.metrics import METRICS
from mubench.leaderboard import trust
from mubench.leaderboard.rows import GROUP, SETTINGS, Placed, alike, repeated
from mubench.leaderboard.trust.layout import SUBMISSION
from mubench.leaderboard.trust.levels import Level, level_of
from mubench.leaderboard.trust.reading import read_record, read_run
from mubench.records.predictions import PREDICTIONS
from mubench.records.result import RESULT
from mubench.records.store import ERROR, Store
from mubench.spec import RunSpec

LEVELS = tuple(map(str, Level))  # each is worth more than those before it
OWN = ""  # the submission of results that lie in no submission: the project's own
COSTS = ("seconds", "flops", "peak_memory_bytes", "relative_flops", "relative_seconds")
VALUES = (*METRICS, *COSTS)
RATES = np.round(
    np.concatenate([np.linspace(0, 0.1, 11), np.linspace(0.15, 1, 18)]), 2
)  # false-positive rates of stored ROC curves
COLUMNS = {
    "submission": "folder name of the submission, empty for the project's own results",
    "tier": "mini or paper",
    "modality": "of the task",
    "task": "its name, with its version if not 1",
    "model": "the task's name for it",
    "architecture": "the model's class",
    "ratio": "per cent of D to forget, or file…",
    "method": "registry name",
    "version": "of the method",
    "task_version": "of the task",
    "engine": "version of the training code, none of weights from elsewhere",
    "schema": "of the record: 1 does not know the fingerprint",
    "fingerprint": "of the method's code, empty where it is not known",
    "variant": (
        "default, official (the protocol of the authors' code), tuned (on validation data) or custom (anything "
        "else set by hand)"
    ),
    "trials": "settings tried to tune",
    "params": "hyperparameters that were passed (JSON)",
    "options": "other settings of the run (JSON)",
    "seed": "of everything random",
    "status": "complete, or stopped by a budget",
    "level": "of verification",
    "flags": "what a reader should look at",
    **{name: m.description for name, m in METRICS.items()},
    "seconds": "unlearning: CPU seconds without a GPU, wall clock with one",
    "flops": "floating-point operations",
    "peak_memory_bytes": "largest resident size or GPU allocation",
    "random_guess": "score of a model that knows nothing",
    "relative_flops": "work: floating-point operations as a multiple of retraining's",
    "relative_seconds": (
        "seconds as a multiple of retraining's, where machine, threads and versions are known to be the same"
    ),
    "original_score": "of the original model on the test set",
    "parameters": "of the model",
    "share": "per cent of the parameters that were trained, if LoRA; else 100",
    "curve": "scores along the run (JSON), where they were recorded",
    "roc": (
        f"true-positive rates of the loss attack at false-positive rates {', '.join(f'{r:g}' for r in RATES[:3])}, …, 1"
    ),
    "checkpoint": "standard, or sha256 of an original of one's own",
    "original": "sha256 of the original it started from",
    "forget_rows": "checksum of the forget rows",
    "data": "checksum of the training rows",
    "ratio_order": "the ratio as a number, infinite for a split file",
    "anchor": "whether distances are measured to it",
    "machine": "hardware",
    "threads": "of the run",
    "environment": "versions (JSON)",
    "hyperparameters": "all of them (JSON)",
    "paper": "of the method",
    "spec": "what was run (JSON)",
    "command": "that repeats the run",
    "started": "UTC",
    "id": "of the spec",
    "folder": "of the result",
    "weights": "sha256 of the unlearned weights",
    "result_sha256": "of result.json",
    "predictions_sha256": "of predictions.parquet",
}


# -- reading
# ---------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Run(Placed):
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
        hash((run.group, run.settings, run.old, result.clock))  # whatever they lack is to be missed here
        return run

    def row(self):
        """A row of the frame of runs."""
        r, (found, flags) = self.result, level_of(self.folder, self.result)
        as_json = functools.partial(json.dumps, sort_keys=True, default=str)
        row = {
            "submission": self.submission,
            "tier": r.task.get("tier") or "mini",
            "modality": _modality(r.task["name"]),
            **dict(zip(GROUP, self.group)),
            **dict(zip(SETTINGS, self.settings)),
            "task_version": r.task["version"],
            "engine": self.engine,
            "architecture": r.model.get("class") or r.model["name"],
            "params": as_json(self.spec.params),
            "seed": self.spec.seed,
            "status": r.status,
            "level": str(found),
            "flags": "; ".join(flags),
            "original": str(r.checkpoint["sha256"]),
            "original_score": float(r.checkpoint["test_score"]),
            "parameters": float(r.model.get("parameters") or math.nan),
            "share": float((r.model.get("lora") or {"share": 100})["share"]),
            "curve": json.dumps(r.curve) if r.curve else "",
            "anchor": self.anchor,
            "machine": r.environment["machine"],
            "threads": r.environment["threads"],
            "environment": as_json(r.environment),
            "paper": r.method.get("paper", ""),
            "spec": self.spec.model_dump_json(exclude_defaults=True),
            "command": r.command,
            "started": r.started,
            "random_guess": float(r.facts["random_guess"]),
            "id": r.id,
            "folder": self.folder.as_posix(),
            "weights": r.weights or "",
            "result_sha256": file_hash(self.folder / RESULT),
            "predictions_sha256": str(r.predictions.get("sha256") or ""),
        }
        texts = {name: clean(value) if isinstance(value, str) else value for name, value in row.items()}
        return {**texts, **{name: self.values.get(name) for name in VALUES}, "roc": self.roc}


def read_runs(results, only=None, limit=None):
    """One row per verified run, a frame with `COLUMNS`, and a list of sentences on what was left out and why.

    results: folders of results or submissions; only: `RunSpec`s, whose task/model/ratio groups alone are read; limit:
    read the trials on so many rows, and nothing else.
    The frame is a function of the files alone. Recomputed metrics are cached by the hashes of the files they come from.
    """
    roots = [Path(root) for root in ([results] if isinstance(results, (str, Path)) else results)]
    folders = list(dict.fromkeys(folder for root in roots for folder in Store(root).results()))
    if not folders:
        raise MubenchError(
            f"no results below {', '.join(map(str, roots))}: `mubench run TASK METHOD --out "
            f"{roots[0] if roots else 'results'}` makes some, `mubench ls` says what there is"
        )
    places, notes = None if only is None else {_place(spec.folder) for spec in only}, []
    runs = _verified([f for f in folders if places is None or _place(f) in places], notes, limit)
    runs.sort(key=lambda run: (run.group, run.submission, run.settings, run.spec.seed))
    frame = pd.DataFrame([run.row() for run in runs], columns=list(COLUMNS))
    floats = (*VALUES, "random_guess", "original_score", "parameters", "share", "engine")
    counts = ("seed", "trials", "version", "task_version", "schema")
    frame = frame.astype(dict.fromkeys(floats, "float64") | dict.fromkeys(counts, "int64") | {"anchor": bool})
    return frame, list(dict.fromkeys(map(clean, [*notes, *_failures(roots, places)])))


def _verified(folders, notes, limit=None):
    """The runs in ``folders`` whose metrics follow from their predictions, joined with retrain: one of each row and
    seed."""
    runs, limited, counted, anchors = [], [], [], {}
    for folder in folders:
        with _noting(folder, notes):
            run = Run.read(folder)
            trial = run.spec.limit or run.result.status == "limited"
            (runs if limit and run.spec.limit == limit or not (limit or trial) else limited).append(run)
    if limited and not limit:
        notes.append(f"left out, as they ran on a few rows only (--limit): {'; '.join(map(str, limited))}")
    runs.sort(key=lambda run: (run.result.started, run.result.id, str(run.folder)), reverse=True)
    runs.sort(key=lambda run: (run.group, run.spec.seed))
    for retraining in (True, False):
        sound = []
        for run in runs:
            if run.anchor == retraining:
                with _noting(run.folder, notes):
                    _recompute(run, run if run.anchor else _retrained(run, anchors), notes)
                    sound.append(run)
        counted += _one_each(sound, notes)
        for run in counted if retraining else ():
            anchors.setdefault((run.group, run.spec.seed), []).append(run)
    relate(counted)
    return counted


def _one_each(runs, notes):
    """Of several results of one row and seed, the latest where all are the same run, else none; ``runs``: latest
    first."""
    left_out = set()
    for same in repeated(runs):
        left_out |= {*same[1:]} if alike(same) else {*same}
        if not alike(same):
            notes.append(
                f"{same[0]}: {' and '.join(str(run.folder) for run in same)} are results of one seed of one "
                "row, and differ: none of them counts"
            )
    return [run for run in runs if run not in left_out]


def _retrained(run, anchors):
    """The retrained model of the same group and seed: the project's own before the submission's, never another
    submission's; of several the one of the same schema, and of the same precision."""
    known = anchors.get((run.group, run.spec.seed), [])
    for whose in (OWN, run.submission):
        if mine := [other for other in known if other.submission == whose]:
            return max(mine, key=lambda other: (other.schema == run.schema, other.spec.precision == run.spec.precision))
    return None


def _recompute(run, retrain, notes):
    """Every metric of a run from its predictions, or from the cache where the same files were read before."""
    files = [
        file_hash(path) if path.is_file() else None
        for path in (
            run.folder / RESULT,
            run.folder / PREDICTIONS,
            *([retrain.folder / PREDICTIONS] if retrain else []),
        )
    ]
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
    """A hash of the code that reads and computes: what it found before it was changed is found again."""
    folders = Path(metrics.__file__).parent, Path(trust.__file__).parent
    files = sorted([*(path for folder in folders for path in folder.glob("*.py")), Path(__file__)])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def roc(frame):
    """True-positive rates of the attack that calls forget examples of low loss members, at the false-positive
    `RATES`.
    """
    from mubench.measure.metrics.arrays import known

    losses = (
        {name: frame.loc[frame["set"] == name, "loss"].to_numpy("float64") for name in ("forget", "test")}
        if "loss" in frame
        else {}
    )
    if not losses or not all(map(len, losses.values())):
        return None
    members, others = (np.sort(known(values)) for values in (losses["forget"], losses["test"]))
    steps = np.unique(np.concatenate([members, others]))
    rates = [
        np.concatenate([[0], np.searchsorted(values, steps, "right") / len(values)]) for values in (others, members)
    ]
    keep = np.append(np.diff(rates[0]) > 0, True)  # of equal false-positive rates the highest true-positive one
    return np.interp(RATES, rates[0][keep], rates[1][keep]).round(4).tolist()


RELATIVE = {  # share → of what, and which runs may be compared: those where this is equal, and true
    "relative_flops": ("flops", lambda run: True),
    "relative_seconds": ("seconds", lambda run: run.result.clock),
}


def relate(runs):
    """What runs cost as shares of retraining in the same group: of its mean over the project's own seeds, else over the
    submission's."""
    for share, (cost, comparable) in RELATIVE.items():
        place, known = (lambda run: (run.group, comparable(run))), {}
        for run in runs:
            if run.anchor and comparable(run) and run.values[cost]:
                known.setdefault(place(run), {}).setdefault(run.submission, []).append(run.values[cost])
        for run in runs:
            there = known.get(place(run), {})
            if (theirs := there.get(OWN) or there.get(run.submission)) and run.values[cost] is not None:
                run.values[share] = run.values[cost] / float(np.mean(np.sort(theirs)))


def of_one_code(runs):
    """Of runs that differ in their code alone (versions, fingerprint, schema), those of one: of the code with most
    seeds, of equal ones the latest."""
    place = ["submission", "task", "model", "ratio", "method", "params", "trials", "options"]
    code = [*place, "version", "engine", "schema", "fingerprint"]
    by_code, by_place = (runs.groupby(names, dropna=False) for names in (code, place))
    order = pd.DataFrame(
        {
            "seeds": by_code["seed"].transform("nunique"),
            "started": by_code["started"].transform("max"),
            "code": by_code.ngroup(),
            "place": by_place.ngroup(),
        }
    )
    best = order.sort_values(["seeds", "started", "code"]).groupby("place")["code"].last()
    return runs[order["code"].eq(order["place"].map(best))]


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
    """The folder with the `submission.json` that a result belongs to (NAME/results/task/model/method/ratio/id), or
    None.
    """
    return next((above for above in Path(folder).parents[4:6] if (above / SUBMISSION).is_file()), None)


def about(folder):
    """What a submission says of itself, by the folder of one of its runs; strings and what holds strings alone."""
    try:
        said = json.loads((_submission(Path(folder)) / SUBMISSION).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return {}
    known = {
        name: said[name]
        for name in ("title", "description", "paper", "code", "contact", "selection", "budget", "weights")
        if isinstance(said, dict) and isinstance(said.get(name), str)
    }
    row = said.get("taxonomy") if isinstance(said, dict) else None
    taxonomy = (
        {name: clean(value) for name, value in row.items() if isinstance(value, str)} if isinstance(row, dict) else None
    )
    return {name: clean(value) for name, value in known.items()} | ({"taxonomy": taxonomy} if taxonomy else {})


@functools.cache
def _modality(task):
    return registry.tasks.get(task).modality if task in registry.tasks.names() else "other"


def clean(text):
    """One line of printable characters: results come from strangers, and terminals obey control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
