"""One run as a page: a single HTML file that needs nothing else, made from stored predictions and the task's data;
loads no model.
"""

import base64
import json
from pathlib import Path

import numpy as np
from markupsafe import Markup

from mubench import registry
from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.leaderboard import charts
from mubench.leaderboard.columns import COSTS, HEADERS, RATES, RUN_COLUMNS, SCALES
from mubench.leaderboard.frame import StoredRun, relate
from mubench.leaderboard.trust.reading import read_run
from mubench.leaderboard.recompute import roc
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.site import HERE, environment
from mubench.measure.metrics import METRICS
from mubench.records.store import Store
from mubench.spec import command, retrain_of

EXAMPLES = 6
SETS = ("forget", "test", "retain")
LARGEST = 5_000_000  # bytes of a picture or sound that is put into the page


def report(run, out=None, references=None):
    """Write one run as a self-contained page; returns its path.

    run: a result's folder; out: the file (default: report.html in that folder); references: folders of results in which
    the original and the retrained model are looked for (default: the store that the run lies in).
    """
    folder = Path(run)
    mine = StoredRun.read(folder)
    mine.checked = read_run(folder)
    if mine.checked.frame is None:
        raise MubenchError(f"{folder} holds no predictions: there is nothing to report but its numbers")
    beside = _references(mine, [folder.parents[4]] if references is None else [Path(r) for r in references])
    models = {"original": beside.get("original"), mine.result.method["name"]: mine, "retrain": beside.get("retrain")}
    models = {name: found for name, found in models.items() if found is not None}
    relate([*models.values()])
    retrain = beside.get("retrain")
    values = {
        name: m.checked.score(None if retrain is None else retrain.checked) | _costs(m) for name, m in models.items()
    }
    shown = [name for name in (*METRICS, *COSTS) if any(v.get(name) is not None for v in values.values())]
    examples, why = _examples(mine, beside.get("original"))
    page = (
        environment()
        .get_template("report.html")
        .render(
            run=mine,
            result=mine.result,
            level=level_of(folder),
            models=list(models),
            values=values,
            shown=shown,
            headers=HEADERS,
            scales=SCALES,
            costs=COSTS,
            about={**{n: m.description for n, m in METRICS.items()}, **{n: RUN_COLUMNS[n] for n in COSTS}},
            style=Markup((HERE / "static/site.css").read_text()),
            histograms=_histograms(models),
            roc=_roc(models),
            training=_training(mine.result),
            examples=examples,
            why=why,
            pictures=_pictures(folder),
            missing={name: command(retrain_of(mine.spec), method=name) for name in REFERENCES if name not in models},
            spec=json.loads(mine.spec.model_dump_json(exclude_defaults=True)),
        )
    )
    out = Path(out) if out else folder / "report.html"
    with whole(out) as path:
        path.write_text(page, encoding="utf-8", newline="\n")
    return out


def _references(mine, roots):
    """Name → the run of the original that was unlearned, and of the model retrained with the same seed."""
    found = {}
    for name in REFERENCES:
        if name == mine.result.method["name"]:
            continue
        pattern = "/".join([mine.result.task["name"], mine.spec.model, name])
        there = [
            StoredRun.read(folder)
            for root in roots
            if (root / pattern).is_dir()
            for folder in Store(root / pattern).results()
        ]
        there = [run for run in there if run.group == mine.group and (name == "original" or run.anchor)]
        key = (lambda run: run.result.checkpoint["sha256"]) if name == "original" else lambda run: run.spec.seed
        same = [run for run in there if key(run) == key(mine)]
        if same:
            found[name] = same[0]
            same[0].checked = read_run(same[0].folder)
    return found


def _costs(run):
    return {name: run.values.get(name) for name in COSTS}


def _losses(run, name):
    frame = run.checked.frame
    if "loss" not in frame:
        return np.array([])
    return frame.loc[frame["set"] == name].sort_values("index")["loss"].to_numpy("float64")


def _kind(name):
    return name if name in REFERENCES else "method"


def _histograms(models):
    return [
        {
            "set": name,
            "svg": charts.histogram(
                [
                    {"name": model, "kind": _kind(model), "values": _losses(run, name).tolist()}
                    for model, run in models.items()
                ],
                f"loss on the {name} set",
                f"Histogram of the losses on the {name} set of {', '.join(models)}",
            ),
        }
        for name in SETS
    ]


def _roc(models):
    lines = [
        {"name": model, "kind": _kind(model), "points": list(zip((100 * RATES).tolist(), curve))}
        for model, run in models.items()
        if (curve := roc(run.checked.frame))
    ]
    return charts.curves(
        lines,
        "false positives (test examples called members), %",
        "true positives (forget examples found), %",
        diagonal=True,
        square=True,
        describe="ROC curves of the membership attack by loss",
    )


def _training(result):
    """Captions and charts of how the run went: the objective and the validation score per epoch, and the scores along
    it where they were measured."""
    charted = []
    for caption, key, y in (
        ("Mean of the objective per epoch.", "losses", "objective"),
        ("Score on the validation set after each epoch.", "validation", "score"),
    ):
        points = [(epoch + 1, value) for epoch, value in enumerate(result.costs.get(key) or []) if value is not None]
        points = points if len(points) > 1 else []  # one epoch is no curve
        least = 0 if points and min(value for _, value in points) >= 0 else None
        charted.append(
            (
                caption,
                charts.curves(
                    [{"name": "", "kind": "method", "points": points}],
                    "epoch",
                    y,
                    percent=False,
                    least=least,
                    describe=caption,
                ),
            )
        )
    names = [
        name for name in ("test_score", "forget_score", "retain_score") if any(name in step for step in result.curve)
    ]
    lines = [
        {
            "name": name.removesuffix("_score"),
            "kind": "method",
            "points": [(step["step"], step[name]) for step in result.curve if step.get(name) is not None],
        }
        for name in names
    ]
    caption = "Scores while unlearning, measured off the clock."
    return [
        (text, svg)
        for text, svg in [*charted, (caption, charts.curves(lines, "step", "score, %", describe=caption))]
        if svg
    ]


def _examples(mine, original):
    """The forget examples whose loss rose most and least, with what the task shows of them; or why there are none."""
    if original is None:
        return [], "the store holds no original of this task, model and ratio to compare with"
    columns = ["index", "loss", "target", "prediction"]
    tables = [
        run.checked.frame.query("set == 'forget'").reindex(columns=columns).set_index("index")
        for run in (original, mine)
    ]
    both = tables[0].join(tables[1], lsuffix="_before", rsuffix="_after", how="inner")
    both = (
        both.assign(rise=both["loss_after"] - both["loss_before"])
        .dropna(subset="rise")
        .sort_values("rise", ascending=False, kind="stable")
    )
    name, rows, show, why = mine.result.task["name"], None, lambda row: {}, ""
    if name in registry.tasks.names():
        task = registry.load_task(name)
        try:
            rows, show = task.data["train"], task.show
            if task._checksums["train"] != mine.result.split["data"]:
                rows, why = None, "the data here are not those of the run: examples are shown without their contents"
        except MubenchError as error:
            why = f"examples are shown without their contents: {error}"
    labels, sections = mine.result.task.get("labels") or [], []
    said = lambda value: (
        ""
        if value is None or value != value
        else str(labels[int(value)])
        if labels and not isinstance(value, str)
        else str(value)
    )
    for title, part in (("Forgotten most", both.head(EXAMPLES)), ("Forgotten least", both.tail(EXAMPLES).iloc[::-1])):
        sections.append(
            {
                "title": title,
                "examples": [
                    {
                        "index": int(index),
                        "before": row["loss_before"],
                        "after": row["loss_after"],
                        "target": said(row["target_after"]),
                        "was": said(row["prediction_before"]),
                        "now": said(row["prediction_after"]),
                        "parts": [] if rows is None else _parts(show(rows, int(index))),
                    }
                    for index, row in part.iterrows()
                ],
            }
        )
    for section in sections:
        section["roomy"] = not any(
            part["kind"] != "text" and not part["strip"] for e in section["examples"] for part in e["parts"]
        )
    for example in (e for section in sections for e in section["examples"]):
        if any(example["target"] == part["content"] for part in example["parts"]):
            example["target"] = ""  # the task's own text says it already
    return (sections, why) if len(both) else ([], "the predictions hold no losses")


def _parts(shown):
    return [
        {
            "name": name,
            "kind": kind,
            "strip": kind == "image" and _strip(value),
            "content": value if kind == "text" else _embedded(value),
        }
        for name, (kind, value) in shown.items()
        if kind == "text" or len(value) <= LARGEST
    ]


def _strip(data):
    """Whether a PNG is a row of pictures, such as the frames of a movement: those need the room of a text."""
    return int.from_bytes(data[16:20], "big") > 3 * int.from_bytes(data[20:24], "big")


def _embedded(data):
    kinds = {b"\x89PNG": "image/png", b"RIFF": "audio/wav", b"fLaC": "audio/flac", b"OggS": "audio/ogg"}
    return f"data:{kinds.get(data[:4], 'audio/mpeg')};base64,{base64.b64encode(data).decode()}"


def _pictures(folder):
    """What lies beside the result: pictures before and after."""
    files = [
        path
        for path in sorted(folder.glob("*.png"))
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST
    ]
    return [
        {"name": path.stem, "content": _embedded(path.read_bytes())}
        for path in files
        if path.read_bytes()[:4] == b"\x89PNG"
    ]
