"""Tables from result folders: means over seeds with intervals, ranks on common ground, original and retrain first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.leaderboard import escape, write
from mubench.leaderboard.across import across_groups, wins
from mubench.leaderboard.aggregate import LEVELS, numbered
from mubench.leaderboard.columns import ACROSS_COLUMNS, FULL, INTERVAL, MAIN, ROW_COLUMNS, RUN_COLUMNS, VALUES, further
from mubench.leaderboard.escape import one_line
from mubench.leaderboard.frame import read_runs
from mubench.leaderboard.rank import ranked_rows
from mubench.leaderboard.submitter import OWN
from mubench.leaderboard.tables import TEXTS, across_tables, group_tables, legend, test_sentence
from mubench.measure.metrics import VERSION as FORMULAS
from mubench.spec import RunSpec

FILES = ("README.md", "board.csv", "overall.csv", "board.json", "board.tex", "board.parquet", "runs.parquet")


def board(
    results: str | Path | Sequence[str | Path] = "results",
    out: str | Path | None = None,
    only: Sequence[RunSpec] | None = None,
    level: float = 0.95,
) -> Board:
    """Check and aggregate results into a `Board`.

    results: a folder of results or submissions, or several.
    out: a folder to write `FILES` to.
    only: `RunSpec`s, whose task/model/ratio groups alone are shown, with all that the folders hold of them.
    level: of the intervals, in (0, 1).

    A result that is damaged, does not match its predictions, or ran on a few rows only is left out with a note.
    Raises `MubenchError` where there is no result at all, or ``out`` cannot be written.
    """
    if not 0 < level < 1:
        raise MubenchError(f"level {level!r}: it must lie between 0 and 1, such as 0.95")
    runs, left_out = read_runs(results, only)
    made = Board(runs, left_out, level)
    if out is not None:
        made.write(out)
    return made


@dataclass(eq=False)
class Board:
    """Tables of runs; a pure function of the frame of runs.

    runs: one row per verified run (`RUN_COLUMNS`).
    found: what was left out while reading, sentences.
    level: of the intervals, in (0, 1).
    files: what `write` wrote.
    rows: one row per group (task, model, ratio) and method with its settings (`ROW_COLUMNS`, then the scores on further
        sets that some task names), values as fractions, ``n`` 0 where a reference is missing.
    across: rows but custom ones, averaged over the groups of a tier, modality, … (`ACROSS_COLUMNS`).
    tests: one row per average over two groups or more, Friedman's test over the ranked methods (`TEST_COLUMNS`).
    notes: what was left out or is missing, one sentence each.
    """

    runs: pd.DataFrame
    found: list = field(default_factory=list)
    level: float = 0.95
    files: tuple = ()

    def __post_init__(self):
        self._runs = numbered(self.runs)
        rows, lacking = ranked_rows(self._runs, self.level)
        self.across, self.tests, uncounted = across_groups(rows, self._runs, self.level)
        self.notes = [one_line(note) for note in dict.fromkeys([*lacking, *uncounted, *self.found])]
        more = [f"{name}{suffix}" for name in further(self.runs) for suffix in INTERVAL]
        self.rows, self._numbers = rows[[*ROW_COLUMNS, *more]].copy(), rows["row"]

    @property
    def overall(self):
        """The rows of `across` over all groups of each tier, where those are two or more."""
        return self.across[(self.across["facet"] == "overall") & (self.across["groups"] > 1)]

    def runs_of(self, row):
        """The runs that a row is the mean of.

        row: its place in `rows`.
        """
        return self._runs[self._runs["row"] == self._numbers[row]]

    def wins(self, tier="mini"):
        """How often one method is nearer to retraining than another: a frame of shares, label × label (`across.wins`).

        tier: whose groups are counted.
        """
        return wins(self.rows[self.rows["tier"] == tier])

    @property
    def legend(self):
        """What the marks in the tables mean."""
        return legend(self.level)

    # -- formats -------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The main columns, for a terminal."""
        tables = [f"{one_line(title)}\n\n{write.plain(table, TEXTS)}" for title, table in self._tables(MAIN)]
        notes = "\n".join(f"note: {note}" for note in self.notes)
        return "\n\n".join(filter(None, [*tables, self.legend if tables else "", notes]))

    def markdown(self) -> str:
        """All metrics, as GitHub-flavoured Markdown, overall tables first."""
        tables = [self._section(title, table) for title, table in self._full]
        tables.sort(key=lambda table: not table.startswith("## overall"))
        notes = "".join(f"- {escape.markdown(note)}\n" for note in self.notes)
        return "\n".join([self._head(), *tables, *([f"## Notes\n\n{notes}"] if notes else []), DOCUMENTATION])

    def latex(self) -> str:
        """All metrics, one booktabs tabular per table."""
        tabulars = [write.latex(table, left=("method",), words=TEXTS) for _, table in self._full]
        tables = [f"% {one_line(title)}\n{text}" for (title, _), text in zip(self._full, tabulars, strict=True)]
        notes = "".join(f"% note: {note}\n" for note in self.notes)
        return "\n".join([f"{write.PREAMBLE}\n% {self.legend}\n", *tables]) + notes

    def csv(self) -> str:
        """All rows, means, intervals and n at full precision. Text that a spreadsheet would run gets an apostrophe."""
        return write.csv(self.rows)

    def json(self):
        """The same data, the tables over groups, their tests, the win matrices and the notes."""
        tiers = {tier: self.wins(tier) for tier in self.rows["tier"].drop_duplicates()}
        fields = {
            "mubench": version("mubench"),
            "formulas": FORMULAS,
            "level": self.level,
            "notes": self.notes,
            "tests": write.records(self.tests),
            "wins": {tier: {"labels": list(table), "share": _rounded(table)} for tier, table in tiers.items()},
            "overall": write.records(self.across),
            "rows": write.records(self.rows),
        }
        return write.json_object(fields)

    def write(self, out):
        """Write `FILES` to a folder, each whole or not at all; ``files`` lists them."""
        texts = (self.markdown, self.csv, lambda: write.csv(self.across), self.json, self.latex)
        frames = {"board.parquet": self.rows, "runs.parquet": self.runs}
        for name, text in zip(FILES[: len(texts)], texts, strict=True):
            with whole(Path(out) / name) as path:
                path.write_text(text(), encoding="utf-8", newline="\n")
        for name, frame in frames.items():
            with whole(Path(out) / name) as path:
                frame.to_parquet(path, index=False, compression="zstd")
        self.files = tuple(str(Path(out) / name) for name in FILES)

    # -- parts of them -------------------------------------------------------------------------------------------------

    @cached_property
    def _full(self):
        """Title and table of every group and average, with all metrics."""
        return list(self._tables(FULL))

    def _tables(self, values):
        yield from group_tables(self.rows, (*values, *further(self.runs)))
        yield from across_tables(self.across, self._several_tiers)

    @property
    def _several_tiers(self):
        return self.rows["tier"].nunique() > 1

    def _head(self):
        """The beginning of the Markdown: what the tables are made of."""
        counts = Counter(self.runs["level"])
        levels = ", ".join(f"{counts[name]} {name}" for name in reversed(LEVELS) if counts[name])
        submissions = self.runs["submission"].nunique() - int((self.runs["submission"] == OWN).any())
        return (
            f"# Leaderboard\n\nGenerated by `mubench board` from {len(self.runs)} verified runs ({levels or 'none'}),"
            f" {submissions} submission{'s' * (submissions != 1)}; version {FORMULAS} of the"
            f" formulas.\n\n{self.legend}\n"
        )

    def _section(self, title, table):
        """A table in Markdown with its heading and what the test says of it."""
        sentence = test_sentence(title, self.tests, self._several_tiers)
        sentence = f"\n{sentence}\n" if sentence else ""
        return f"## {escape.markdown(title)}\n\n{write.markdown(table, TEXTS, words=TEXTS)}\n{sentence}"


def _rounded(table):
    """Shares to four digits, lists of lists; None where there is none."""
    return [[None if math.isnan(share) else round(share, 4) for share in row] for row in table.to_numpy().tolist()]


def _documentation():
    """The meaning of all columns, in Markdown."""
    suffixes = "; ".join(f"`{suffix}` {meaning}" for suffix, meaning in INTERVAL.items() if suffix)
    of_values = {f"{name}{suffix}" for name in VALUES for suffix in INTERVAL}
    columns = {name: meaning for name, meaning in ROW_COLUMNS.items() if name not in of_values}
    columns |= {name: RUN_COLUMNS[name] for name in VALUES}
    more = {name: meaning for name, meaning in ACROSS_COLUMNS.items() if name not in ROW_COLUMNS}
    return "\n".join(
        [
            "## Columns\n",
            "`board.csv`, `board.json` (`rows`) and `board.parquet` hold one row per table row, values as fractions; "
            f"every value has four more columns: {suffixes}. `runs.parquet` holds one row per run.\n",
            *_meanings(columns),
            "",
            "`overall.csv` and `overall` in `board.json` average rows over groups; besides the above:\n",
            *_meanings(more),
            "",
        ]
    )


def _meanings(columns):
    """The lines of a table of names and meanings."""
    rows = [f"| `{name}` | {escape.markdown(meaning)} |" for name, meaning in columns.items()]
    return ["| column | meaning |", "| :-- | :-- |", *rows]


DOCUMENTATION = _documentation()
