"""Ablations: one thing is varied, all else stays. `kinds.KINDS` says what is varied and what is drawn.

`specs_of` lists the runs, `ablate` makes them, and `analyse` turns the frame of runs into exhibits:
a figure with its table, and a table of what follows from it (a capacity, a law, a difference). Imports no torch; a
figure without enough data says what is missing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mubench.errors import MubenchError
from mubench.leaderboard.frame import read_runs
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.studies import bias, coverage
from mubench.leaderboard.studies.capacity import MARGIN
from mubench.leaderboard.studies.figures import Exhibit, texts
from mubench.leaderboard.studies.kinds import kind_of
from mubench.leaderboard.studies.points import cells, points
from mubench.leaderboard.studies.runs import METHODS
from mubench.sweep import grid
from mubench.sweep.progress import reason


def ablate(
    kind: str,
    tasks: str | Sequence[str],
    methods: str | Sequence[str] | None = None,
    *,
    models: Any = None,
    ratios: Any = None,
    seeds: Any = None,
    at: Any = None,
    out: str | Path = "results",
    figures: str | Path | None = None,
    workers: int = 1,
    eval_every: int = 10,
    margin: float = MARGIN,
    limit: int | None = None,
    run: bool = True,
    **options: Any,
) -> list[Exhibit]:
    """Vary one thing, run what ``out`` does not hold yet, and draw.

    kind: lora, curriculum, ratio, scale, budget or bias.
    tasks: names.
    methods: names; default: the five that the MU-Bench paper compares.
    models, ratios, seeds: as in `mubench.run`.
    at: levels of what is varied, instead of the kind's own.
    out: the folder of results.
    figures: a folder to write the figures and tables to.
    workers: processes on this machine.
    eval_every: steps between the points of curves, where the kind draws curves.
    margin: of the deletion capacity, a fraction.
    limit: trials on so many rows.
    run: whether to run what is missing, not only to draw.
    options: as in `mubench.run`.

    Returns the exhibits. Raises `MubenchError` where every run fails.
    """
    varied = kind_of(kind, at)
    references, specs, left_out = specs_of(varied, tasks, methods, models, ratios, seeds, limit=limit, **options)
    if run:
        _run(references, specs, out, workers, eval_every if varied.on_curves else None)
    runs, notes = read_runs(out, only=[*references, *specs], limit=limit)
    trial = [f"a trial on {limit} rows of each set: no result"] if limit else []
    exhibits = analyse(varied, runs, [*references, *specs], margin, [*trial, *left_out, *notes])
    if figures:
        for exhibit in exhibits:
            exhibit.write(figures)
    return exhibits


def _run(references, specs, out, workers, eval_every):
    """Make the runs that ``out`` does not hold; ``eval_every``: None where no curve is wanted."""
    grid.sweep(references, out, workers)
    _, _, failed = grid.sweep(specs, out, workers, **({"eval_every": eval_every} if eval_every else {}))
    if len(failed) == len(specs):
        raise MubenchError(
            f"no run of this ablation succeeded, the first, {failed[0].folder}, failed with: {reason(failed[0], out)}"
        )


def specs_of(kind, tasks, methods=None, models=None, ratios=("5",), seeds=(0,), at=None, **options):
    """The runs of an ablation.

    at: levels instead of the kind's own; the plain run is always among them.
    The other arguments are those of `ablate`.

    Returns (references, specs, left_out): two lists of `RunSpec`s, and a sentence for each pair that cannot work.
    """
    kind = kind_of(kind, at)
    methods, models = methods or METHODS, list(models or kind.models) or None
    ratios = [f"{level:g}" for level in kind.levels] if kind.varies_ratio else ratios
    references, _ = grid.expand(tasks, kind.references, models, ratios, seeds, **options)
    plain, left_out = grid.expand(tasks, methods, models, ratios, seeds, **options)
    specs = {spec.id: spec for spec in plain if None in kind.levels or kind.varies_ratio}
    for level in kind.levels if kind.varies_option else ():
        try:
            more, lacking = grid.expand(tasks, methods, models, ratios, seeds, **options, **kind.options(level))
        except MubenchError as error:  # no method can: the plain ones could, so it is the level
            more, lacking = [], [str(error)]
        specs |= {spec.id: spec for spec in more}
        left_out = [*left_out, *lacking]
    return references, list(specs.values()), list(dict.fromkeys(left_out))


def analyse(kind, runs, specs=None, margin=MARGIN, notes=(), methods=None, title="", ratio="5"):
    """The exhibits of an ablation: the figure with its points, and what follows from them.

    kind: a name or a `Kind`.
    runs: a frame of runs, as `read_runs` gives it.
    specs: the runs that were meant to be there; default: every level of what ``runs`` holds.
    margin: of the deletion capacity, a fraction.
    notes: sentences to show beside.
    methods: those shown; default: all.
    title: default: what the kind asks.
    ratio: that of the runs, where ``specs`` do not say it and it is not what is varied.

    Raises `MubenchError` for a margin outside [0, 1).
    """
    kind = kind_of(kind)
    if not 0 <= margin < 1:
        raise MubenchError(f"margin {margin!r}: by how much the test score may fall, a fraction such as {MARGIN:g}")
    runs = coverage.runs_of(kind, runs, specs, methods, ratio)
    expected = coverage.expected(kind, runs, specs, ratio)
    notes, unmeasured = list(notes), []
    changes = "transfer_change" in kind.values
    if changes:
        runs, unmeasured = bias.changes(runs)
        notes.append(bias.shortcuts_note(runs))
    unlearned = runs[~runs["method"].isin(REFERENCES)]
    missing = coverage.missing_runs(kind, unlearned, expected)
    table = points(kind, unlearned)
    found, found_notes, not_found = kind.findings(unlearned, table, margin) if len(table) else (pd.DataFrame(), [], [])
    notes += found_notes
    if missing:
        command = coverage.command_for(kind, expected, unlearned, methods)
        notes.append(f"runs that are missing are made by `{command}`")
    missing += [*(coverage.missing_transfer(unlearned) if changes else []), *unmeasured, *not_found]
    title = title or kind.about
    panels = kind.panels(kind, table, runs, margin)
    figure = Exhibit(kind.name, title, panels, table.drop(columns="order"), cells(kind, table), notes, missing)
    if not figure.rows and not figure.missing:
        figure.missing.append("nothing to draw: there are no runs of this kind")
    return [figure, *([_follow_up(kind, title, found)] if len(found) else [])]


def _follow_up(kind, title, found):
    """The exhibit of what follows from the points."""
    return Exhibit(
        f"{kind.name}_{kind.findings_name}",
        f"{title}: {kind.findings_name}",
        table=found,
        notes=[kind.findings_about, "scores and margins are fractions"],
        cells=texts(found).rename(columns=lambda name: name.replace("_", " ")),
    )
