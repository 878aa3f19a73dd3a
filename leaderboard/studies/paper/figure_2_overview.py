"""Figure 2: forgetting against keeping, a panel per task."""

from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.studies.figures import Exhibit, Line, Panel
from mubench.leaderboard.studies.panels import wrapped
from mubench.leaderboard.studies.paper.cross_table import absent, cross_table
from mubench.leaderboard.studies.paper.published import NOT_SEEN
from mubench.leaderboard.studies.runs import METHODS

COLOURS = {method: number for number, method in enumerate(METHODS)} | {name: name for name in REFERENCES}


def overview(runs):
    """Figure 2, with its table."""
    tidy, cells = cross_table(runs, ["test_score", "forget_score"])
    return Exhibit(
        "figure_2",
        "Scores on D_t over those on D_f at 5 %, all tasks",
        wrapped(_panels(tidy) if len(tidy) else [], "test, %"),
        tidy,
        cells,
        [NOT_SEEN],
        absent(tidy),
    )


def _panels(tidy):
    keys = ["task", "model", "method"]
    wide = tidy.pivot_table(index=keys, columns="value", values="mean", sort=False).dropna().reset_index()
    return [
        Panel(f"{task} / {model}", "forget, %", "", [_dot(row) for row in group.to_dict("records")])
        for (task, model), group in wide.groupby(["task", "model"], sort=False)
    ]


def _dot(row):
    """A method by its name, at its scores."""
    method = row["method"]
    return Line(method, [100 * row["forget_score"]], [100 * row["test_score"]], kind="named", colour=COLOURS[method])
