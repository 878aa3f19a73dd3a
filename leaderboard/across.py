"""Means over groups: of all of a tier, a modality, a task …, with ranks and tests; and which method wins how often."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mubench.leaderboard import statistics
from mubench.leaderboard.aggregate import joined, labels, lowest, reference_order
from mubench.leaderboard.columns import ACROSS, ACROSS_COLUMNS, FACETS, INTERVAL_ACROSS, RANKED, TEST_COLUMNS
from mubench.leaderboard.rank import REASONS, ranked
from mubench.leaderboard.rows import REFERENCES, STANDARD, standard

ENTRY = ["submission", "method", "version", "variant", "trials", "schema", "fingerprint"]  # one row over groups


@dataclass
class Value:
    """One value of all rows that are averaged.

    mean, half, n: [rows], as `statistics.describe` gives them.
    draws: bootstrap means, [rows, draws]; NaN of rows with one run.
    """

    mean: np.ndarray
    half: np.ndarray
    n: np.ndarray
    draws: np.ndarray


def across_groups(rows, runs, level):
    """Rows of each variant but custom, apart, averaged over the groups of each facet that count.

    rows: as `rank.ranked_rows` gives them.
    runs: with the number of their ``row``.
    level: of the intervals, in (0, 1).

    Those groups count that at least half of a facet's methods have. A method that lacks one of them gets no mean and no
    rank: a mean over other groups is no comparison.

    Returns the frame of means (`ACROSS_COLUMNS`), that of tests (`TEST_COLUMNS`: one row per average over two groups or
    more, Friedman's test over the ranked methods), and sentences on the groups that do not count.
    """
    rows = _averaged(rows)
    groups = rows["group"].drop_duplicates().tolist()
    rows["group_number"] = rows["group"].map({name: number for number, name in enumerate(groups)})
    values = _values(rows, runs)
    tables, tests, notes = [], [], []
    for place, part in _facets(rows):
        table, test, uncounted = _facet(part, values, level, groups)
        tables.append(table.assign(**place))
        tests += [place | test] if test else []
        notes += uncounted if place["facet"] == "overall" and place["selection"] == "default" else []
    return _typed(tables), pd.DataFrame(tests, columns=list(TEST_COLUMNS)), notes


def _averaged(rows):
    """The rows that are averaged, one of each entry and group, with the entry's number ``entry`` and name ``label``."""
    comparable = standard(rows["ratio"]) & (rows["checkpoint"] == STANDARD)
    described = [f"{name}{suffix}" for name in ACROSS for suffix in ("", "_half_width", "_n")]
    columns = ["group", "tier", *FACETS[1:], *ENTRY, "params", "options", "level", "flags", "narrow", *REASONS]
    rows = rows.loc[comparable & (rows["variant"] != "custom") & (rows["n"] > 0), [*columns, "n", "row", *described]]
    rows = rows.sort_values(["group", "params"], kind="stable").drop_duplicates(["group", *ENTRY]).sort_index()
    rows = rows.reset_index(drop=True)
    rows["entry"] = rows.groupby(ENTRY, dropna=False).ngroup()
    entries = rows.drop_duplicates("entry").assign(group="", params="{}")
    rows["label"] = rows["entry"].map(dict(zip(entries["entry"], labels(entries), strict=True)))
    return rows


def _values(rows, runs):
    """Name → `Value`."""
    draws = _resampled(rows, runs)
    columns = {name: rows[[name, f"{name}_half_width", f"{name}_n"]].to_numpy("float64").T for name in ACROSS}
    return {name: Value(*columns[name], draws[name]) for name in ACROSS}


def _resampled(rows, runs):
    """Bootstrap means of each value, [rows, draws], independent from group to group."""
    runs = runs.loc[runs["row"].isin(rows["row"]), ["row", *ACROSS]]
    runs = runs.assign(size=runs.groupby("row")["row"].transform("size"))
    place = rows.reset_index().set_index("row")[["index", "group_number"]]
    runs = runs[runs["size"] > 1].join(place, on="row")
    draws = np.full((len(ACROSS), len(rows), statistics.DRAWS), np.nan, "float32")
    for (group, n), members in runs.groupby(["group_number", "size"]):
        seeds = members[[*ACROSS]].to_numpy("float64").T.reshape(len(ACROSS), -1, n)
        draws[:, members["index"].to_numpy()[::n]] = statistics.resampled(seeds, group)
    return dict(zip(ACROSS, draws, strict=True))


def _facets(rows):
    """Tier, selection, facet and its value of each average, and the rows that it is over."""
    reference = rows["method"].isin(REFERENCES)
    selections = rows.loc[~reference, ["tier", "variant"]].drop_duplicates().sort_values(["tier", "variant"])
    for tier, selection in selections.itertuples(index=False):
        chosen = (rows["variant"] == selection) | reference & (rows["variant"] == "default")
        part = rows[(rows["tier"] == tier) & chosen]
        place = {"tier": tier, "selection": selection}
        yield place | {"facet": "overall", "value": "all"}, part
        for facet in FACETS[1:]:
            for value in part[facet].drop_duplicates():
                yield place | {"facet": facet, "value": value}, part[part[facet] == value]


# -- one average -------------------------------------------------------------------------------------------------------


def _facet(rows, values, level, groups):
    """One average: its rows, its test ({} where there is none), and sentences on the groups that do not count.

    rows: a part of those that ``values`` are of, with their index.
    groups: the names of all groups, by their number.
    """
    counting, notes = _counting(rows, groups)
    table, cells = _entries(rows[rows["group_number"].isin(counting)], counting, groups)
    _average(table, cells, values, level)
    gaps = np.where(cells >= 0, values[RANKED].mean[cells], np.nan)
    table = ranked(table.assign(all="", place=np.arange(len(table))), ["all"])
    rivals = table[table["rank"].notna()]
    if len(rivals) < 2 or not counting:
        return table, {}, notes
    mean_ranks, p, difference = statistics.friedman(-gaps[rivals["place"]])
    table.loc[rivals.index, "mean_rank"] = mean_ranks
    test = {"methods": len(rivals), "groups": len(counting), "friedman_p": p, "critical_difference": difference}
    return table, test if len(counting) > 1 else {}, notes


def _counting(rows, groups):
    """The numbers of the groups that at least half of the methods have, and a sentence on each other one."""
    rivals = rows[~rows["method"].isin(REFERENCES)]
    pairs = rivals[["group_number", "submission", "method"]].drop_duplicates()
    methods, everybody = pairs["group_number"].value_counts(), len(pairs[["submission", "method"]].drop_duplicates())
    numbers = rows["group_number"].unique().tolist()
    counting = sorted(number for number in numbers if 2 * methods.get(number, 0) >= everybody)
    notes = [
        f"{groups[number]} does not count for the overall table: fewer than half of the methods ran there"
        for number in numbers
        if number not in counting
    ]
    return counting, notes


def _entries(rows, counting, groups):
    """The table of an average, without its values, and which row each of its cells is, [entries, groups]; -1: none."""
    table = rows.drop_duplicates("entry").set_index("entry").sort_index()[[*ENTRY, "label"]]
    cells = np.full((len(table), len(counting)), -1)
    cells[np.searchsorted(table.index, rows["entry"]), np.searchsorted(counting, rows["group_number"])] = rows.index
    by_entry, missing = rows.groupby("entry"), cells < 0
    table["n"], table["groups"], table["runs"] = (~missing).sum(axis=1), len(counting), by_entry["n"].sum()
    table["level"], table["flags"] = lowest(rows["level"], rows["entry"]), joined(rows["flags"], rows["entry"])
    table["narrow"], table["reference"] = by_entry["narrow"].any(), reference_order(table["method"])
    table["lacks"] = _reasons(rows, table["n"])
    table["complete"] = ~missing.any(axis=1)
    names = np.array([groups[number] for number in counting])
    table["missing"] = [", ".join(names[line]) for line in missing]
    return table, cells


def _reasons(rows, n):
    """In how many of its n groups an entry could not be ranked, and why, [entries]."""
    counts = (rows[[*REASONS]] != "").groupby(rows["entry"]).sum().to_numpy().tolist()
    return [
        "; ".join(
            reason if count == of else f"{reason} in {count} of {of} groups"
            for reason, count in zip(REASONS.values(), line, strict=True)
            if count
        )
        for line, of in zip(counts, n.tolist(), strict=True)
    ]


def _average(table, cells, values, level):
    """Set the columns of means and intervals; NaN of entries that lack a group."""
    complete = table["complete"].to_numpy()
    cells = cells[complete]
    for name, value in values.items():
        described = np.full((len(INTERVAL_ACROSS), len(table)), np.nan)
        if len(cells):
            means = np.stack([value.draws[line].mean(axis=0, dtype="float64") for line in cells])
            described[:2, complete] = statistics.pool(value.mean[cells], value.half[cells], value.n[cells], level)
            described[2:, complete] = statistics.ends(means, level)
        table[[f"{name}{suffix}" for suffix in INTERVAL_ACROSS]] = described.T


def _typed(tables):
    """All averages as one frame."""
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    counts = ["trials", "version", "schema", "rank", "n", "groups", "runs"]
    numbers = ["mean_rank", *(f"{name}{suffix}" for name in ACROSS for suffix in INTERVAL_ACROSS)]
    types = dict.fromkeys(counts, "Int64") | dict.fromkeys(numbers, "float64")
    return table.reindex(columns=list(ACROSS_COLUMNS)).astype(types)


# -- wins --------------------------------------------------------------------------------------------------------------


def wins(rows):
    """How often one method is nearer to retraining than another, by their defaults: a frame, label × label.

    rows: with `ROW_COLUMNS`.

    A cell is the share of the groups where both are ranked in which the row's method is nearer, ties counting half.
    """
    rows = rows[(rows["variant"] == "default") & rows["rank"].notna()]
    gaps = rows.drop_duplicates(["group", "label"]).pivot(index="label", columns="group", values=RANKED).sort_index()
    shares, _ = statistics.wins(-gaps.to_numpy("float64"))
    return pd.DataFrame(shares, index=gaps.index, columns=gaps.index)
