"""The tables of findings.md, from the published runs: `leaderboard/runs.parquet` and, of ablations,
`leaderboard/study_results/`.

`python docs/_findings.py` (part of `make leaderboard`) reads the studies anew and renews the page and its figures, in
`figures/`. What can be measured only with data that are not here (bias amplification) stays as it is.
"""

import json
import re
from pathlib import Path

import pandas as pd

from mubench.leaderboard.studies import ablations, bias, claims
from mubench.leaderboard.studies.figures import csv
from mubench.leaderboard.records import read_runs
from mubench.leaderboard.rows import REFERENCES

ROOT = Path(__file__).parent.parent
PAGE, RUNS, STUDIES = ROOT / "docs/findings.md", ROOT / "leaderboard/runs.parquet", ROOT / "leaderboard/study_results"
FIGURES, SHOWN, ROWS = ROOT / "docs/figures", 4, 50  # sentences on what an ablation lacks, rows of a table
ABLATION = re.compile(r"(<!-- ablation: (\w+) -->\n).*?(<!-- /ablation -->)", re.S)
MARKED = re.compile(r"(?<=<!-- claims -->\n).*(?=<!-- /claims -->)", re.S)


def published():
    """The frame of all published runs, each once."""
    frames = [pd.read_parquet(path) for path in (RUNS, STUDIES / "runs.parquet") if path.is_file()]
    runs = pd.concat(frames, ignore_index=True)
    runs = (
        runs.sort_values("curve", key=lambda curve: curve == "", kind="stable").drop_duplicates("id").sort_index()
    )  # rather with its curve
    return runs.assign(folder=[str(ROOT / folder) for folder in runs["folder"]])


def tables(runs):
    """What stands between the markers."""
    verdicts, numbers = claims.exhibits(runs)
    missing = "\n".join(f"- Not enough data: {sentence}." for sentence in verdicts.missing)
    return "\n" + "\n\n".join(filter(None, [table(verdicts), missing, table(numbers)])) + "\n\n"


def table(exhibit):
    return exhibit.cells.map(lambda text: text.replace("|", r"\|")).to_markdown(index=False, disable_numparse=True)


def ablation(kind, runs):
    """The exhibits of an ablation on the tasks and of the methods in which something was varied (where nothing is: of
    the paper's methods); None where they cannot be made here."""
    said, declared = runs["options"].map(lambda text: {*json.loads(text)}), ablations.KINDS[kind]
    if declared.along:
        varied = runs["curve"] != ""
    elif declared.field == "ratio":
        varied = runs.groupby("task")["ratio_order"].transform("nunique") > 1
    else:
        varied = said.map(lambda options: not declared.field or bool(options & {declared.field, *dict(declared.given)}))
    methods = ablations.METHODS if varied.all() else [*runs["method"][varied].unique()]
    tasks = runs["task"][varied]
    runs = runs[runs["task"].isin(tasks) & (varied | runs["method"].isin(REFERENCES) | (not declared.along))]
    return None if kind == "bias" and bias.measured(runs)[1] else ablations.analyse(kind, runs, only=methods)


def described(exhibits):
    """An ablation on the page: its figure, what follows from it, and what is missing."""
    main, *more = exhibits
    if main.table.empty:
        return "\nThere are no published runs of this ablation yet.\n\n"
    picture = [f"![{main.title}](figures/{main.name}.png)"] if main.rows else []
    missing = [
        *main.missing[:SHOWN],
        *([f"and {len(main.missing) - SHOWN} more of the kind"] if len(main.missing) > SHOWN else []),
    ]
    said = "\n".join([*(f"- {note}." for note in main.notes), *(f"- Missing: {sentence}." for sentence in missing)])
    follows = [
        table(part)
        if len(part.table) <= ROWS
        else f"What follows, {len(part.table)} rows: [{part.name}.csv](figures/{part.name}.csv)."
        for part in more
    ]
    return "\n" + "\n\n".join(filter(None, [*picture, *follows, said])) + "\n\n"


def page(text, runs):
    """The page with its tables made of these runs."""
    text = MARKED.sub(lambda _: tables(runs), text)
    return ABLATION.sub(
        lambda part: part[0] if (made := ablation(part[2], runs)) is None else f"{part[1]}{described(made)}{part[3]}",
        text,
    )


def draw(kinds, runs):
    """Draw the figures of ablations anew, with their points and what follows from these as CSV."""
    FIGURES.mkdir(exist_ok=True)
    for kind in kinds:
        if made := ablation(kind, runs):
            (FIGURES / f"{kind}.png").unlink(missing_ok=True)
            made[0].draw(FIGURES / kind, ["png"] if made[0].rows else [])
            for part in made:
                (FIGURES / f"{part.name}.csv").write_text(csv(part.table), encoding="utf-8")


if __name__ == "__main__":
    if any(STUDIES.rglob("result.json")):
        read_runs(STUDIES)[0].to_parquet(STUDIES / "runs.parquet", index=False)
    runs, text = published(), PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page(text, runs), encoding="utf-8")
    draw([kind for _, kind, _ in ABLATION.findall(text)], runs)
