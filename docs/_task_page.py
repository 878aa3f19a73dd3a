"""The page of a task, from its declaration."""

import json
import re
from dataclasses import asdict, fields

from _markdown import code, facts, join, links, prose, source, table
from _names import methods_of

from mubench import splits
from mubench.models import originals
from mubench.registry import load_task
from mubench.tasks.base import Task
from mubench.train.recipe import Recipe

RATIOS = (1, 2, 5, 10)


def task_page(name):
    task = load_task(name)
    return join(
        f"# {name}",
        re.sub(r"\btwin of (\w+)", r"twin of [\1](\1.md)", prose(task)),
        "## Data card",
        data_card(task),
        "## Models",
        "The first is the default.",
        models(task),
        "## Recipe of the originals",
        "[What the numbers mean](../concepts.md#originals). `retrain` uses the same recipe on D_r.",
        recipes(task),
        "## Sizes",
        sizes(task),
        "## Methods that work here",
        links("methods/", methods_of(task)),
        f"Declared in `{source(type(task))}`.",
    )


def data_card(task):
    fetch = f"`mubench fetch {task.name}`" if task.archives else "ships with mubench"
    return facts(
        {
            "tier": task.tier,
            "modality": task.modality,
            "source": task.source,
            "licence": task.licence,
            "citation": task.citation,
            "primary metric": f"`{task.metric}` {task.metric_options or ''}",
            "further measures": ", ".join(task.also),
            "random guess": "measured once, on the data" if task.random_guess is None else f"{task.random_guess:.3g}",
            "classes": f"{task.num_labels}: {', '.join(task.labels)}" if task.labels else "",
            "transfer set": task.transfer,
            "stated shortcut": task.shortcut,
            "training rows": f"SHA-256 `{task.checksum}`" if task.checksum else "",
            "to get the data": getattr(task, "remedy", "") or fetch,
        }
    )


def models(task):
    """The models and, where they ship, the scores of their originals, from their cards."""
    rows, shipped = [], []
    for name, model in task.models.items():
        path = task.originals_dir(name) / originals.CARD
        card = json.loads(path.read_text()) if path.is_file() else None
        train = f"`mubench original {task.name} --model {name} --train`"
        rows.append(
            {
                "model": f"`{name}`",
                "class": f"`{model.architecture}`",
                "parameters": f"{card['parameters']:,}" if card else "",
                "starts from": f"`{model.pretrained}`" if model.pretrained else "scratch",
                "original": "ships with mubench" if card else f"`{model.original}`" if model.original else train,
            }
        )
        if card:
            scores = {kind: f"{100 * score:.1f}" for kind, score in card["scores"].items()}
            shipped.append({"model": f"`{name}`", **scores})
    return join(
        table(rows),
        "Scores of the originals that ship, in per cent, from their cards:" if shipped else "",
        table(shipped),
    )


def recipes(task):
    """What each model's recipe sets otherwise than `Recipe` does."""
    recipe_of = {name: asdict(task.model_recipe(name)) for name in task.models}
    defaults = {field.name: field.default for field in fields(Recipe)}
    keys = [key for key in defaults if any(recipe[key] != defaults[key] for recipe in recipe_of.values())]
    return table(
        [{"model": f"`{name}`", **{key: code(recipe[key]) for key in keys}} for name, recipe in recipe_of.items()]
    )


def sizes(task):
    """Rows of each set, and how many are forgotten at some ratios."""
    rows = {
        "train (D)": task.rows["train"],
        "validation": task.rows.get("validation"),
        "test (D_t)": task.rows["test"],
        "transfer": task.rows.get("transfer"),
    }
    if "validation" not in task.rows:
        rows["validation"], rows["test (D_t)"] = map(len, task.test_rows(task.rows["test"]))
    scored = ", ".join(f"{n:,} rows of {name}" for name, n in task.measured.items())
    by_row = type(task).units is Task.units
    forgotten = _forgotten(task, by_row)
    return join(
        table([{"set": name, "rows": f"{n:,}"} for name, n in rows.items() if n]),
        f"Scored are at most {scored}, the first by the [hash ranking](../concepts.md#splits)." if scored else "",
        "" if by_row else f"The unit of deletion: {prose(type(task).units)}",
        f"With `--unit` it may also be: {', '.join(task.unit_kinds[1:])}." if task.unit_kinds[1:] else "",
        table(forgotten),
        "" if forgotten else f"`mubench split {task.name} --ratio 5` counts the rows, once the data are here.",
    )


def _forgotten(task, by_row):
    """Rows of D_f and D_r at each ratio; none where the data of a paper task are needed to count them."""
    if by_row:
        total = task.rows["train"]
        counts = [(ratio, n := splits.forgotten(ratio, total), total - n) for ratio in RATIOS]
    else:
        made = [task.split(ratio) for ratio in RATIOS if task.tier == "mini"]
        counts = [(split.name, len(split.forget), len(split.retain)) for split in made]
    return [{"ratio": f"{ratio} %", "D_f": f"{forget:,}", "D_r": f"{retain:,}"} for ratio, forget, retain in counts]
