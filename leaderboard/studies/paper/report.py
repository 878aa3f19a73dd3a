"""The MU-Bench paper (Cheng & Amiri 2024, arXiv 2406.14796) again, from records: its Tables 1 to 6, its Figures 2, 3
and 5 to 15, and its claims.

Our numbers stand next to the published ones where those are known (`published`); what the records do not hold is said
to be missing. Each task of the paper is shown with its twin of the mini tier. Imports no torch.
"""

from pathlib import Path

import pandas as pd

from mubench.cache import whole, writing
from mubench.errors import MubenchError
from mubench.leaderboard.columns import RUN_COLUMNS
from mubench.leaderboard.frame import of_one_code, read_runs
from mubench.leaderboard.studies import verdicts
from mubench.leaderboard.studies.ablations import analyse
from mubench.leaderboard.studies.paper import tables_4_to_6_scores as scores
from mubench.leaderboard.studies.paper.figure_2_overview import overview
from mubench.leaderboard.studies.paper.published import NOT_SEEN, SOURCE, TWINS
from mubench.leaderboard.studies.paper.table_1_tasks import tasks_table
from mubench.leaderboard.studies.paper.table_2_taxonomy import taxonomy_table
from mubench.leaderboard.studies.paper.table_3_curriculum import curriculum_table
from mubench.leaderboard.studies.runs import METHODS
from mubench.leaderboard.submitter import OWN
from mubench.measure.metrics import VERSION

SHOWN_NOTES = 30  # on what was left out while reading


def paper(results, out="paper"):
    """Write every table and figure of the paper, and what the records say of its claims, to a folder.

    results: folders of results or submissions, or the ``runs.parquet`` that `mubench board --out` made of them, or such
    a frame.
    out: the folder.

    Returns the path of the page that shows them. Raises `MubenchError` where there is no run.
    """
    runs, notes = _read(results)
    if runs.empty:
        raise MubenchError(f"nothing to make the paper from: {notes[0] if notes else 'no run'}")
    own = runs["submission"] == OWN
    if own.any():  # the project's own runs do not mix with others
        runs = runs[own]
    made = exhibits(runs) | {"Claims": verdicts.exhibits(runs)}
    with writing(out):
        for exhibit in (exhibit for parts in made.values() for exhibit in parts):
            exhibit.write(out)
    return _page(made, runs, notes, Path(out) / "index.html")


def _read(results):
    """The frame of runs, and sentences on what was left out."""
    if isinstance(results, pd.DataFrame):
        return results, []
    paths = [Path(path) for path in ([results] if isinstance(results, (str, Path)) else results)]
    if [path.suffix for path in paths] != [".parquet"]:
        return read_runs(paths)
    try:
        runs = pd.read_parquet(paths[0])
    except (OSError, ValueError) as error:
        raise MubenchError(f"{paths[0]} cannot be read: {error}") from error
    if missing := [name for name in RUN_COLUMNS if name not in runs]:
        raise MubenchError(
            f"{paths[0]} has no column {missing[0]!r}: make it again with `mubench board RESULTS --out FOLDER`"
        )
    return runs, []


def exhibits(runs):
    """Number in the paper → its `Exhibit`s: the first is the table or figure, others follow from it."""
    runs = of_one_code(runs)
    made = {
        "Table 1": [tasks_table(runs)],
        "Table 2": [taxonomy_table()],
        "Table 3": [curriculum_table(runs)],
        "Table 4": [scores.scores_table(runs)],
        "Table 5": [scores.attack_table(runs)],
        "Table 6": [scores.time_table(runs)],
        "Figure 2": [overview(runs)],
        "Figure 3": analyse("scale", runs, methods=METHODS, notes=[NOT_SEEN]),
        "Figure 5": analyse("bias", runs, methods=METHODS),
        "Figure 6": analyse(
            "lora", runs, methods=METHODS, notes=["the paper's claim: below a share of 50 % nothing is forgotten"]
        ),
    }
    for number, (task, twin) in enumerate(TWINS.items(), 7):
        made[f"Figure {number}"] = _capacity_figure(runs, task, twin)
    for name, parts in made.items():
        _number(name, parts)
    return made


def _capacity_figure(runs, task, twin):
    """Scores over the deletion ratio, of a task and its twin."""
    of_both = runs[runs["task"].isin([task, twin])]
    parts = analyse("ratio", of_both, methods=METHODS)
    absent = [f"{name}: no run" for name in (task, twin) if name not in set(of_both["task"])]
    parts[0].missing = [*absent, *(parts[0].missing if len(of_both) else [])]
    for part in parts:
        part.title = f"{part.title}: {task}, its twin {twin}"
    return parts


def _number(name, parts):
    """Give exhibits the number of the paper, in their titles and in the names of their files."""
    stem = name.lower().replace(" ", "_")
    for part in parts:
        part.title = f"{name}. {part.title}"
        part.name = stem if part is parts[0] else f"{stem}_{part.name.split('_', 1)[1]}"


def _page(made, runs, notes, path):
    from mubench.leaderboard.site import HERE, templates

    text = (
        templates()
        .get_template("paper.html")
        .render(
            made=made,
            runs=len(runs),
            tasks=runs["task"].nunique(),
            source=SOURCE,
            notes=notes[:SHOWN_NOTES],
            left=max(0, len(notes) - SHOWN_NOTES),
            formulas=VERSION,
            style=(HERE / "static" / "site.css").read_text(encoding="utf-8"),
            name_of=lambda file: Path(file).name,
        )
    )
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
