"""The page of a run, next to those of the original and of the retrained model."""

import json
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.leaderboard.columns import COSTS, HEADERS, RUN_COLUMNS, SCALES, header
from mubench.leaderboard.frame import relate
from mubench.leaderboard.report import examples, figures
from mubench.leaderboard.report.embedding import pictures
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.site import HERE, templates
from mubench.leaderboard.stored import StoredRun
from mubench.leaderboard.trust.levels import level_of
from mubench.leaderboard.trust.reading import read_run
from mubench.measure.metrics import METRICS
from mubench.records.store import Store
from mubench.spec import command, retrain_of

ABOUT = {name: metric.description for name, metric in METRICS.items()} | {name: RUN_COLUMNS[name] for name in COSTS}


def report(run: str | Path, out: str | Path | None = None, references: Sequence[str | Path] | None = None) -> Path:
    """Write one run as a self-contained page.

    run: a result's folder.
    out: the file; None: `report.html` in that folder.
    references: folders of results in which the original and the retrained model are looked for; None: the store that
        the run lies in.

    Returns the path of the page. Raises `MubenchError` where the run holds no predictions or they contradict it.
    """
    folder = Path(run)
    shown = StoredRun.read(folder)
    shown.checked = read_run(folder)
    if shown.checked.frame is None:
        raise MubenchError(f"{folder} holds no predictions: there is nothing to report but its numbers")
    roots = [folder.parents[4]] if references is None else [Path(root) for root in references]
    page = templates().get_template("report.html").render(**_contents(shown, _references(shown, roots), folder))
    target = Path(out) if out else folder / "report.html"
    with whole(target) as path:
        path.write_text(page, encoding="utf-8", newline="\n")
    return target


def _contents(run, references, folder):
    """What the template is given.

    references: name → run.
    """
    models = {name: references.get(name) for name in ("original", run.result.method["name"], "retrain")}
    models |= {run.result.method["name"]: run}
    models = {name: model for name, model in models.items() if model is not None}
    relate([*models.values()])
    values = _values(models, references)
    sections, why = examples.forget_examples(run, references.get("original"))
    further = {f"{name}_score": f"Score on the set {name}" for name in run.result.task.get("scored_sets", ())}
    about = ABOUT | further
    comparable = REFERENCES if "retain" in {*run.checked.frame["set"]} else REFERENCES[:1]
    return {
        "run": run,
        "result": run.result,
        "level": level_of(folder),
        "models": list(models),
        "values": values,
        "shown": [name for name in about if any(v.get(name) is not None for v in values.values())],
        "headers": HEADERS | {name: header(name) for name in further},
        "scales": SCALES,
        "costs": COSTS,
        "about": about,
        "style": Markup((HERE / "static/site.css").read_text(encoding="utf-8")),
        "histograms": figures.losses(models),
        "roc": figures.roc(models),
        "training": figures.training(run.result),
        "examples": sections,
        "why": why,
        "pictures": pictures(folder),
        "missing": {name: command(retrain_of(run.spec), method=name) for name in comparable if name not in models},
        "spec": json.loads(run.spec.model_dump_json(exclude_defaults=True)),
    }


def _values(models, references):
    """Name of a model → its scores next to the references', and its costs."""
    beside = {role: [other.checked] for role, other in references.items()}
    return {
        name: model.checked.score(beside) | {cost: (model.facts | model.values).get(cost) for cost in COSTS}
        for name, model in models.items()
    }


def _references(run, roots):
    """Name → the run of the original that was unlearned, and of the model retrained with the same seed."""
    found = {}
    for name in REFERENCES:
        if name == run.result.method["name"]:
            continue
        stores = [root / run.result.task["name"] / run.spec.model / name for root in roots]
        others = [StoredRun.read(path) for store in stores if store.is_dir() for path in Store(store).results()]
        others = [other for other in others if other.group == run.group and (name == "original" or other.anchor)]
        start = lambda other: other.result.checkpoint["sha256"]
        key = start if name == "original" else lambda other: other.spec.seed
        same = next((other for other in others if key(other) == key(run)), None)
        if same is not None:
            found[name] = same
            same.checked = read_run(same.folder)
    return found
