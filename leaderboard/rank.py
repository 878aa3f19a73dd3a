"""The rows of the tables: which may be ranked, which rank they have, in which order they stand, what is remarked."""

import numpy as np
import pandas as pd

from mubench.leaderboard.aggregate import GROUP, LEVELS, aggregate
from mubench.leaderboard.columns import INTERVAL, RANKED, ROW_COLUMNS, VALUES, further
from mubench.leaderboard.references import missing_references
from mubench.leaderboard.rows import REFERENCES, SEEDS, VARIANTS, outdated

REASONS = {  # for having no rank
    "few": f"fewer than {SEEDS} seeds",
    "apart": "seeds without retrain",
    "unknown": "work not known",
    "heavy": "more work than retraining",
    "old": "of an older version",
    "wrapped": "a wrapper at inference",
}


def ranked_rows(runs, level):
    """The rows of all groups, ranked within each.

    runs: as `aggregate.numbered` gives them.
    level: of the intervals, in (0, 1).

    Returns a frame and a list of sentences on the references that are missing. The frame has `ROW_COLUMNS`, those
    of `further` scores, then ``row`` (its number, none of a missing reference), ``options``, ``narrow`` and the
    `REASONS`.
    """
    rows = aggregate(runs, level)
    rows = rows.join(_reasons(rows))
    missing, notes = missing_references(runs, rows)
    if len(missing):
        rows = pd.concat([rows, missing.assign(**dict.fromkeys(REASONS, ""))], ignore_index=True)
    lacks = ["; ".join(filter(None, texts)) for texts in zip(*(rows[name].tolist() for name in REASONS), strict=True)]
    rows = ranked(rows.assign(lacks=lacks), ["group", "variant"], GROUP)
    values = [*VALUES, *further(runs)]
    more = [f"{name}{suffix}" for name in further(runs) for suffix in INTERVAL]
    rows = rows.reindex(columns=[*ROW_COLUMNS, *more, "row", "options", "narrow", *REASONS])
    counts = ["trials", "rank", "n", "stopped", "version", "schema", "engine", "row", *(f"{name}_n" for name in values)]
    numbers = [f"{name}{suffix}" for name in values for suffix in INTERVAL if suffix != "_n"]
    return rows.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(numbers, "float64")), notes


def _reasons(rows):
    """Why rows have no rank: a text for each of `REASONS` that applies, else "" (of references always)."""
    n, with_retrain = rows["n"], rows[f"{RANKED}_n"].astype(int)
    applies = {
        "few": n < SEEDS,
        "apart": with_retrain < n,
        "unknown": (rows["relative_flops_n"] < n) & (with_retrain > 0),
        "heavy": rows["relative_flops"] > 1 + 1e-9,
        "old": _outdated(rows),
        "wrapped": rows["wrapper"] != "",
    }
    texts = REASONS | {
        "few": [f"{seeds} of {SEEDS} seeds" for seeds in n],
        "wrapped": [f"{REASONS['wrapped']}: {name}" for name in rows["wrapper"]],
        "apart": [
            f"retrain for {some} of {seeds} seeds" if retained else "nothing can be retrained without a retain set"
            for some, seeds, retained in zip(with_retrain, n, rows["retain_score"].notna(), strict=True)
        ],
    }
    rival = rows["reference"] == len(REFERENCES)
    shown = {name: np.where(rival & applies[name], texts[name], "") for name in REASONS}
    return pd.DataFrame(shown, index=rows.index)


def _outdated(rows):
    """Which rows are of another version of task, method or engine than the suite has now."""
    columns = [rows[name].tolist() for name in ("task", "task_version", "method", "version", "engine")]
    code = [(task.partition(" ")[0], *others) for task, *others in zip(*columns, strict=True)]
    answers = {key: outdated(*key) for key in dict.fromkeys(code)}
    return np.array([answers[key] for key in code], bool)


def ranked(rows, within, order=()):
    """Rows in the order of the table, with ``rank`` and ``remarks``.

    rows: with ``lacks``, why a row has no rank ("": it may have one), ``reference``, ``level``, ``n``, ``narrow``,
        ``flags``, and maybe ``stopped``, ``missing`` and ``complete`` (whether it has all groups).
    within: columns whose values are equal in the rows that are ranked together.
    order: columns that come first in the order of the table.

    References come first, then rows with a rank, then those without, each by their gap.
    """
    rival, checked = rows["reference"] == len(REFERENCES), rows["level"] != LEVELS[0]
    rankable = rival & checked & (rows["lacks"] == "") & rows.get("complete", True)
    rank = rows[RANKED].where(rankable).groupby([rows[name] for name in within]).rank(method="min")
    rows = rows.assign(rank=rank, remarks=_remarks(rows))
    rows = rows.assign(unranked=rank.isna(), section=rows["variant"].map(VARIANTS.index))
    by = [*order, "reference", "section", "unranked", RANKED, "label"]
    return rows.sort_values(by, kind="stable", na_position="last", ignore_index=True)


def _remarks(rows):
    """What is to be said of each row, [rows]."""
    stopped = rows["stopped"].tolist() if "stopped" in rows else [0] * len(rows)
    missing = rows["missing"].tolist() if "missing" in rows else [""] * len(rows)
    told = (rows[name].tolist() for name in ("lacks", "n", "narrow", "flags"))
    cells = zip(*told, stopped, missing, strict=True)
    return [
        "; ".join(
            filter(
                None, [lacks, _budget(cut, n), _lacking(groups), "all seeds from one original" if one else "", flags]
            )
        )
        for lacks, n, one, flags, cut, groups in cells
    ]


def _budget(stopped, n):
    """Of how many of n runs the budget cut short."""
    if not stopped:
        return ""
    return "stopped by its budget" if stopped == n else f"{stopped} of {n} stopped by the budget"


def _lacking(groups):
    """The groups that a mean lacks, at most two of them by name."""
    names = groups.split(", ")
    groups = groups if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"
    return f"missing: {groups}" if groups else ""
