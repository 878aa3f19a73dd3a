"""Table 1: tasks, models, and what their originals reach."""

import math

import pandas as pd

from mubench import registry
from mubench.leaderboard.studies.figures import Exhibit, spread
from mubench.leaderboard.studies.paper.published import (
    CODE,
    ORIGINAL_SCORES,
    ROWS,
    SOURCE,
    TASKS,
    TRANSFER_SCORES,
)

HEADINGS = {
    "original_score": "original, %",
    "published_score": "published, %",
    "original_transfer": "on transfer, %",
    "published_transfer": "on transfer, published, %",
    "published_rows": "rows, published",
}
NOTE = (
    f"published scores: {CODE} (accuracy on D_t, and on Rotten Tomatoes or NLVR2's second test set; originals trained"
    f" on 85 % of D, except NLVR2's); published rows: {SOURCE}, Table 1, and the README of CLU-UML/MU-Bench; the data"
    " sets have 86,373 (NLVR2), 51,094 (Speech Commands) and 100,000 (Tiny ImageNet) training rows"
)


def tasks_table(runs):
    """Table 1, a row per task and model."""
    table = pd.DataFrame(_rows(runs))
    scores = [name for name in HEADINGS if name != "published_rows"]
    cells = table.assign(**{name: [spread(value) for value in table[name]] for name in scores})
    cells = cells.fillna("–").rename(columns=HEADINGS)
    cells = cells[[*(name for name in cells if name != "architecture"), "architecture"]]
    without_run = sorted(set(table.loc[table["tier"] == "paper", "task"]) - set(runs["task"]))
    return Exhibit(
        "table_1",
        "Tasks, models, and the originals' scores on the test set and on transfer",
        table=table,
        cells=cells,
        missing=[f"{', '.join(without_run)}: no run, so no score of an original"] if without_run else [],
        notes=[NOTE],
    )


def _rows(runs):
    place = ["task", "model"]
    scores = runs.drop_duplicates([*place, "original"]).groupby(place)["original_score"].mean()
    transfer = runs[runs["method"] == "original"].groupby(place)["transfer_score"].mean()
    for task in [registry.load_task(name) for name in TASKS if name in registry.tasks.names()]:
        for model, facts in task.models.items():
            key = (task.name, model)
            yield {
                "task": task.name,
                "tier": task.tier,
                "modality": task.modality,
                "metric": task.metric,
                "model": model,
                "architecture": facts.architecture,
                "original_score": float(scores.get(key, math.nan)),
                "published_score": ORIGINAL_SCORES.get(key, math.nan),
                "original_transfer": float(transfer.get(key, math.nan)),
                "published_transfer": TRANSFER_SCORES.get(key, math.nan),
                "published_rows": ROWS.get(task.name),
            }
