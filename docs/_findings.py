"""The tables of findings.md, from the published runs: `leaderboard/runs.parquet` and, of ablations,
`leaderboard/study_results/`.

`python docs/_findings.py` (part of `make leaderboard`) reads the studies anew and renews the page and its figures, in
`figures/`. What can be measured only with data that are not here (bias amplification) stays as it is.
"""

import json
import re
from pathlib import Path

import pandas as pd

from mubench.leaderboard.frame import read_runs
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.studies import bias, verdicts
from mubench.leaderboard.studies.ablations import analyse
from mubench.leaderboard.studies.figures import csv
from mubench.leaderboard.studies.kinds import KINDS
from mubench.leaderboard.studies.runs import METHODS

ROOT = Path(__file__).parent.parent
PAGE, FIGURES = ROOT / "docs/findings.md", ROOT / "docs/figures"
RUNS, STUDIES = ROOT / "leaderboard/runs.parquet", ROOT / "leaderboard/study_results"
SHOWN, ROWS = 4, 50  # sentences on what an ablation lacks, rows of a table
ABLATION = re.compile(r"(<!-- ablation: (\w+) -->\n).*?(<!-- /ablation -->)", re.S)
CLAIMS = re.compile(r"(?<=<!-- claims -->\n).*(?=<!-- /claims -->)", re.S)


def published():
    """The frame of all published runs, each once, rather with its curve than without."""
    frames = [pd.read_parquet(path) for path in (RUNS, STUDIES / "runs.parquet") if path.is_file()]
    runs = pd.concat(frames, ignore_index=True)
    runs = runs.sort_values("curve", key=lambda curve: curve == "", kind="stable").drop_duplicates("id").sort_index()
    return runs.assign(folder=[str(ROOT / folder) for folder in runs["folder"]])


def page(text, runs):
    """The page with its tables made of these runs."""

    def renewed(part):
        start, kind, end = part.groups()
        made = ablation(kind, runs)
        return part[0] if made is None else f"{start}{described(made)}{end}"

    return ABLATION.sub(renewed, CLAIMS.sub(lambda _: claims(runs), text))


def claims(runs):
    """The verdicts on the claims, what they lack, and the numbers they rest on."""
    judged, numbers = verdicts.exhibits(runs)
    missing = "\n".join(f"- Not enough data: {sentence}." for sentence in judged.missing)
    return _paragraphs(table(judged), missing, table(numbers))


def ablation(kind, runs):
    """The exhibits of an ablation on the tasks and of the methods in which something was varied (where nothing is: of
    the paper's methods); None where they cannot be made here.
    """
    varied, on_curves = _varied(KINDS[kind], runs), KINDS[kind].on_curves
    methods = METHODS if varied.all() else [*runs["method"][varied].unique()]
    shown = varied | runs["method"].isin(REFERENCES) | (not on_curves)
    runs = runs[runs["task"].isin(runs["task"][varied]) & shown]
    if kind == "bias" and bias.measured(runs)[1]:
        return None
    return analyse(kind, runs, methods=methods)


def _varied(kind, runs):
    """Which runs belong to a variation: a series of booleans."""
    if kind.on_curves:
        return runs["curve"] != ""
    if kind.varies_ratio:
        return runs.groupby("task")["ratio_order"].transform("nunique") > 1
    names = {kind.option, *dict(kind.with_options)}
    return runs["options"].map(lambda options: not kind.option or bool(names & {*json.loads(options)}))


def described(exhibits):
    """An ablation on the page: its figure, what follows from it, and what is missing."""
    figure, *more = exhibits
    if figure.table.empty:
        return _paragraphs("There are no published runs of this ablation yet.")
    picture = f"![{figure.title}](figures/{figure.name}.png)" if figure.rows else ""
    missing = figure.missing[:SHOWN]
    if left := len(figure.missing) - len(missing):
        missing.append(f"and {left} more of the kind")
    sentences = [*figure.notes, *(f"Missing: {sentence}" for sentence in missing)]
    return _paragraphs(picture, *map(_follow_up, more), "\n".join(f"- {sentence}." for sentence in sentences))


def _follow_up(exhibit):
    if len(exhibit.table) <= ROWS:
        return table(exhibit)
    return f"What follows, {len(exhibit.table)} rows: [{exhibit.name}.csv](figures/{exhibit.name}.csv)."


def table(exhibit):
    return exhibit.cells.map(lambda text: text.replace("|", r"\|")).to_markdown(index=False, disable_numparse=True)


def _paragraphs(*texts):
    """What stands between two markers."""
    return "\n" + "\n\n".join(filter(None, texts)) + "\n\n"


def draw(kinds, runs):
    """Draw the figures of ablations anew, with their points and what follows from these as CSV."""
    FIGURES.mkdir(exist_ok=True)
    for kind in kinds:
        if made := ablation(kind, runs):
            (FIGURES / f"{kind}.png").unlink(missing_ok=True)
            made[0].draw(FIGURES / kind, ["png"] if made[0].rows else [])
            for exhibit in made:
                (FIGURES / f"{exhibit.name}.csv").write_text(csv(exhibit.table), encoding="utf-8")


if __name__ == "__main__":
    if any(STUDIES.rglob("result.json")):
        read_runs(STUDIES)[0].to_parquet(STUDIES / "runs.parquet", index=False)
    runs, text = published(), PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page(text, runs), encoding="utf-8")
    draw([kind for _, kind, _ in ABLATION.findall(text)], runs)
