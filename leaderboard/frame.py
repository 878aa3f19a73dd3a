"""Folders of results → one frame with a row per run: read, recomputed, compared with retraining. Imports no torch."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd

from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard.columns import RUN_COLUMNS, VALUES
from mubench.leaderboard.escape import one_line
from mubench.leaderboard.index import Index
from mubench.leaderboard.recompute import Reader, asked, recompute
from mubench.leaderboard.rows import REFERENCES, alike, repeated
from mubench.leaderboard.stored import AROUND, COLUMNS, MEASURED
from mubench.leaderboard.submitter import OWN
from mubench.measure.metrics import looked_at
from mubench.records.store import ERROR

CHUNK = 1000  # runs whose rows are in memory as such

# -- reading -----------------------------------------------------------------------------------------------------------


def read_runs(results, only=None, limit=None):
    """Every verified run, and what was left out.

    results: a folder of results or submissions, or several.
    only: `RunSpec`s, whose task/model/ratio groups alone are read; of failures, their own.
    limit: read the trials on so many rows, and nothing else.

    Returns a frame with `RUN_COLUMNS`, one row per run, and a list of sentences on what was left out and why. Scores on
    further sets that some task names come after these columns. The frame is a function of the files alone. What was
    recomputed is kept in the `Index` of each folder. Raises `MubenchError` where there is no result at all.
    """
    roots = [Path(root) for root in ([results] if isinstance(results, (str, Path)) else results)]
    places, notes = None if only is None else {_place(spec.folder.parts) for spec in only}, []
    runs, failed = _readable(roots, places, notes, limit)
    runs = _verified(runs, notes)
    notes += _failures(failed, only)
    return _frame(runs), list(dict.fromkeys(map(one_line, notes)))


def _readable(roots, places, notes, limit):
    """The runs with a record that can be read, and the folders of those that failed.

    places: `_place`s that alone are read (None: all).
    limit: of the trials that alone are wanted (None: the runs on all rows).
    """
    seen, failed, runs, limited = set(), {}, [], []
    for root in dict.fromkeys(roots):
        index, wanted = Index(root), functools.partial(_wanted, root.parts, places)
        results, errors = index.scan(wanted)
        failed |= dict.fromkeys(root / name for name in errors)
        for name in results:
            if (folder := "/".join((*root.parts, name))) not in seen:
                seen.add(folder)
                run = wanted(name) and (index.runs.get(name) or _tried(root / name, notes, index.run, name))
                if run:
                    (runs if run.facts["limited"] == (limit or 0) else limited).append(run)
    if not seen:
        raise MubenchError(
            f"no results below {', '.join(map(str, roots))}: `mubench run TASK METHOD --out "
            f"{roots[0] if roots else 'results'}` makes some, `mubench ls` says what there is"
        )
    if limited and not limit:
        notes.append(f"left out, as they ran on a few rows only (--limit): {'; '.join(map(str, limited))}")
    return runs, list(failed)


def _verified(runs, notes):
    """The runs whose metrics follow from their predictions, one of each row and seed, related to retraining.

    Those of a group, of a submission and of a row lie together, in the order of their seeds.
    """
    groups, verified = {}, []
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    for group in sorted(groups):
        members = groups[group]
        members.sort(key=lambda run: (run.facts["started"], run.facts["id"], run.folder), reverse=True)
        members.sort(key=lambda run: run.seed)
        sound = _verified_group(members, notes)
        relate(sound)
        verified += sorted(sound, key=lambda run: (run.submission, run.settings, run.seed))
        for index in {run.index for run in members}:
            index.save()
    return verified


def _verified_group(runs, notes):
    """`_verified` for the runs of one group, latest first: references by themselves, then all compared with them."""
    reader, found = Reader(), {}
    proved = [run for run in runs if run.role and _tried(run.folder, notes, reader.prove, run)]
    references = _one_each(proved, notes)
    unsound = {run for run in runs if run.role} - {*references}

    def verified(run):
        near = run if run.role else (run.submission, run.seed, run.schema, run.facts["precision"])
        if near not in found:
            found[near] = (others := references_of(run, references)), asked(others)
        return recompute(run, *found[near], notes, reader)

    return _one_each([run for run in runs if run not in unsound and _tried(run.folder, notes, verified, run)], notes)


def _frame(runs):
    """The frame of runs: `RUN_COLUMNS`, then the scores on further sets."""
    more = sorted({name for text in {run.facts["further"] for run in runs} for name in json.loads(text)})
    computed = [name for name in (*VALUES, *more) if name not in MEASURED]
    columns, values = {name: [] for name in (*COLUMNS, *AROUND)}, [np.empty((0, len(computed)))]
    for start in range(0, len(runs), CHUNK):
        part = runs[start : start + CHUNK]
        for column, cells in zip(columns.values(), zip(*(run.columns() for run in part), strict=True), strict=True):
            column += cells
        values.append(np.array([[*map(run.values.get, computed)] for run in part], "float64"))
    columns |= dict(zip(computed, np.concatenate(values).T, strict=True))
    modality = functools.cache(_modality)
    columns |= {"modality": [modality(run.facts["task"]) for run in runs], "roc": [run.roc for run in runs]}
    frame = pd.DataFrame(columns if runs else (), columns=[*RUN_COLUMNS, *more])
    floats = (*VALUES, *more, "random_guess", "original_score", "parameters", "share", "engine")
    counts = ("seed", "trials", "version", "task_version", "schema")
    return frame.astype(dict.fromkeys(floats, "float64") | dict.fromkeys(counts, "int64") | {"anchor": bool})


def _modality(task):
    """That of a task by its name, with its version if not 1."""
    name = task.partition(" ")[0]
    return registry.tasks.get(name).modality if name in registry.tasks.names() else "other"


def _one_each(runs, notes):
    """Of several results of one row and seed, the latest where all are the same run, else none.

    runs: latest first.
    """
    left_out = set()
    for same in repeated(runs):
        left_out |= {*same[1:]} if alike(same) else {*same}
        if not alike(same):
            notes.append(
                f"{same[0]}: {' and '.join(str(run.folder) for run in same)} are results of one seed of one "
                "row, and differ: none of them counts"
            )
    return [run for run in runs if run not in left_out]


def references_of(run, references):
    """Role → the runs that a run is compared with, as many as the metrics look at: first that of its own seed.

    references: the runs of the group that have a role.

    They are the project's own or else the submission's, never another submission's. That of the run's own seed is of
    the same schema and precision, where there is such a one; it may be the run itself. The others differ from it in
    their seed alone; where there is none, they are those of most seeds.
    """
    found = {}
    for role in REFERENCES:
        if (most := looked_at(role)) == 0:
            continue
        near = lambda other: (other.schema == run.schema, other.facts["precision"] == run.facts["precision"])
        candidates = [other for other in references if other.role == role and other.submission in (OWN, run.submission)]
        candidates.sort(key=lambda other: other.submission != OWN)
        same_seed = [other for other in candidates if other.seed == run.seed]
        same_seed = [other for other in same_seed if other.submission == same_seed[0].submission]
        own = [run] if run in candidates else [max(same_seed, key=near)] if same_seed else []
        alike = {}
        for other in candidates:
            alike.setdefault(other.settings, {}).setdefault(other.seed, other)
        rest = alike[own[0].settings] if own else max(alike.values(), key=lambda a: (near(_any(a)), len(a)), default={})
        others = [rest[seed] for seed in sorted(rest) if not own or seed != run.seed]
        found[role] = (own + others)[:most] if most is None or own else []
    return found


def _any(runs):
    return next(iter(runs.values()))


def _failures(folders, only):
    """A sentence for every run, or for each of those asked for, that failed and has no result."""
    asked = None if only is None else {spec.folder for spec in only}
    for folder in folders:
        if asked is None or Path(*folder.parts[-5:]) in asked:
            try:
                record = json.loads((folder / ERROR).read_text(encoding="utf-8"))
                yield f"failed: {folder}: {record['reason']}"
            except (OSError, ValueError, KeyError, TypeError):
                yield f"failed: {folder}: its {ERROR} cannot be read"


def _tried(folder, notes, what, *given):
    """What something gives, or None: whatever a stranger's files make fail becomes a note."""
    try:
        return what(*given)
    except Exception as error:
        notes.append(f"{folder} is left out: {error if isinstance(error, MubenchError) else repr(error)}")
        return None


def _wanted(above, places, name):
    """Whether a folder below the one of parts ``above`` is in one of some places (None: in any)."""
    return places is None or _place((*above, *name.split("/"))) in places


def _place(parts):
    """Task, model and ratio of a result's folder, whose parts are given."""
    return parts[-5:-3], parts[-2:-1]


# -- relating and choosing ---------------------------------------------------------------------------------------------

RELATIVE = {  # share → of what, and which runs may be compared: those where this is equal, and true
    "relative_flops": ("flops", lambda run: True),
    "relative_seconds": ("seconds", lambda run: run.facts["clock"]),
}


def relate(runs):
    """Set what the runs of a group cost as shares of retraining.

    Retraining costs the mean over the project's own seeds, else over the submission's.
    """
    for share, (cost, comparable) in RELATIVE.items():
        retraining = {}  # where costs can be compared → submission → costs
        for run in runs:
            if run.anchor and comparable(run) and run.facts[cost]:
                place = retraining.setdefault(comparable(run), {})
                place.setdefault(run.submission, []).append(run.facts[cost])
        means = {
            key: {who: float(np.mean(np.sort(c))) for who, c in place.items()} for key, place in retraining.items()
        }
        for run in runs:
            place = means.get(comparable(run), {})
            mean = place.get(OWN) or place.get(run.submission)
            if mean and run.facts[cost] is not None:
                run.values[share] = run.facts[cost] / mean


def of_one_code(runs):
    """Of runs that differ in their code alone (versions, fingerprint, schema), those of one code.

    It is the code with most seeds, of equal ones the latest.
    """
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
