"""Tables from result folders: means over seeds with intervals, ranks on common ground, original and retrain first."""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, reduce
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic_core import to_json

from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.leaderboard import records, statistics
from mubench.leaderboard.records import LEVELS, VALUES, clean
from mubench.leaderboard.rows import GROUP, REFERENCES, SEEDS, SETTINGS, STANDARD, VARIANTS, outdated
from mubench.measure.metrics import METRICS, VERSION as FORMULAS
from mubench.spec import command

SHORT = {
    "test_score": "test",
    "forget_score": "forget",
    "retain_score": "retain",
    "transfer_score": "transfer",
    "mia_loss_auc": "MIA AUC",
    "mia_tpr_at_1_fpr": "TPR@1%",
    "mia_logistic": "MIA logistic",
    "mia_svc_confidence": "MIA SVC",
    "zrf": "ZRF",
    "zrf_official": "ZRF official",
    "knowledge_gap": "knowledge gap",
    "gap_to_retrain": "gap",
    "js_to_retrain": "JS",
}
ARROWS = {"higher": " ↑", "lower": " ↓", "retrain": ""}
HEADERS = {
    name: SHORT.get(name, name) + (ARROWS[m.better] if m.better in ARROWS else f" →{100 * float(m.better):g}")
    for name, m in METRICS.items()
}
HEADERS |= {
    "seconds": "seconds ↓",
    "flops": "GFLOPs ↓",
    "relative_flops": "work, % ↓",
    "relative_seconds": "time, % ↓",
    "mean_rank": "mean rank ↓",
}
SCALES = {"seconds": 1, "flops": 1e-9, "mean_rank": 1}  # all others are fractions, shown in per cent
RANKED = "gap_to_retrain"  # lower is better, and retraining is at 0
FULL = (RANKED, *(name for name in METRICS if name != RANKED), "relative_flops", "flops", "relative_seconds", "seconds")
MAIN = (
    RANKED,
    "test_score",
    "forget_score",
    "retain_score",
    "transfer_score",
    "mia_loss_auc",
    "overall",
    "relative_flops",
    "seconds",
)
ACROSS = (RANKED, "overall", "mia_loss_auc", "relative_flops", "relative_seconds")
FACETS = ("overall", "modality", "task", "architecture", "ratio")
FILES = ("README.md", "board.csv", "overall.csv", "board.json", "board.tex", "board.parquet", "runs.parquet")

GROUP, SETTINGS = list(GROUP), ["submission", *SETTINGS]
ENTRY = ["submission", "method", "version", "variant", "trials", "schema", "fingerprint"]
REASONS = {  # for having no rank
    "few": f"fewer than {SEEDS} seeds",
    "apart": "seeds without retrain",
    "unknown": "work not known",
    "heavy": "more work than retraining",
    "old": "of an older version",
}

INTERVAL = {
    "": "the mean over runs",
    "_half_width": "half-width of its Student-t interval",
    "_low": "low end of its bootstrap interval",
    "_high": "high end of it",
    "_n": "runs that have a value",
}
ROW_COLUMNS = {
    "group": "title of the table the row stands in",
    **{
        name: records.COLUMNS[name]
        for name in (
            "tier",
            "modality",
            "task",
            "model",
            "architecture",
            "ratio",
            "submission",
            "method",
            "version",
            "engine",
            "schema",
            "fingerprint",
        )
    },
    "label": "the row's name",
    **{name: records.COLUMNS[name] for name in ("variant", "params", "trials")},
    "level": "the lowest level of verification of its runs",
    "flags": "of any of them",
    "rank": (
        f"by {RANKED} among the rows of the same variant that have {SEEDS} seeds, known work, at most "
        "retraining's, and versions of now; equal values share a rank"
    ),
    "n": "runs (seeds)",
    "stopped": "runs that a budget cut short",
    "remarks": "why a row has no rank, and the like",
    **{
        f"{name}{part}": f"{records.COLUMNS[name].rstrip('.')}: {about}"
        for name in VALUES
        for part, about in INTERVAL.items()
    },
    **{name: records.COLUMNS[name] for name in ("random_guess", "checkpoint", "forget_rows", "data")},
}
ACROSS_COLUMNS = {
    "tier": "mini or paper",
    "selection": "default, official or tuned hyperparameters: tables of their own, the references in all",
    "facet": "what the groups averaged have in common: " + ", ".join(FACETS),
    "value": "of the facet",
    **{
        name: ROW_COLUMNS[name]
        for name in ("label", "submission", "method", "version", "schema", "fingerprint", "variant", "trials", "level")
    },
    "rank": f"by {RANKED}, of methods that could be ranked in every group",
    "mean_rank": "over the groups, among the ranked methods",
    "n": "groups the method has, of those that count",
    "groups": "groups that count: at least half of the methods have them",
    "runs": "in those groups",
    "remarks": "why a row has no rank",
    "missing": "the groups it lacks",
    **{
        f"{name}{part}": f"{records.COLUMNS[name].rstrip('.')}: {about}"
        for name in ACROSS
        for part, about in (
            ("", "mean over the groups, none where one is missing"),
            ("_half_width", "half-width of its t interval over seeds"),
            ("_low", "low end of its bootstrap interval over seeds"),
            ("_high", "high end of it"),
        )
    },
}


def board(results="results", out=None, only=None, level=0.95):
    """Check and aggregate results into a `Board`.

    results: a folder of results or submissions, or several; out: a folder to write `FILES` to; only: `RunSpec`s, whose
    task/model/ratio groups alone are shown, with all that the folders hold of them; level: of the intervals, in (0, 1).

    A result that is damaged, does not match its predictions, or ran on a few rows only is left out with a note.
    Raises `MubenchError` where there is no result at all, or ``out`` cannot be written.
    """
    if not 0 < level < 1:
        raise MubenchError(f"level {level!r}: it must lie between 0 and 1, such as 0.95")
    made = Board(*records.read_runs(results, only), level)
    if out is not None:
        made.write(out)
    return made


@dataclass(eq=False)
class Board:
    """Tables of runs; a pure function of the frame of runs.

    runs: one row per verified run (`records.COLUMNS`); found: what was left out while reading; level: of the intervals.
    rows: one row per group (task, model, ratio) and method with its settings (`ROW_COLUMNS`), values as fractions,
    ``n`` 0 where a
        reference is missing. across: rows but custom ones averaged over the groups of a tier, modality, …
        (`ACROSS_COLUMNS`).
    tests: one row per average over two groups or more: Friedman's test over the ranked methods.
    notes: what was left out or is missing, one sentence each; files: what `write` wrote.
    """

    runs: pd.DataFrame
    found: list = field(default_factory=list)
    level: float = 0.95
    files: tuple = ()

    def __post_init__(self):
        self._runs = _numbered(self.runs)
        rows, lacking = _rows(self._runs, self.level)
        self.across, self.tests, uncommon = _across(rows, self._runs, self.level)
        self.notes = [clean(note) for note in dict.fromkeys([*lacking, *uncommon, *self.found])]
        self.rows, self._numbers = rows[[*ROW_COLUMNS]].copy(), rows["row"]

    @property
    def overall(self):
        """The rows of `across` over all groups of each tier, where those are two or more."""
        return self.across[(self.across["facet"] == "overall") & (self.across["groups"] > 1)]

    def runs_of(self, row):
        """The runs that a row is the mean of. row: its place in `rows`."""
        return self._runs[self._runs["row"] == self._numbers[row]]

    def wins(self, tier="mini"):
        """Share of the groups where two methods are ranked, by their defaults, in which the one is nearer to
        retraining: a frame, label × label."""
        return _wins(self.rows[self.rows["tier"] == tier])

    @cached_property
    def legend(self):
        return (
            f"Per cent, ± half-width of the {100 * self.level:g} % interval over n seeds; ↑ more, ↓ less, → that value "
            "is better; others: the closer to retrain the better. # ranks by gap, the distance to retrain, rows of "
            f"{SEEDS} seeds and of no more work than retraining. Work: floating-point operations, retraining's "
            "being 100 %. Seconds of unlearning alone are measured and rank nothing: of the CPU on a machine "
            "without a GPU, of the wall clock on one with."
        )

    # -- formats
    # -------------------------------------------------------------------------------------------------------------

    def text(self):
        """The main columns, for a terminal."""
        tables = [f"{clean(title)}\n\n{_pipe(table, 'simple')}" for title, table in self._tables(MAIN)]
        notes = "\n".join(f"note: {note}" for note in self.notes)
        return "\n\n".join(filter(None, [*tables, self.legend if tables else "", notes]))

    def markdown(self):
        """All metrics, as GitHub-flavoured Markdown, overall tables first."""
        said = Counter(self.runs["level"])
        levels = ", ".join(f"{said[name]} {name}" for name in reversed(LEVELS) if said[name])
        submissions = self.runs["submission"].nunique() - int((self.runs["submission"] == records.OWN).any())
        head = (
            f"# Leaderboard\n\nGenerated by `mubench board` from {len(self.runs)} verified runs ({levels or 'none'}),"
            f" {submissions} submission{'s' * (submissions != 1)}; version {FORMULAS} of the"
            f" formulas.\n\n{self.legend}\n"
        )
        tables = [
            f"## {_markdown(title)}\n\n{_pipe(_escaped(table, _markdown), 'pipe')}\n{self._tested(title)}"
            for title, table in self._full
        ]
        tables.sort(key=lambda table: not table.startswith("## overall"))
        notes = ["## Notes\n\n" + "".join(f"- {_markdown(note)}\n" for note in self.notes)] if self.notes else []
        return "\n".join([head, *tables, *notes, DOCUMENTATION])

    def latex(self):
        """All metrics, one booktabs tabular per group."""
        parts = [f"% {self.legend}\n"]
        for title, table in self._full:
            lines = [
                " & ".join(cells) + r" \\"
                for cells in zip(*([_latex(name), *cells] for name, cells in _escaped(table, _latex).items()))
            ]
            body = "\n".join(
                [
                    r"\begin{tabular}{rl" + "r" * (len(table) - 2) + "}",
                    r"\toprule",
                    lines[0],
                    r"\midrule",
                    *lines[1:],
                    r"\bottomrule",
                    r"\end{tabular}",
                ]
            )
            parts.append(
                f"% {clean(title)}\n{reduce(lambda text, pair: text.replace(*pair), _SYMBOLS.items(), body)}\n"
            )
        return "\n".join(parts) + "".join(f"% note: {note}\n" for note in self.notes)

    def csv(self, frame=None):
        """All rows, means, intervals and n at full precision. Text that a spreadsheet would run gets an apostrophe."""
        import io

        import pyarrow as pa
        from pyarrow.csv import write_csv

        frame = self.rows if frame is None else frame
        texts = {name: frame[name].map(_guard) for name in frame.select_dtypes(include=["object", "string", "str"])}
        file = io.BytesIO()
        write_csv(pa.Table.from_pandas(frame.assign(**texts), preserve_index=False), file)
        return file.getvalue().decode()

    def json(self):
        """The same data, the tables over groups, their tests, the win matrices and the notes."""
        tiers = self.rows["tier"].drop_duplicates()
        wins = {tier: {"labels": list(table), "share": _lists(table)} for tier in tiers for table in [self.wins(tier)]}
        parts = {
            "mubench": version("mubench"),
            "formulas": FORMULAS,
            "level": self.level,
            "notes": self.notes,
            "tests": _records(self.tests),
            "wins": wins,
            "overall": _records(self.across),
            "rows": _records(self.rows),
        }
        texts = [
            f'"{name}": '
            + (("[\n" + ",\n".join(map(_dumps, value)) + "]") if isinstance(value, list) and value else _dumps(value))
            for name, value in parts.items()
        ]
        return "{" + ",\n".join(texts) + "}\n"

    def write(self, out):
        """Write `FILES`, each whole or not at all; ``files`` lists them."""
        contents = {
            "README.md": self.markdown,
            "board.csv": self.csv,
            "overall.csv": lambda: self.csv(self.across),
            "board.json": self.json,
            "board.tex": self.latex,
            "board.parquet": self.rows,
            "runs.parquet": self.runs,
        }
        for name, made in contents.items():
            with whole(Path(out) / name) as path:
                if callable(made):
                    path.write_text(made(), encoding="utf-8", newline="\n")
                else:
                    made.to_parquet(path, index=False, compression="zstd")
        self.files = tuple(str(Path(out) / name) for name in contents)

    @cached_property
    def _full(self):
        return list(self._tables(FULL))

    def _tables(self, names):
        """Title and cells (column → texts) of every table."""
        yield from zip(*_split(_cells(self.rows, names, "n"), self.rows["group"]))
        all_ = self.overall.groupby(["tier", "selection"])["groups"].max().to_dict()
        keys = zip(self.across["tier"], self.across["selection"])
        part = self.across["groups"] < [
            all_.get(key, 0) for key in keys
        ]  # a facet of all groups would say the same again
        across = self.across[(self.across["groups"] > 1) & (part | (self.across["facet"] == "overall"))]
        titles, several = [], self.rows["tier"].nunique() > 1
        for tier, selection, facet, value, groups in zip(
            *(across[name] for name in ("tier", "selection", "facet", "value", "groups"))
        ):
            what = "" if facet == "overall" else f", {facet} {value}{' %' if facet == 'ratio' else ''}"
            tiers = f" of the {tier} tier" if several else ""
            apart = "" if selection == VARIANTS[0] else f", {selection}"
            titles.append(f"overall{what}{apart}, mean of {groups} groups{tiers}")
        yield from zip(*_split(_cells(across, (*ACROSS, "mean_rank"), "groups"), titles))

    def _tested(self, title):
        if not title.startswith("overall, mean") or self.tests.empty:
            return ""
        test = self.tests[(self.tests["facet"] == "overall") & (self.tests["selection"] == "default")]
        test = test[[tier in title for tier in test["tier"]] if self.rows["tier"].nunique() > 1 else slice(None)]
        if test.empty or math.isnan(test["critical_difference"].iloc[0]):
            return ""
        test = test.iloc[0]
        p = "" if math.isnan(test["friedman_p"]) else f" (Friedman's p = {test['friedman_p']:.2g})"
        return (
            f"\nOf the {test['methods']} methods that are ranked in all {test['groups']} groups, two whose mean "
            f"ranks differ by less than {test['critical_difference']:.2f} cannot be told apart at 5 % "
            f"(Nemenyi){p}.\n"
        )


# -- one table per group
# -----------------------------------------------------------------------------------------------------


def _rows(runs, level):
    """The frame of rows (``row``: the number that `_numbered` gave its runs), and sentences on the references that are
    missing.
    """
    first = runs.drop_duplicates("row").set_index("row")
    rows = first[
        ["tier", "modality", "architecture", *GROUP, *SETTINGS, "params", "engine", "task_version", "random_guess"]
    ].copy()
    by_row = runs.groupby("row")
    rows["n"], rows["stopped"] = by_row.size(), (runs["status"] == "stopped").groupby(runs["row"]).sum()
    rows["level"] = [LEVELS[i] for i in runs["level"].map(LEVELS.index).groupby(runs["row"]).min()] if len(rows) else []
    rows["flags"] = (
        by_row["flags"].agg(lambda flags: "; ".join(dict.fromkeys(filter(None, flags)))) if runs["flags"].any() else ""
    )
    one = by_row["original"].nunique() == 1
    rows["narrow"] = one & (rows["n"] > 1) & ~by_row["anchor"].any()  # retraining starts from none
    rows = rows.join(_described(runs, level)).reset_index()

    titles = (
        rows["task"]
        + " / "
        + rows["model"]
        + " / "
        + rows["ratio"].where(rows["ratio"].str.startswith("file"), rows["ratio"] + " %")
    )
    twins = rows[GROUP].drop_duplicates().groupby(GROUP[:4])["data"].transform("size")
    more = rows[GROUP].drop_duplicates()[twins > 1]
    if len(more):
        many = rows.set_index(GROUP).index.isin(more.set_index(GROUP).index)
        titles = titles.where(
            ~many,
            titles
            + " (original "
            + rows["checkpoint"].str[:8]
            + ", forget rows "
            + rows["forget_rows"].str[:8]
            + ", data "
            + rows["data"].str[:8]
            + ")",
        )
    rows["group"] = titles
    rows["label"] = _labels(rows)
    rows["reference"] = (
        rows["method"].map({name: i for i, name in enumerate(REFERENCES)}).fillna(len(REFERENCES)).astype(int)
    )
    rows[[*REASONS]] = _reasons(rows)
    notes, missing = _references(runs, rows)
    rows = pd.concat([rows, missing], ignore_index=True) if len(missing) else rows
    lacks = ["; ".join(filter(None, cells)) for cells in zip(*(rows[name] for name in REASONS))]
    rows = _ranked(rows.assign(lacks=lacks), ["group", "variant"], GROUP)
    counts = ["trials", "rank", "n", "stopped", "version", "schema", "engine", "row", *(f"{name}_n" for name in VALUES)]
    values = [f"{name}{part}" for name in VALUES for part in INTERVAL if part != "_n"]
    rows = rows.reindex(columns=[*ROW_COLUMNS, "row", "options", "narrow", *REASONS])
    return rows.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(values, "float64")), notes


def _reasons(rows):
    """Why rows have no rank: a text for each of `REASONS` that applies, else "" (of references always)."""
    n, retrained = rows["n"], rows[f"{RANKED}_n"].astype(int)
    code = zip(*(rows[name] for name in ("task", "task_version", "method", "version", "engine")))
    old = [outdated(task.partition(" ")[0], *more) for task, *more in code]
    texts = {
        "few": (n < SEEDS, [f"{k} of {SEEDS} seeds" for k in n]),
        "apart": (retrained < n, [f"retrain for {k} of {all_} seeds" for k, all_ in zip(retrained, n)]),
        "unknown": ((rows["relative_flops_n"] < n) & (retrained > 0), REASONS["unknown"]),
        "heavy": (rows["relative_flops"] > 1 + 1e-9, REASONS["heavy"]),
        "old": (np.array(old, bool), REASONS["old"]),
    }
    rival = rows["reference"] == len(REFERENCES)
    shown = {name: np.where(rival & here, text, "") for name, (here, text) in texts.items()}
    return pd.DataFrame(shown, index=rows.index)


def _numbered(runs):
    """The runs in the order of the tables, with ``row``, the same for those that are averaged, and ``position`` among
    them.
    """
    runs = runs.sort_values([*GROUP, *SETTINGS, "seed"], kind="stable", ignore_index=True)
    runs["row"] = runs.groupby([*GROUP, *SETTINGS], sort=True, dropna=False).ngroup()
    runs["position"] = runs.groupby("row").cumcount()
    return runs


def _described(runs, level):
    """Mean, intervals and n of every value of every row."""
    size = runs.groupby("row").size()
    found = pd.DataFrame(np.nan, index=size.index, columns=[f"{name}{part}" for name in VALUES for part in INTERVAL])
    for n in sorted(size.unique()):
        members = runs[runs["row"].map(size) == n]
        stacked = members[list(VALUES)].to_numpy("float64").reshape(-1, n, len(VALUES)).transpose(0, 2, 1)
        cells = np.stack(statistics.describe(stacked.reshape(-1, n), level))  # [5, rows · values]
        cells[1:4] = cells[1:4].round(9)  # ends of intervals: shorter files, and no digits that mean nothing
        found.loc[members["row"].unique()] = (
            cells.reshape(5, -1, len(VALUES)).transpose(1, 2, 0).reshape(-1, 5 * len(VALUES))
        )
    return found


def _labels(rows):
    """The rows' names. What tuning chose, the schema and the code are told only where names would be equal
    otherwise."""

    def label(name, version, params, trials, options, submission, schema, fingerprint, more):
        said = [f"tuned, {trials} trials"] if trials else []
        said += [f"{n}={v}" for n, v in sorted(json.loads(params).items())] if more or not trials else []
        said += [f"{n}={v}" for n, v in json.loads(options).items()]
        said += ["schema 1"] if more > 1 and schema == 1 else []
        said += [f"code {fingerprint[:8]}"] if more > 2 and fingerprint else []
        name = name if version == 1 else f"{name} v{version}"
        return clean((f"{name} ({', '.join(said)})" if said else name) + (f" [{submission}]" if submission else ""))

    cells = [
        *zip(
            *(
                rows[name].tolist()
                for name in ("method", "version", "params", "trials", "options", "submission", "schema", "fingerprint")
            )
        )
    ]
    labels = [label(*row, 0) for row in cells]
    for more in (1, 2, 3):
        twice = pd.DataFrame({"group": rows["group"].to_numpy(), "label": labels}).duplicated(keep=False)
        labels = [label(*row, more) if again else name for name, again, row in zip(labels, twice, cells)]
    return labels


def _references(runs, rows):
    """For references that are missing: the command that makes them, and an empty row. Every seed needs its own
    retrained model, and every original its run."""
    notes, missing, lacks = [], [], {}
    groups = runs["row"].map(dict(zip(rows["row"], pd.factorize(rows["group"])[0]))).to_numpy("int64")
    for name in REFERENCES:
        keys = pd.factorize(runs["original" if name == "original" else "seed"])[0]
        mine, places = (runs["method"] == name).to_numpy(), groups * (1 + keys.max(initial=0)) + keys
        there = mine if name == "original" else mine & runs["anchor"].to_numpy()
        lacks[name] = mine, ~np.isin(places, places[there])
    for number, first in enumerate(rows.drop_duplicates("group").itertuples()):
        for position, (name, (mine, lacking)) in enumerate(lacks.items()):
            here = groups == number
            if not (mine & here).any():
                shared = {
                    c: getattr(first, c) for c in ("group", "tier", "modality", "architecture", "random_guess", *GROUP)
                }
                texts = dict.fromkeys(("submission", "flags", "level", *REASONS), "")
                missing.append(
                    {
                        **shared,
                        **texts,
                        "method": name,
                        "label": name,
                        "variant": "default",
                        "n": 0,
                        "stopped": 0,
                        "reference": position,
                        "options": "{}",
                        "narrow": False,
                    }
                )
            if (lacking & here).any():
                run, cut = runs[runs["row"] == first.row].iloc[0], (lacking & here & mine).any()
                wanted = sorted({*runs["seed"][lacking & here]})
                notes.append(
                    f"{first.group} has no {'complete ' if cut else ''}{name} for seed "
                    f"{' '.join(map(str, wanted))}: {_command(run, name, wanted)}"
                )
    return notes, pd.DataFrame(missing)


def _command(run, method, seeds):
    spec, folder = json.loads(run["spec"]), Path(run["folder"])
    root = folder.parents[4] if folder.parts[-5:-4] == (run["task"].split(" ")[0],) else Path("results")
    return command(
        {name: spec.get(name) for name in ("task", "split_file", "checkpoint")},
        method=method,
        model=run["model"],
        ratio=run["ratio"],
        seed=seeds,
        out=str(root),
    )


def _ranked(rows, within, order=()):
    """Rows in the order of the table, with ranks and ``remarks``: references, those with a rank, those without, each
    by their gap. ``lacks``: why a row has no rank."""
    rival, checked = rows["reference"] == len(REFERENCES), rows["level"] != LEVELS[0]
    ranked = rival & checked & (rows["lacks"] == "") & rows.get("complete", True)
    rows["rank"] = rows[RANKED].where(ranked).groupby([rows[c] for c in within]).rank(method="min")
    stopped, missing = rows.get("stopped", rows["n"] * 0), rows.get("missing", pd.Series("", rows.index))
    told = zip(rows["lacks"], stopped, rows["n"], missing, rows["narrow"], rows["flags"])
    rows["remarks"] = [_remarks(*cells) for cells in told]
    rows = rows.assign(unranked=rows["rank"].isna(), section=rows["variant"].map(VARIANTS.index))
    by = [*order, "reference", "section", "unranked", RANKED, "label"]
    return rows.sort_values(by, kind="stable", na_position="last", ignore_index=True)


def _remarks(lacks, stopped, n, missing, narrow, flags):
    names = missing.split(", ")
    missing = missing if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"
    budget = (
        "" if not stopped else "stopped by its budget" if stopped == n else f"{stopped} of {n} stopped by the budget"
    )
    missing, narrow = f"missing: {missing}" if missing else "", "all seeds from one original" if narrow else ""
    return "; ".join(filter(None, [lacks, budget, missing, narrow, flags]))


# -- over groups
# --------------------------------------------------------------------------------------------------------------


def _across(rows, runs, level):
    """Rows of each variant but custom, apart, averaged over the groups of each facet that count: those that at least
    half of its methods have. A method that lacks one of them gets no mean and no rank: a mean over other groups is no
    comparison."""
    standard = ~rows["ratio"].str.startswith("file") & (rows["checkpoint"] == STANDARD)
    rows = rows.loc[
        standard & (rows["variant"] != "custom") & (rows["n"] > 0),
        [
            "group",
            *FACETS[1:],
            "tier",
            *ENTRY,
            "params",
            "options",
            "level",
            "flags",
            "narrow",
            *REASONS,
            "n",
            "row",
            *(f"{name}{part}" for name in ACROSS for part in ("", "_half_width", "_n")),
        ],
    ]
    rows = rows.sort_values(["group", "params"], kind="stable").drop_duplicates(["group", *ENTRY]).sort_index()
    rows = rows.reset_index(drop=True)
    names, notes, tests, tables = rows["group"].drop_duplicates().tolist(), [], [], []
    rows["g"] = rows["group"].map({name: i for i, name in enumerate(names)})
    rows["e"] = rows.groupby(ENTRY, dropna=False).ngroup()
    entries = rows.drop_duplicates("e").assign(group="", params="{}")
    rows["entry"] = rows["e"].map(dict(zip(entries["e"], _labels(entries))))
    values = {
        name: (*rows[[name, f"{name}_half_width", f"{name}_n"]].to_numpy("float64").T, _resampled(runs, rows, name))
        for name in ACROSS
    }
    reference = rows["method"].isin(REFERENCES)
    for tier, selection in (
        rows.loc[~reference, ["tier", "variant"]]
        .drop_duplicates()
        .sort_values(["tier", "variant"])
        .itertuples(index=False)
    ):
        here = (rows["tier"] == tier) & ((rows["variant"] == selection) | reference & (rows["variant"] == "default"))
        for facet in FACETS:
            for value in ["all"] if facet == "overall" else rows.loc[here, facet].drop_duplicates():
                mine = here if facet == "overall" else here & (rows[facet] == value)
                table, test, uncommon = _mean(rows[mine], values, level, names)
                keys = {"tier": tier, "selection": selection, "facet": facet, "value": value}
                tables.append(table.assign(**keys))
                tests += [keys | test] if test else []
                notes += uncommon if facet == "overall" and selection == "default" else []
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    counts = ["trials", "version", "schema", "rank", "n", "groups", "runs"]
    floats = ["mean_rank", *(f"{name}{part}" for name in ACROSS for part in ("", "_half_width", "_low", "_high"))]
    table = table.reindex(columns=list(ACROSS_COLUMNS)).astype(
        dict.fromkeys(counts, "Int64") | dict.fromkeys(floats, "float64")
    )
    tests = pd.DataFrame(
        tests, columns=["tier", "selection", "facet", "value", "methods", "groups", "friedman_p", "critical_difference"]
    )
    return table, tests, notes


def _resampled(runs, rows, name):
    """Bootstrap means [rows, draws] of a value, independent from group to group; NaN of rows with one run."""
    runs = runs.loc[runs["row"].isin(rows["row"]), ["row", name]].assign(
        size=lambda r: r.groupby("row")["row"].transform("size")
    )
    place = rows.reset_index().set_index("row")[["index", "g"]]
    runs = runs[runs["size"] > 1].join(place, on="row")
    found = np.full((len(rows), statistics.DRAWS), np.nan, "float32")
    for (group, n), members in runs.groupby(["g", "size"]):
        found[members["index"].to_numpy()[::n]] = statistics.resampled(
            members[name].to_numpy("float64").reshape(-1, n), group
        )
    return found


def _mean(rows, values, level, names):
    """The table of one facet: its rows, its test, and what to say of groups that do not count."""
    rivals = rows[~rows["method"].isin(REFERENCES)]
    have = rivals.assign(who=[*zip(rivals["submission"], rivals["method"])]).groupby("g")["who"].agg(set)
    every = set().union(*have)
    counting = sorted(g for g in rows["g"].unique() if 2 * len(have.get(g, ())) >= len(every))
    notes = [
        f"{names[g]} does not count for the overall table: fewer than half of the methods ran there"
        for g in rows["g"].unique()
        if g not in counting
    ]
    rows = rows[rows["g"].isin(counting)]
    by_entry = rows.groupby("e")
    table = rows.drop_duplicates("e").set_index("e").sort_index()[[*ENTRY, "entry"]]
    table = table.rename(columns={"entry": "label"})
    at = np.full((len(table), len(counting)), -1)  # where each cell stands in ``values``; -1: missing
    at[np.searchsorted(table.index, rows["e"]), np.searchsorted(counting, rows["g"])] = rows.index
    table["n"], table["groups"], table["runs"] = (at >= 0).sum(axis=1), len(counting), by_entry["n"].sum()
    table["level"] = rows["level"].map(LEVELS.index).groupby(rows["e"]).min().map(LEVELS.__getitem__)
    table["flags"] = (
        by_entry["flags"].agg(lambda flags: "; ".join(dict.fromkeys(filter(None, flags))))
        if rows["flags"].any()
        else ""
    )
    table["narrow"], counts = by_entry["narrow"].any(), (rows[[*REASONS]] != "").groupby(rows["e"]).sum().to_numpy()
    said = lambda reason, k, n: reason if k == n else f"{reason} in {k} of {n} groups"
    table["lacks"] = [
        "; ".join(said(reason, k, n) for reason, k in zip(REASONS.values(), line) if k)
        for line, n in zip(counts, table["n"])
    ]
    table["complete"] = complete = (at >= 0).all(axis=1)
    table["missing"] = [", ".join(names[g] for g, there in zip(counting, line) if there < 0) for line in at]
    for name, (means, halves, ns, boot) in values.items():
        found, cells = np.full((4, len(table)), np.nan), at[complete]
        found[:2, complete] = statistics.pool(means[cells], halves[cells], ns[cells], level)
        found[2:, complete] = (
            statistics.ends(np.stack([boot[line].mean(axis=0, dtype="float64") for line in cells]), level)
            if len(cells)
            else np.nan
        )
        table[[name, f"{name}_half_width", f"{name}_low", f"{name}_high"]] = found.T
    table["reference"] = (
        table["method"].map({name: i for i, name in enumerate(REFERENCES)}).fillna(len(REFERENCES)).astype(int)
    )
    gaps = np.where(at >= 0, values[RANKED][0][at], np.nan)
    table = _ranked(table.assign(all="", at=np.arange(len(table))), ["all"])
    rivals = table[table["rank"].notna()]
    if len(rivals) < 2 or not counting:
        return table, {}, notes
    ranks, p, difference = statistics.friedman(-gaps[rivals["at"]])
    table.loc[rivals.index, "mean_rank"] = ranks
    return (
        table,
        (
            {"methods": len(rivals), "groups": len(counting), "friedman_p": p, "critical_difference": difference}
            if len(counting) > 1
            else {}
        ),
        notes,
    )


def _wins(rows):
    rows = rows[(rows["variant"] == "default") & rows["rank"].notna()]
    table = -rows.drop_duplicates(["group", "label"]).pivot(index="label", columns="group", values=RANKED).sort_index()
    return pd.DataFrame(statistics.wins(table.to_numpy("float64"))[0], index=table.index, columns=table.index)


# -- writing
# -------------------------------------------------------------------------------------------------------------------

_SYMBOLS = {
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "–": "--",
    "×": r"$\times$",
    "λ": r"$\lambda$",
}
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{c: f"\\{c}" for c in "&%$#_{}"},
    }
)
TEXTS = ("method", "level", "remarks")  # columns of words, flush left; all others are made of numbers


def _cells(rows, names, count):
    """Column → its texts; a value from fewer runs than its row's says so."""
    table = {"#": ["" if pd.isna(rank) else str(rank) for rank in rows["rank"]], "method": rows["label"].tolist()}
    n = rows["n"].tolist()
    for name in names:
        scale, nothing = SCALES.get(name, 100), [math.nan] * len(rows)
        halves = rows[f"{name}_half_width"].tolist() if f"{name}_half_width" in rows else nothing
        counts = rows[f"{name}_n"].tolist() if f"{name}_n" in rows else n
        table[HEADERS[name]] = [
            (
                "–"
                if value != value
                else (
                    f"{scale * value:.1f}"
                    f"{'' if half != half else f'±{scale * half:.1f}'}{'' if few == all_ else f' (n={few})'}"
                )
            )
            for value, half, few, all_ in zip(rows[name].tolist(), halves, counts, n)
        ]
    table[count] = (
        [str(k) for k in n]
        if count == "n"
        else [str(k) if k == all_ else f"{k} of {all_}" for k, all_ in zip(n, rows[count])]
    )
    return table | {"level": rows["level"].tolist(), "remarks": rows["remarks"].tolist()}


def _split(table, titles):
    """Titles, and the part of the table under each (its rows lie together) without the columns that say nothing
    there.
    """
    starts = np.flatnonzero(pd.Series(titles).ne(pd.Series(titles).shift())).tolist()
    parts = [
        {name: cells[start:end] for name, cells in table.items()} for start, end in zip(starts, [*starts[1:], None])
    ]
    nothing = {"remarks": {""}, "level": {"", LEVELS[-1]}}
    return [
        pd.Series(titles)[starts].tolist(),
        [{name: cells for name, cells in part.items() if set(cells) - nothing.get(name, {"–"})} for part in parts],
    ]


def _escaped(table, escape):
    return {escape(name): [*map(escape, cells)] if name in TEXTS else cells for name, cells in table.items()}


def _pipe(table, style):
    """A table as text: ``pipe`` for Markdown, ``simple`` for terminals."""
    columns = [[name, *cells] for name, cells in table.items()]
    widths, left = [max(max(map(len, cells)), 3) for cells in columns], [name in TEXTS for name in table]
    padded = [
        [cell.ljust(w) if flush else cell.rjust(w) for cell in cells] for cells, w, flush in zip(columns, widths, left)
    ]
    if style == "simple":
        lines = ["  ".join(line).rstrip() for line in zip(*padded)]
        return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
    lines = ["| " + " | ".join(line) + " |" for line in zip(*padded)]
    rule = "|".join(":" + "-" * (w + 1) if flush else "-" * (w + 1) + ":" for w, flush in zip(widths, left))
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _records(frame):
    """Rows as dicts, without what has no value."""
    columns, cells = (
        list(frame),
        [frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame],
    )
    return [{name: value for name, value in zip(columns, row) if value is not None} for row in zip(*cells)]


def _lists(table):
    return [[None if math.isnan(v) else round(v, 4) for v in row] for row in table.to_numpy().tolist()]


def _dumps(value):
    return to_json(value, inf_nan_mode="null").decode()


def _guard(cell):
    return "'" + cell if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell


def _markdown(text):
    return re.sub(r"[\\`*\[\]<>|~&$#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def _latex(text):
    return text.translate(_LATEX)


def _documented():
    parts = "; ".join(f"`{part}` {about}" for part, about in INTERVAL.items() if part)
    plain = {
        name: about
        for name, about in ROW_COLUMNS.items()
        if not any(name == f"{v}{p}" for v in VALUES for p in INTERVAL)
    }
    values = {name: records.COLUMNS[name] for name in VALUES}
    lines = [f"| `{name}` | {_markdown(about)} |" for name, about in {**plain, **values}.items()]
    more = [f"| `{name}` | {_markdown(about)} |" for name, about in ACROSS_COLUMNS.items() if name not in ROW_COLUMNS]
    return "\n".join(
        [
            "## Columns\n",
            (
                "`board.csv`, `board.json` (`rows`) and `board.parquet` hold one row per table row, values as"
                f" fractions; every value has four more columns: {parts}. `runs.parquet` holds one row per run.\n"
            ),
            "| column | meaning |",
            "| :-- | :-- |",
            *lines,
            "",
            "`overall.csv` and `overall` in `board.json` average rows over groups; besides the above:\n",
            "| column | meaning |",
            "| :-- | :-- |",
            *more,
            "",
        ]
    )


DOCUMENTATION = _documented()
