"""Runs → rows: those that differ in their seed alone, averaged, with a title for their table and a name."""

import json

import numpy as np
import pandas as pd

from mubench.leaderboard import statistics
from mubench.leaderboard.columns import INTERVAL, VALUES, further
from mubench.leaderboard.escape import one_line
from mubench.leaderboard.rows import GROUP as GROUP_OF_A_RUN
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.rows import SETTINGS as SETTINGS_OF_A_RUN
from mubench.leaderboard.trust.levels import Level
from mubench.splits import described

LEVELS = tuple(map(str, Level))  # each is worth more than those before it
GROUP, SETTINGS = list(GROUP_OF_A_RUN), ["submission", *SETTINGS_OF_A_RUN]
NAMING = ("method", "version", "params", "trials", "options", "submission", "schema", "fingerprint")


def numbered(runs):
    """The runs in the order of the tables.

    Adds ``row``, the number of the row they are averaged to, and ``position`` among the runs of that row.
    """
    runs = runs.sort_values([*GROUP, *SETTINGS, "seed"], kind="stable", ignore_index=True)
    runs["row"] = runs.groupby([*GROUP, *SETTINGS], sort=True, dropna=False).ngroup()
    runs["position"] = runs.groupby("row").cumcount()
    return runs


def aggregate(runs, level):
    """One row per group, submission and settings.

    runs: as `numbered` gives them.
    level: of the intervals, in (0, 1).

    Beside the columns of a row there are ``options``, ``task_version``, ``reference`` (`reference_order`), ``narrow``
    (whether all seeds started from one original) and ``wrapper``.
    """
    shared = ["tier", "modality", "architecture", "params", "engine", "task_version", "random_guess"]
    rows = runs.drop_duplicates("row").set_index("row")[[*shared, *GROUP, *SETTINGS]].copy()
    by_row = runs.groupby("row")
    rows["n"], rows["stopped"] = by_row.size(), (runs["status"] == "stopped").groupby(runs["row"]).sum()
    rows["level"], rows["flags"] = lowest(runs["level"], runs["row"]), joined(runs["flags"], runs["row"])
    rows["wrapper"] = joined(runs["wrapper"], runs["row"])
    one_original = by_row["original"].nunique() == 1
    rows["narrow"] = one_original & (rows["n"] > 1) & ~by_row["anchor"].any()  # retraining starts from none
    rows = rows.join(_described(runs, level)).reset_index()
    rows["group"] = _titles(rows)
    rows["label"] = labels(rows)
    rows["reference"] = reference_order(rows["method"])
    return rows


def lowest(levels, keys):
    """The lowest level of verification for each key."""
    return levels.map(LEVELS.index).groupby(keys).min().map(LEVELS.__getitem__)


def joined(flags, keys):
    """All different flags for each key."""
    if not flags.any():
        return ""
    return flags.groupby(keys).agg(lambda texts: "; ".join(dict.fromkeys(filter(None, texts))))


def reference_order(methods):
    """The place of each method among `REFERENCES`; of all others their number."""
    order = {name: place for place, name in enumerate(REFERENCES)}
    return methods.map(order).fillna(len(REFERENCES)).astype(int)


def _described(runs, level):
    """Mean, intervals and n of every value of every row."""
    size = runs.groupby("row").size()
    wanted = [*VALUES, *further(runs)]
    columns = [f"{name}{suffix}" for name in wanted for suffix in INTERVAL]
    described = pd.DataFrame(np.nan, index=size.index, columns=columns)
    for n in sorted(size.unique()):
        members = runs[runs["row"].map(size) == n]
        values = members[wanted].to_numpy("float64").reshape(-1, n, len(wanted)).transpose(0, 2, 1)
        cells = np.stack(statistics.describe(values.reshape(-1, n), level))  # [5, rows · values]
        cells[1:4] = cells[1:4].round(9)  # ends of intervals: shorter files, and no digits that mean nothing
        cells = cells.reshape(len(INTERVAL), -1, len(wanted)).transpose(1, 2, 0)
        described.loc[members["row"].unique()] = cells.reshape(-1, len(columns))
    return described


def _titles(rows):
    """Task, model and ratio; the beginnings of hashes where two groups have these in common."""
    from_file = rows["ratio"].str.startswith("file")
    ratios = rows["ratio"].where(from_file, rows["ratio"].map(described))
    titles = rows["task"] + " / " + rows["model"] + " / " + ratios
    groups = rows[GROUP].drop_duplicates()
    twins = groups[groups.duplicated(GROUP[:4], keep=False)]
    if twins.empty:
        return titles
    original, forget_rows, data = (rows[name].str[:8] for name in ("checkpoint", "forget_rows", "data"))
    longer = titles + " (original " + original + ", forget rows " + forget_rows + ", data " + data + ")"
    of_twins = rows.set_index(GROUP[:4]).index.isin(twins.set_index(GROUP[:4]).index)
    return titles.where(~of_twins, longer)


def labels(rows):
    """The rows' names, [rows].

    What tuning chose, the schema and the code are told only where names of one group would be equal otherwise.
    """
    cells = list(zip(*(rows[name].tolist() for name in NAMING), strict=True))
    names = [_label(*row) for row in cells]
    for detail in (1, 2, 3):
        equal = pd.DataFrame({"group": rows["group"].to_numpy(), "label": names}).duplicated(keep=False)
        names = [_label(*row, detail) if same else name for name, same, row in zip(names, equal, cells, strict=True)]
    return names


def _label(name, version, params, trials, options, submission, schema, fingerprint, detail=0):
    """The name of a row.

    detail: 1 tells what tuning chose, 2 also the schema, 3 also the code.
    """
    settings = [f"tuned, {trials} trials"] if trials else []
    if detail or not trials:
        settings += _assignments(params, sort=True)
    settings += _assignments(options)
    settings += ["schema 1"] if detail > 1 and schema == 1 else []
    settings += [f"code {fingerprint[:8]}"] if detail > 2 and fingerprint else []
    name = name if version == 1 else f"{name} v{version}"
    name = f"{name} ({', '.join(settings)})" if settings else name
    return one_line(name + (f" [{submission}]" if submission else ""))


def _assignments(text, sort=False):
    """JSON of an object → ``name=value`` of each of its fields."""
    fields = json.loads(text).items() if text != "{}" else ()
    return [f"{name}={value}" for name, value in (sorted(fields) if sort else fields)]
