"""Frames of rows → tables of texts, as `write` takes them: one per group, one per average over groups."""

import itertools
import math

import numpy as np
import pandas as pd

from mubench.leaderboard.aggregate import LEVELS
from mubench.leaderboard.columns import ACROSS, SCALES, header
from mubench.leaderboard.rows import SEEDS, VARIANTS

TEXTS = ("method", "level", "remarks")  # columns of words, flush left; all others are made of numbers
SILENT = {"remarks": {""}, "level": {"", LEVELS[-1]}}  # column → cells that say nothing; of all others a dash


def legend(level):
    """What the marks in the tables mean.

    level: of the intervals.
    """
    return (
        f"Per cent, ± half-width of the {100 * level:g} % interval over n seeds; ↑ more, ↓ less, → that value "
        "is better; others: the closer to retrain the better. # ranks by gap, the distance to retrain, rows of "
        f"{SEEDS} seeds and of no more work than retraining. Work: floating-point operations, retraining's "
        "being 100 %. Seconds of unlearning alone are measured and rank nothing: of the CPU on a machine "
        "without a GPU, of the wall clock on one with."
    )


def group_tables(rows, values):
    """Title and table of every group.

    rows: with `ROW_COLUMNS`.
    values: names of those that are shown.
    """
    table = _identity(rows) | _numbers(rows, values, rows["n"].tolist())
    return _split(table | {"n": [str(n) for n in rows["n"]]} | _comments(rows), rows["group"])


def across_tables(across, several_tiers):
    """Title and table of every average over two groups or more.

    across: with `ACROSS_COLUMNS`.
    several_tiers: whether titles name the tier.
    """
    overall, many = across["facet"] == "overall", across["groups"] > 1
    selection = [across["tier"], across["selection"]]
    most = across["groups"].where(overall & many, 0).groupby(selection).transform("max")
    across = across[many & (overall | (across["groups"] < most))]  # a facet of all groups would say the same again
    groups = [
        str(some) if some == all_ else f"{some} of {all_}"
        for some, all_ in zip(across["n"], across["groups"], strict=True)
    ]
    table = _identity(across) | _numbers(across, (*ACROSS, "mean_rank"), across["n"].tolist())
    return _split(table | {"groups": groups} | _comments(across), _titles(across, several_tiers))


def _titles(across, several_tiers):
    """The title of the table that each row stands in."""
    titles = []
    for row in across[["tier", "selection", "facet", "value", "groups"]].itertuples():
        facet = "" if row.facet == "overall" else f", {row.facet} {row.value}{' %' if row.facet == 'ratio' else ''}"
        selection = "" if row.selection == VARIANTS[0] else f", {row.selection}"
        tier = f" of the {row.tier} tier" if several_tiers else ""
        titles.append(f"overall{facet}{selection}, mean of {row.groups} groups{tier}")
    return pd.Series(titles, dtype=object)


def test_sentence(title, tests, several_tiers):
    """What Friedman's test says of a table, or ''.

    title: of the table.
    tests: with `TEST_COLUMNS`.
    """
    if not title.startswith("overall, mean"):
        return ""
    tests = tests[(tests["facet"] == "overall") & (tests["selection"] == VARIANTS[0])]
    if several_tiers:
        tests = tests[[tier in title for tier in tests["tier"]]]
    if tests.empty or math.isnan(tests["critical_difference"].iloc[0]):
        return ""
    test = tests.iloc[0]
    p = "" if math.isnan(test["friedman_p"]) else f" (Friedman's p = {test['friedman_p']:.2g})"
    return (
        f"Of the {test['methods']} methods that are ranked in all {test['groups']} groups, two whose mean ranks differ "
        f"by less than {test['critical_difference']:.2f} cannot be told apart at 5 % (Nemenyi){p}."
    )


# -- columns -----------------------------------------------------------------------------------------------------------


def _identity(rows):
    return {"#": ["" if pd.isna(rank) else str(rank) for rank in rows["rank"]], "method": rows["label"].tolist()}


def _comments(rows):
    return {"level": rows["level"].tolist(), "remarks": rows["remarks"].tolist()}


def _numbers(rows, values, n):
    """Header → texts of values; one from fewer runs than its row's n says so."""
    unknown = [math.nan] * len(rows)
    numbers = {}
    for name in values:
        halves = rows[f"{name}_half_width"].tolist() if f"{name}_half_width" in rows else unknown
        counts = rows[f"{name}_n"].tolist() if f"{name}_n" in rows else n
        cells = zip(rows[name].tolist(), halves, counts, n, strict=True)
        numbers[header(name)] = [_number(*cell, SCALES.get(name, 100)) for cell in cells]
    return numbers


def _number(value, half, count, n, scale):
    """``71.3±0.9 (n=3)``; a dash where there is no value."""
    if value != value:
        return "–"
    interval = "" if half != half else f"±{scale * half:.1f}"
    return f"{scale * value:.1f}{interval}{'' if count == n else f' (n={count})'}"


def _split(table, titles):
    """Title and part of a table under each title, without the columns that say nothing there.

    titles: of each row; equal ones lie together.
    """
    titles = titles.reset_index(drop=True)
    starts = np.flatnonzero(titles.ne(titles.shift())).tolist()
    for start, end in itertools.pairwise([*starts, len(titles)]):
        part = {name: cells[start:end] for name, cells in table.items()}
        yield titles[start], {name: cells for name, cells in part.items() if set(cells) - SILENT.get(name, {"–"})}
