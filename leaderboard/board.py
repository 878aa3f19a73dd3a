"""Tables from result folders: every number recomputed from predictions, means over seeds, original and retrain first."""
import contextlib
import json
import math
import re
import shlex
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.metrics import METRICS
from mubench.results import ERROR, RESULT, Result, RunSpec, Store, read, score
from mubench.splits import parse_ratio

REFERENCES = ("original", "retrain")
COSTS = ("seconds", "flops", "peak_memory_bytes")
VALUES = (*METRICS, *COSTS, "relative_seconds")

SHORT = {"test_score": "test", "forget_score": "forget", "retain_score": "retain", "transfer_score": "transfer",
         "mia_loss_auc": "MIA AUC", "mia_tpr_at_1_fpr": "TPR@1%", "mia_logistic": "MIA logistic",
         "mia_svc_confidence": "MIA SVC", "zrf": "ZRF", "zrf_official": "ZRF official", "knowledge_gap": "knowledge gap",
         "gap_to_retrain": "gap", "js_to_retrain": "JS"}
ARROWS = {"higher": " ↑", "lower": " ↓", "retrain": ""}
HEADERS = {name: SHORT.get(name, name) + (ARROWS[m.better] if m.better in ARROWS else f" →{100 * float(m.better):g}")
           for name, m in METRICS.items()}
HEADERS |= {"seconds": "seconds ↓", "flops": "GFLOPs ↓", "relative_seconds": "time, % of retrain ↓"}
SCALES = {"seconds": 1, "flops": 1e-9}  # all others are fractions, shown in per cent
FULL = (*METRICS, "seconds", "flops")
MAIN = ("test_score", "forget_score", "retain_score", "transfer_score", "mia_loss_auc", "overall", "gap_to_retrain",
        "seconds")
ACROSS = ("overall", "gap_to_retrain", "mia_loss_auc", "relative_seconds")


def board(results="results", out=None, only=None, level=0.95):
    """Check and aggregate results into a `Board`.

    results: a folder of results or several; out: a folder to write board.md, board.csv, board.json and board.tex to;
    only: `RunSpec`s, whose task/model/ratio groups alone are shown, with all that the folders hold of them;
    level: of the Student-t confidence intervals over seeds, in (0, 1).

    A result that is damaged, does not match its predictions, or ran on a few rows only is left out with a note.
    Raises `MubenchError` where there is no result at all, or ``out`` cannot be written.
    """
    if not 0 < level < 1:
        raise MubenchError(f"level {level!r}: it must lie between 0 and 1, such as 0.95")
    roots = [Path(root) for root in ([results] if isinstance(results, (str, Path)) else results)]
    folders = list(dict.fromkeys(folder for root in roots for folder in Store(root).results()))
    if not folders:
        raise MubenchError(f"no results below {', '.join(map(str, roots))}: `mubench run TASK METHOD --out "
                           f"{roots[0] if roots else 'results'}` makes some, `mubench ls` says what there is")
    places = None if only is None else {_place(spec.folder) for spec in only}
    left_out = []
    runs = _verified([f for f in folders if places is None or _place(f) in places], left_out)
    rows, lacking = _rows(runs, level)
    across, uncommon = _across(rows)
    notes = [*lacking, *uncommon, *left_out, *_failures(roots, places)]
    made = Board(rows, across, [_clean(note) for note in dict.fromkeys(notes)], level)
    if out is not None:
        made.write(out)
    return made


@dataclass(eq=False)
class Board:
    """Tables of results.

    rows: a data frame with one row per group (task, model, ratio) and method with its settings: the mean of every metric
        (fractions) and cost (seconds, FLOPs, bytes, ``relative_seconds`` as a multiple of retrain's), each with its
        ``_half_width`` (NaN for n = 1) and ``_n``; ``n`` is the number of runs, 0 where a reference is missing.
    overall: the default rows averaged over the ``n`` groups that have all methods; empty for a single group.
    notes: what was left out or is missing, one sentence each; level: of the intervals; files: what `write` wrote.
    """

    rows: pd.DataFrame
    overall: pd.DataFrame
    notes: list
    level: float = 0.95
    files: tuple = ()

    @property
    def legend(self):
        return (f"Per cent, ± half-width of the {100 * self.level:g} % interval over n seeds; ↑ more, ↓ less, → that value "
                "is better; others: the closer to retrain the better. # ranks by overall. Seconds are of unlearning alone: of the CPU on a "
                "machine without a GPU, whatever else runs there, of the wall clock on one with.")

    def text(self):
        """The main columns, for a terminal."""
        tables = [f"{_clean(title)}\n\n{_pipe(frame, 'simple')}" for title, frame in self._tables(MAIN)]
        notes = "\n".join(f"note: {note}" for note in self.notes)
        return "\n\n".join(filter(None, [*tables, self.legend if tables else "", notes]))

    def markdown(self):
        """All metrics, as GitHub-flavoured Markdown."""
        tables = []
        for title, frame in self._tables(FULL):
            escaped = frame.apply(lambda cells: cells.map(_markdown)).rename(columns=_markdown)
            tables.append(f"## {_markdown(title)}\n\n{_pipe(escaped, 'pipe')}\n")
        notes = ["## Notes\n\n" + "".join(f"- {_markdown(note)}\n" for note in self.notes)] if self.notes else []
        return "\n".join([f"{self.legend}\n", *tables, *notes])

    def latex(self):
        """All metrics, one booktabs tabular per group."""
        parts = [f"% {self.legend}\n"]
        for title, frame in self._tables(FULL):
            body = frame.to_latex(index=False, escape=True, column_format="rl" + "r" * (frame.shape[1] - 2))
            parts.append(f"% {_clean(title)}\n" + re.sub("[±↑↓→–]", lambda found: _SYMBOLS[found[0]], body))
        return "\n".join(parts) + "".join(f"% note: {note}\n" for note in self.notes)

    def csv(self):
        """All rows, means, half-widths and n at full precision. Text that a spreadsheet would run gets an apostrophe."""
        def guard(cell):
            return re.sub(r"^(?=[=+@-])", "'", cell) if isinstance(cell, str) else cell

        texts = {name: self.rows[name].map(guard) for name in self.rows.select_dtypes(exclude="number")}
        return self.rows.assign(**texts).to_csv(index=False, lineterminator="\n")

    def json(self):
        """The same data, the table over all groups and the notes."""
        data = {"mubench": version("mubench"), "level": self.level, "rows": _records(self.rows),
                "overall": _records(self.overall), "notes": self.notes}
        return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, out):
        """Write board.md, board.csv, board.json and board.tex, each whole or not at all; ``files`` lists them."""
        contents = {"md": self.markdown(), "csv": self.csv(), "json": self.json(), "tex": self.latex()}
        for suffix, text in contents.items():
            with whole(Path(out) / f"board.{suffix}") as path:
                path.write_text(text, encoding="utf-8", newline="\n")
        self.files = tuple(str(Path(out) / f"board.{suffix}") for suffix in contents)

    def _tables(self, columns):
        """Title and frame of cells of every table."""
        for title, rows in self.rows.groupby("group", sort=False):
            yield title, _cells(rows, columns)
        if len(self.overall):
            n = self.overall["n"].iloc[0]
            title = f"overall, mean of {n} groups" if n > 1 else "overall, of the one group that has all methods"
            yield title, _cells(self.overall, ACROSS, "groups")


# -- reading -------------------------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """A stored result and its recomputed values."""

    folder: Path
    result: Result
    spec: RunSpec
    values: dict

    @classmethod
    def read(cls, folder):
        result = read(folder)
        costs = {"seconds": result.seconds, **{name: result.costs[name] for name in COSTS[1:]}}
        values = {name: None if value is None else float(value) for name, value in costs.items()}
        for name, value in values.items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise MubenchError(f"{folder}: {name} is {value}")
        run = cls(folder, result, RunSpec(**result.spec), values)
        hash((run.group, run.settings, run.hardware))  # whatever they lack is to be missed here
        return run

    @cached_property
    def group(self):
        """What runs must share to be compared; ends with what the title normally leaves out."""
        task, split = self.result.task, self.result.split
        order = math.inf if self.spec.split_file else parse_ratio(self.spec.ratio)
        return (_versioned(task), str(self.spec.model), order, str(split["name"]), str(self.result.checkpoint["sha256"]),
                str(split["checksum"]), str(split["data"]))

    @cached_property
    def settings(self):
        """What runs must share to be averaged: method, version, hyperparameters, trials and options."""
        return self.name, json.dumps(self.spec.params, sort_keys=True), self.spec.trials, tuple(self.options)

    @property
    def name(self):
        return _versioned(self.result.method)

    @property
    def method(self):
        return self.result.method["name"]

    @property
    def options(self):
        said = self.spec.model_dump(exclude_defaults=True, exclude={
            "task", "model", "method", "ratio", "seed", "params", "split_file", "checkpoint", "limit", "trials"})
        return [f"{name}={value}" for name, value in sorted(said.items())]

    def label(self, every=False):
        """The row's name; the hyperparameters that tuning chose are told only with ``every``."""
        params = [f"{name}={value}" for name, value in sorted(self.spec.params.items())]
        tuned = [f"tuned, {self.spec.trials} trials"] if self.spec.trials else []
        said = [*tuned, *(params if every or not tuned else []), *self.options]
        return _clean(f"{self.name} ({', '.join(said)})" if said else self.name)

    @property
    def default(self):
        return self.spec.plain and not self.spec.params and not self.spec.trials

    @property
    def anchor(self):
        """Whether others are compared with it: retraining by the recipe, to its end."""
        return self.method == "retrain" and self.default and self.result.status == "complete"

    @property
    def hardware(self):
        """Times are compared only where this is equal."""
        return self.group, self.result.environment["machine"], self.result.environment["threads"]

    def __str__(self):
        return f"{'/'.join([self.group[0], self.group[1], self.label(), self.group[3]])}, seed {self.spec.seed}"


def _verified(folders, notes):
    """The runs in ``folders`` whose metrics follow from their predictions, joined with retrain; the latest of equal ones."""
    runs, limited, counted, anchors = [], [], {}, {}
    for folder in folders:
        with _noting(folder, notes):
            run = _Run.read(folder)
            (limited if run.spec.limit or run.result.status == "limited" else runs).append(run)
    if limited:
        notes.append(f"left out, as they ran on a few rows only (--limit): {'; '.join(map(str, limited))}")
    runs.sort(key=lambda run: run.result.started, reverse=True)
    for run in sorted(runs, key=lambda run: not run.anchor):
        keys = run.result.id, (run.group, run.settings, run.spec.seed)
        if same := counted.get(keys[0]) or counted.get(keys[1]):
            if same.result != run.result:
                notes.append(f"{run.folder} is left out: {same.folder} is the later result of the same run ({run})")
            continue
        with _noting(run.folder, notes):
            known = anchors.get((run.group, run.spec.seed), {})
            retrain = run if run.anchor else known.get(run.spec.precision) or next(iter(known.values()), None)
            run.values |= _score(run, retrain, notes)
            counted |= dict.fromkeys(keys, run)
            if run.anchor:
                anchors.setdefault((run.group, run.spec.seed), {})[run.spec.precision] = run
    runs = [run for key, run in counted.items() if isinstance(key, str)]
    _relate_times(runs)
    return runs


def _score(run, retrain, notes):
    if retrain is not None:
        try:
            return score(run.folder, retrain.folder)
        except MubenchError as error:
            values = score(run.folder)  # raises where it is the result itself that is wrong
            notes.append(f"{run.folder} has no distances to retrain: {error}")
            return values
    return score(run.folder)


def _relate_times(runs):
    times = {}
    for run in runs:
        if run.anchor:
            times.setdefault(run.hardware, []).append(run.values["seconds"])
    for run in runs:
        if np.mean(times.get(run.hardware, 0)) > 0 and run.values["seconds"] is not None:
            run.values["relative_seconds"] = run.values["seconds"] / np.mean(times[run.hardware])


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


# -- aggregating ---------------------------------------------------------------------------------------------------------


def _rows(runs, level):
    """The frame of rows, and sentences on the references that are missing."""
    groups, frames, notes = {}, [], []
    for run in sorted(runs, key=lambda run: (run.group, run.settings, run.spec.seed)):
        groups.setdefault(run.group, {}).setdefault(run.settings, []).append(run)
    titles = Counter(group[:4] for group in groups)
    for group, members in groups.items():
        task, model, _, ratio, checkpoint, forget, data = group
        title = f"{task} / {model} / {ratio}" + ("" if ratio.startswith("file") else " %")
        if titles[group[:4]] > 1:
            title += f" (original {checkpoint[:8]}, forget rows {forget[:8]}, data {data[:8]})"
        shared = {"group": _clean(title), "task": _clean(task), "model": _clean(model), "ratio": _clean(ratio),
                  "checkpoint": _clean(checkpoint), "forget_rows": _clean(forget), "data": _clean(data)}
        labels = Counter(runs[0].label() for runs in members.values())
        rows = [shared | _row(runs, runs[0].label(labels[runs[0].label()] > 1), level) for runs in members.values()]
        for name in REFERENCES:
            there = [run for runs in members.values() for run in runs if run.method == name]
            if not there:
                rows.append(shared | {"method": name, "label": name, "default": True, "n": 0, "stopped": 0})
            notes += _lacking(name, there, [run for runs in members.values() for run in runs], title)
        frames.append(_ranked(pd.DataFrame(rows)))
    columns = ["group", "task", "model", "ratio", "method", "label", "params", "trials", "default", "rank", "n", "stopped",
               "remarks", *(f"{name}{part}" for name in VALUES for part in ("", "_half_width", "_n")),
               "checkpoint", "forget_rows", "data"]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    frame = frame.reindex(columns=columns)
    counts = ["trials", "rank", "n", "stopped", *(f"{name}_n" for name in VALUES)]
    means = [column for name in VALUES for column in (name, f"{name}_half_width")]
    return frame.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(means, "float64")), notes


def _row(runs, label, level):
    first = runs[0]
    row = {"method": _clean(first.method), "label": label, "params": _clean(json.dumps(first.spec.params, sort_keys=True)),
           "trials": first.spec.trials, "default": first.default, "n": len(runs),
           "stopped": sum(run.result.status == "stopped" for run in runs)}
    for name in VALUES:
        found = _interval([run.values.get(name) for run in runs], level)
        row |= dict(zip((name, f"{name}_half_width", f"{name}_n"), found))
    return row


def _interval(values, level):
    """Mean, half-width of the Student-t interval (NaN below two values) and number of the values that are not None."""
    from scipy.stats import t

    known = np.array([value for value in values if value is not None], dtype="float64")
    n = len(known)
    half = t.ppf((1 + level) / 2, n - 1) * known.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return known.mean() if n else math.nan, half, n


def _lacking(name, there, runs, title):
    """The command that makes the reference where it is missing; every seed needs its own retrained model."""
    done = {run.spec.seed for run in there if run.anchor or name != "retrain"}
    seeds = sorted({run.spec.seed for run in runs} - done)
    if not seeds or done and name != "retrain":
        return []
    run = runs[0]
    where = ["--split-file", run.spec.split_file] if run.spec.split_file else ["--ratio", run.spec.ratio]
    checkpoint = ["--checkpoint", run.spec.checkpoint] if run.spec.checkpoint else []
    root = run.folder.parents[4] if run.folder.parts[-5:-4] == (run.result.task["name"],) else Path("results")
    out = ["--out", str(root)] if root != Path("results") else []
    line = shlex.join(["mubench", "run", run.spec.task, name, "--model", run.spec.model, *where, "--seed", *map(str, seeds),
                       *checkpoint, *out])
    return [f"{title} has no {'complete ' if there else ''}{name} for seed {' '.join(map(str, seeds))}: {line}"]


def _ranked(rows):
    """Rows in the order of the table, with ``rank`` and ``remarks``: references, the others by overall, the slow ones."""
    rows = rows.reindex(columns=list(dict.fromkeys([*rows.columns, "overall", "relative_seconds"])))
    reference = rows["method"].map(lambda name: REFERENCES.index(name) if name in REFERENCES else len(REFERENCES))
    slow = (reference == len(REFERENCES)) & (rows["relative_seconds"] > 1)
    remarks = [_remarks(*cells) for cells in zip(slow, rows["stopped"], rows["n"])]
    rows = rows.assign(reference=reference, slow=slow, worse=-rows["overall"], remarks=remarks)
    rows = rows.sort_values(["reference", "slow", "worse", "label"], kind="stable", na_position="last")
    ranked = (rows["reference"] == len(REFERENCES)) & ~rows["slow"] & rows["overall"].notna()
    rows["rank"] = ranked.cumsum().where(ranked)
    return rows.drop(columns=["reference", "slow", "worse"])


def _remarks(slow, stopped, n):
    budget = "" if not stopped else "stopped by its budget" if stopped == n else f"{stopped} of {n} stopped by the budget"
    return "; ".join(filter(None, ["slower than retraining" if slow else "", budget]))


def _across(rows):
    """Default rows averaged over the groups that have all methods, references apart; and what to say of the other groups."""
    rows = rows[rows["default"].astype(bool)].drop_duplicates(["group", "label"])
    groups = rows["group"].unique()
    found = rows[~rows["method"].isin(REFERENCES)].groupby("group")["label"].agg(set)
    every = set().union(*found)
    lacking = {group: sorted(every - found.get(group, set())) for group in groups}
    common = [group for group in groups if not lacking[group]]
    if len(groups) < 2:
        return pd.DataFrame(), []
    notes = [f"{group} does not count for the overall table: no default run of {', '.join(lacking[group])}"
             for group in groups if lacking[group]]
    if not common or not every:
        return pd.DataFrame(), notes
    rows = rows[rows["group"].isin(common)]
    # A method that lacks a value in one of the groups gets none: a mean over other groups is no comparison.
    means = {name: rows.pivot(index="label", columns="group", values=name).mean(axis=1, skipna=False) for name in ACROSS}
    methods = rows.drop_duplicates("label").set_index("label")["method"]
    table = pd.DataFrame({"method": methods, **means}).rename_axis("label").reset_index()
    return _ranked(table.assign(n=len(common), stopped=0)).reset_index(drop=True).astype({"rank": "Int64"}), notes


# -- writing -------------------------------------------------------------------------------------------------------------

_SYMBOLS = {"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "–": "--"}


def _cells(rows, names, count="n"):
    """A frame of text; columns without any value are left out, a value from fewer runs than its row's says so."""
    def cell(row, name):
        value, half, n = row[name], row.get(f"{name}_half_width", math.nan), row.get(f"{name}_n", row["n"])
        if math.isnan(value):
            return "–"
        scale = SCALES.get(name, 100)
        interval = "" if math.isnan(half) else f"±{scale * half:.1f}"
        return f"{scale * value:.1f}{interval}" + ("" if n == row["n"] else f" (n={n})")

    table = {"#": ["" if pd.isna(rank) else str(rank) for rank in rows["rank"]], "method": list(rows["label"])}
    table |= {HEADERS[name]: [cell(row, name) for _, row in rows.iterrows()] for name in names if rows[name].notna().any()}
    remarks = {"remarks": list(rows["remarks"])} if rows["remarks"].any() else {}
    return pd.DataFrame(table | {count: [str(n) for n in rows["n"]]} | remarks)


def _pipe(frame, style):
    align = ["right", "left"] + ["left" if name == "remarks" else "right" for name in frame.columns[2:]]
    return frame.to_markdown(index=False, tablefmt=style, disable_numparse=True, colalign=align)


def _records(frame):
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _versioned(thing):
    return f"{thing['name']}" + ("" if thing["version"] == 1 else f" v{thing['version']}")


def _clean(text):
    """One line of printable characters: results come from strangers, and terminals obey control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _markdown(text):
    return re.sub(r"[\\`*\[\]<>|~&$#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
