"""The references that a group lacks: an empty row for each, and the command that makes them."""

import json
from pathlib import Path

import pandas as pd

from mubench.leaderboard.rows import GROUP, REFERENCES
from mubench.spec import command
from mubench.splits import split_parts


def missing_references(runs, rows):
    """What is missing to compare each run with the original it started from and with the retrained model of its seed.

    runs: with the number of their ``row``, in the order of the tables.
    rows: of all groups.

    Returns a frame of empty rows, one for each group and reference that has no run at all, and a list of sentences,
    one for each group and reference that lacks some, with the command that makes them.
    """
    groups = runs["row"].map(dict(zip(rows["row"], rows["group"], strict=True)))
    order = {group: place for place, group in enumerate(groups.unique())}
    first_rows = rows.drop_duplicates("group").set_index("group", drop=False)
    empty, notes = [], []  # with the place of their group
    without = set(groups) - set(groups[runs["retain_score"].notna()])  # a retain set, so nothing can be retrained
    for place, reference in enumerate(REFERENCES):
        of_reference = runs["method"] == reference
        present = set(groups[of_reference]) | (without if reference == "retrain" else set())
        absent = [group for group in order if group not in present]
        empty += [(order[group], _empty(first_rows.loc[group], reference, place)) for group in absent]
        excused = groups.isin(without) & (reference == "retrain")
        lacking = runs[_lacking(runs, groups, reference, of_reference) & ~excused]
        for group, members in lacking.groupby(groups, sort=False):
            complete = "complete " if (members["method"] == reference).any() else ""
            seeds = sorted({*members["seed"]})
            makes = _command(runs.loc[(groups == group).idxmax()], reference, seeds)
            note = f"{group} has no {complete}{reference} for seed {' '.join(map(str, seeds))}: {makes}"
            notes.append((order[group], note))
    empty, notes = ([thing for _, thing in sorted(things, key=lambda pair: pair[0])] for things in (empty, notes))
    return pd.DataFrame(empty), notes


def _lacking(runs, groups, reference, of_reference):
    """Which runs lack a reference in their group: every original needs its run, every seed its own retrained model."""
    key, usable = ("original", of_reference) if reference == "original" else ("seed", of_reference & runs["anchor"])
    places = pd.MultiIndex.from_arrays([groups, runs[key]])
    return ~places.isin(places[usable])


def _empty(row, reference, place):
    """The row of a reference that has no runs.

    row: another one of the same group.
    """
    shared = ["group", "tier", "modality", "architecture", "random_guess", *GROUP]
    return {
        **row[shared],
        **dict.fromkeys(("submission", "flags", "level"), ""),
        **{"method": reference, "label": reference, "reference": place, "variant": "default", "options": "{}"},
        **{"n": 0, "stopped": 0, "narrow": False},
    }


def _command(run, method, seeds):
    """The command line that runs a reference in the place of a run, into the store it lies in."""
    spec, folder = json.loads(run["spec"]), Path(run["folder"])
    ratio, unit = split_parts(run["ratio"])
    in_store = folder.parts[-5:-4] == (run["task"].split(" ")[0],)
    return command(
        {name: spec.get(name) for name in ("task", "split_file", "checkpoint")},
        method=method,
        model=run["model"],
        ratio=ratio,
        unit=unit,
        seed=seeds,
        out=str(folder.parents[4] if in_store else Path("results")),
    )
