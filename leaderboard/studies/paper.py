"""The MU-Bench paper (Cheng & Amiri 2024, arXiv 2406.14796) again, from records: its Tables 1 to 6, its Figures 2, 3
and 5 to 15, and its claims.

Our numbers stand next to the published ones where those are known here (`PUBLISHED`); what the records do not hold is
said to be missing. Each task of the paper is shown with its twin of the mini tier. Imports no torch.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from mubench import registry
from mubench.cache import whole, writing
from mubench.errors import MubenchError
from mubench.leaderboard import records, statistics
from mubench.leaderboard.studies import ablations, claims
from mubench.leaderboard.studies.ablations import METHODS
from mubench.leaderboard.board import HEADERS
from mubench.leaderboard.studies.figures import Exhibit, Line, Panel, spread
from mubench.leaderboard.rows import REFERENCES
from mubench.measure.metrics import VERSION
from mubench.spec import command

SOURCE = "Cheng & Amiri 2024, arXiv 2406.14796"
CODE = "the authors' code, original_performance.py of CLU-UML/MU-Bench, 48f5c7b"
TWINS = {
    "cifar100": "fashion",
    "imdb": "movie_snippets",
    "ddi": "drug_interactions",
    "nlvr2": "fashion_pairs",
    "speech_commands": "spoken_words",
    "ucf101": "mocap_actions",
    "samsum": "messenger",
    "bio_fact": "people",
    "tiny_imagenet": "digit_pictures",
}  # Figs. 7 to 15, in this order
FIVE = (8.6, 10.7, 14.7, 10.8, 11.5)
PUBLISHED = {  # table → what the paper prints, as far as it is known here
    "rows": {
        "cifar100": "50 K",
        "imdb": "25 K",
        "ddi": "25 K",
        "nlvr2": "62 K",
        "speech_commands": "85 K",
        "ucf101": "9.3 K",
        "samsum": "14 K",
        "bio_fact": "183 people",
        "tiny_imagenet": "20 K",
    },
    "original": {
        ("cifar100", "resnet_50"): 0.8328,
        ("cifar100", "swin_tiny"): 0.8714,
        ("cifar100", "swin_base"): 0.9301,
        ("cifar100", "vit_base"): 0.922,
        ("cifar100", "vit_large"): 0.9356,
        ("imdb", "bert_base"): 0.88608,
        ("imdb", "bert_large"): 0.89004,
        ("imdb", "roberta_base"): 0.90164,
        ("imdb", "roberta_large"): 0.9126,
        ("imdb", "electra_base"): 0.90932,
        ("ddi", "biobert"): 0.94577,
        ("ddi", "pubmedbert_abstract"): 0.95224,
        ("ddi", "pubmedbert_fulltext"): 0.95066,
        ("nlvr2", "vilt"): 0.76518,
    },
    "transfer": {
        ("imdb", "bert_base"): 0.80904,
        ("imdb", "bert_large"): 0.82114,
        ("imdb", "roberta_base"): 0.83127,
        ("imdb", "roberta_large"): 0.84374,
        ("imdb", "electra_base"): 0.85528,
        ("nlvr2", "vilt"): 0.76557,
    },
    "taxonomy": {
        "retrain": ("-", "-", "Loss", "dense internal"),
        "neggrad": ("Loss", "Grad", "-", "dense internal"),
        "rand_label": ("Loss", "Data", "Loss", "dense internal"),
        "bad_t": ("Logit", "Model", "Logit", "dense internal"),
        "scrub": ("Loss", "Grad", "Loss + Rep", "dense internal"),
        "salun": ("Loss", "Data", "Loss", "sparse internal"),
        "l1_sparse": ("-", "-", "Loss + L1", "sparse internal"),
        "multi_delete": ("Rep", "Data", "Rep", "dense internal"),
        "eul": ("Logit + MLM Loss", "Grad", "Logit + Loss", "dense external"),
        "ul": ("Loss", "Grad", "-", "dense internal"),
        "gnn_delete": ("Rep", "Data", "Rep", "dense external"),
        "sga_tau": ("Loss", "Grad", "-", "sparse internal"),
    },
    "curriculum": {"speech_commands": (42.8, 17.4), "mean": (46.9, 44.1)},
}  # Table 3: score on D_f without, with
SAME = (
    f"published: {', '.join(map(str, FIVE))}. Tables 5 and 6 of the paper carry these same five numbers, as success of"
    " the attack and as hours, so one of the two is not what its caption says; which number is which method's is not"
    " known here, so they stand in no column"
)
UNSEEN = (
    "how the paper lays this out, and its numbers, are not known here: this shows what its text says the exhibit is"
    " about"
)


def paper(results, out="paper"):
    """Write every table and figure of the paper, and what the records say of its claims, to a folder; returns the path
    of the page that shows them. results: folders of results or submissions, or the ``runs.parquet`` that `mubench board
    --out` made of them, or such a frame (`records.COLUMNS`)."""
    runs, notes = _read(results)
    if runs.empty:
        raise MubenchError(f"nothing to make the paper from: {notes[0] if notes else 'no run'}")
    if (runs["submission"] == records.OWN).any():  # of the project's own runs, where they are among them
        runs = runs[runs["submission"] == records.OWN]
    made = exhibits(runs) | {"Claims": claims.exhibits(runs)}
    with writing(out):
        for exhibit in (part for parts in made.values() for part in parts):
            exhibit.write(out)
    return _page(made, runs, notes, Path(out) / "index.html")


def _read(results):
    if isinstance(results, pd.DataFrame):
        return results, []
    paths = [Path(path) for path in ([results] if isinstance(results, (str, Path)) else results)]
    if [path.suffix for path in paths] != [".parquet"]:
        return records.read_runs(paths)
    try:
        runs = pd.read_parquet(paths[0])
    except (OSError, ValueError) as error:
        raise MubenchError(f"{paths[0]} cannot be read: {error}") from error
    if missing := [name for name in records.COLUMNS if name not in runs]:
        raise MubenchError(
            f"{paths[0]} has no column {missing[0]!r}: make it again with `mubench board RESULTS --out FOLDER`"
        )
    return runs, []


def exhibits(runs):
    """Number in the paper → its `Exhibit`s: the first is the table or figure, others follow from it."""
    runs = records.of_one_code(runs)
    made = {
        f"Table {number}": [table(runs)]
        for number, table in enumerate((_tasks, _taxonomy, _curriculum, _scores, _attack, _hours), 1)
    }
    made["Figure 2"] = [_overview(runs)]
    twins = lambda kind, **more: ablations.analyse(kind, runs, only=METHODS, **more)
    made |= {
        "Figure 3": twins("scale", notes=[UNSEEN]),
        "Figure 5": twins("bias"),
        "Figure 6": twins("lora", notes=["the paper's claim: below a share of 50 % nothing is forgotten"]),
    }
    for number, (task, twin) in enumerate(TWINS.items(), 7):
        here = runs[runs["task"].isin([task, twin])]
        parts = ablations.analyse("ratio", here, only=METHODS)
        absent = [f"{name}: no run" for name in (task, twin) if name not in set(here["task"])]
        parts[0].missing = [*absent, *(s for s in parts[0].missing if here.size)]
        made[f"Figure {number}"] = parts
    for name, parts in made.items():
        stem = name.lower().replace(" ", "_")
        for number, part in enumerate(parts):
            part.name = stem + (f"_{part.name.split('_', 1)[1]}" if number else "")
            part.title = f"{name}. {part.title}" + (
                f": {', its twin '.join(list(TWINS.items())[int(name.split()[1]) - 7])}"
                if "ratio" in part.title
                else ""
            )
    return made


def _default(runs, ratio="5"):
    """Runs of methods as they are, at one ratio."""
    return runs[(runs["options"] == "{}") & (runs["params"] == "{}") & (runs["trials"] == 0) & (runs["ratio"] == ratio)]


# -- tables
# ----------------------------------------------------------------------------------------------------------------


def _tasks(runs):
    """Table 1: tasks, models, and what their originals reach."""
    known = runs.drop_duplicates(["task", "model", "original"]).groupby(["task", "model"])["original_score"].mean()
    moved = runs[runs["method"] == "original"].groupby(["task", "model"])["transfer_score"].mean()
    names = [name for pair in TWINS.items() for name in pair]
    rows = []
    for task in [*(registry.load_task(name) for name in names if name in registry.tasks.names())]:
        for model, facts in task.models.items():
            rows.append(
                {
                    "task": task.name,
                    "tier": task.tier,
                    "modality": task.modality,
                    "metric": task.metric,
                    "model": model,
                    "architecture": facts.architecture,
                    "original_score": float(known.get((task.name, model), math.nan)),
                    "published_score": PUBLISHED["original"].get((task.name, model), math.nan),
                    "original_transfer": float(moved.get((task.name, model), math.nan)),
                    "published_transfer": PUBLISHED["transfer"].get((task.name, model), math.nan),
                    "published_rows": PUBLISHED["rows"].get(task.name),
                }
            )
    table = pd.DataFrame(rows)
    cells = (
        table.assign(
            **{
                name: [spread(v) for v in table[name]]
                for name in ("original_score", "published_score", "original_transfer", "published_transfer")
            }
        )
        .fillna("–")
        .rename(
            columns={
                "original_score": "original, %",
                "published_score": "published, %",
                "original_transfer": "on transfer, %",
                "published_transfer": "on transfer, published, %",
                "published_rows": "rows, published",
            }
        )
    )
    cells = cells[[*(name for name in cells if name != "architecture"), "architecture"]]
    paper_tier = sorted({row["task"] for row in rows if row["tier"] == "paper"} - set(runs["task"]))
    missing = [f"{', '.join(paper_tier)}: no run, so no score of an original"] if paper_tier else []
    return Exhibit(
        "table_1",
        "Tasks, models, and the originals' scores on the test set and on transfer",
        table=table,
        cells=cells,
        missing=missing,
        notes=[
            f"published scores: {CODE} (accuracy on D_t, and on Rotten Tomatoes or NLVR2's second test set; originals"
            f" trained on 85 % of D, except NLVR2's); published rows: {SOURCE}, Table 1, and the README of"
            " CLU-UML/MU-Bench; the data sets have 86,373 (NLVR2), 51,094 (Speech Commands) and 100,000 (Tiny"
            " ImageNet) training rows"
        ],
    )


def _taxonomy(runs):
    """Table 2: computed from the methods' terms."""
    from mubench.listing import taxonomy

    rows = []
    for row in taxonomy():
        ours = tuple(row[name] for name in ("forget", "corruption", "retain", "parameters"))
        theirs = PUBLISHED["taxonomy"].get(row["method"])
        rows.append(
            {
                "method": row["method"],
                **dict(zip(("D_f", "corruption", "D_r", "parameters"), ours)),
                "published": (
                    "not in the paper" if theirs is None else "the same" if theirs == ours else " · ".join(theirs)
                ),
            }
        )
    rows.sort(key=lambda row: row["published"] == "not in the paper")
    return Exhibit(
        "table_2",
        "Methods by what they measure, corrupt and change",
        table=pd.DataFrame(rows),
        notes=[f"published: {SOURCE}, Table 2; ours is computed from the methods' terms"],
    )


def _curriculum(runs):
    """Table 3: the score on D_f without and with SuperLoss, a mean over the methods that have both."""
    rows, both = [], _both(runs)
    for task in [name for pair in TWINS.items() for name in pair]:
        here = both[both["task"] == task]
        known = PUBLISHED["curriculum"].get(task, (math.nan, math.nan))
        if len(here) or known[0] == known[0]:
            mean = (
                statistics.describe(here[["off", "on", "change"]].to_numpy("float64").T)
                if len(here)
                else np.full((5, 3), math.nan)
            )
            rows.append(
                {
                    "task": task,
                    "off": mean[0][0],
                    "on": mean[0][1],
                    "change": mean[0][2],
                    "half_width": mean[1][2],
                    "methods": here["method"].nunique(),
                    "published_off": known[0] / 100,
                    "published_on": known[1] / 100,
                }
            )
    means = [here[["off", "on"]].mean() for _, here in both.groupby("task")]
    every = pd.DataFrame(means).mean() if means else {"off": math.nan, "on": math.nan}
    known = PUBLISHED["curriculum"]["mean"]
    rows.append(
        {
            "task": "mean over tasks",
            "off": every["off"],
            "on": every["on"],
            "change": every["on"] - every["off"],
            "half_width": math.nan,
            "methods": None,
            "published_off": known[0] / 100,
            "published_on": known[1] / 100,
        }
    )
    table = pd.DataFrame(rows)
    cells = pd.DataFrame(
        {
            "task": table["task"],
            **{head: [spread(v) for v in table[name]] for head, name in (("off", "off"), ("on", "on"))},
            "change": [spread(m, h) for m, h in zip(table["change"], table["half_width"])],
            "off, published": [spread(v) for v in table["published_off"]],
            "on, published": [spread(v) for v in table["published_on"]],
            "methods": [f"{m:.0f}" if m == m and m else "–" for m in table["methods"].astype("float64")],
        }
    )
    absent = sorted({*(name for pair in TWINS.items() for name in pair)} - set(both["task"]))
    line = ablations.command("curriculum", absent, at=[1], seed=range(3))
    lacking = f"no method with and without the curriculum on {', '.join(absent)}: `{line}` runs both"
    return Exhibit(
        "table_3",
        "Score on D_f (%) without and with a curriculum (SuperLoss, λ = 1)",
        table=table,
        cells=cells,
        notes=[
            f"published: {SOURCE}, Table 3 (only Speech Commands and the averages are known here); means over methods,"
            " ± the 95 % interval of the change over methods"
        ],
        missing=[lacking] if absent else [],
    )


def _both(runs):
    """Means over seeds of the forget score without and with the curriculum, where the records hold both."""
    default = (
        (runs["params"] == "{}") & (runs["trials"] == 0) & (runs["ratio"] == "5") & ~runs["method"].isin(REFERENCES)
    )
    keys = ["task", "model", "method"]
    off, on = (
        runs[default & (runs["options"] == said)].groupby(keys)["forget_score"].mean()
        for said in ("{}", '{"curriculum": "superloss"}')
    )
    both = (
        pd.DataFrame({"off": off, "on": on})
        .dropna()
        .reset_index()
        .groupby(["task", "method"])[["off", "on"]]
        .mean()
        .reset_index()
    )
    return both.assign(change=both["on"] - both["off"])


def _grid(runs, values, scale=100):
    """Tasks × methods (references first) of the mean and interval over seeds of values: a tidy frame, and its cells,
    one row per task.
    """
    here = _default(runs)
    here = here[here["method"].isin([*REFERENCES, *METHODS])]
    if here.empty:
        return pd.DataFrame(), pd.DataFrame()
    table, keys = ablations.summary(here, ["task", "model", "method"], values), ["task", "model", "method"]
    tidy = pd.concat(
        [
            table["keys"].assign(value=name, mean=table[name][0], half_width=table[name][1], n=table[name][2])
            for name in values
        ],
        ignore_index=True,
    )
    tidy = tidy[tidy["mean"].notna()]
    cells = {
        (*key,): spread(mean, half, scale=scale)
        for *key, mean, half in zip(*(tidy[name] for name in [*keys, "value", "mean", "half_width"]))
    }
    rows = [
        {
            "task": task,
            "model": model,
            **({"": HEADERS[name]} if len(values) > 1 else {}),
            **{method: cells.get((task, model, method, name), "–") for method in (*REFERENCES, *METHODS)},
        }
        for task, model in dict.fromkeys(zip(tidy["task"], tidy["model"]))
        for name in values
    ]
    return tidy, pd.DataFrame(rows)


def _absent(tidy, runs):
    """Sentences on tasks and methods without a run."""
    held = set(tidy["task"]) if len(tidy) else set()
    gone = [name for name in [*TWINS, *TWINS.values()] if name not in held]
    lacking = [
        f"{task} / {model}: no run of {', '.join(m for m in (*REFERENCES, *METHODS) if m not in set(part['method']))}"
        for (task, model), part in (tidy.groupby(["task", "model"], sort=False) if len(tidy) else ())
        if {*REFERENCES, *METHODS} - set(part["method"])
    ]
    line = command({"task": ",".join(gone), "method": ",".join((*REFERENCES, *METHODS)), "seed": [0, 1, 2]})
    said = f"no run of the default settings at 5 % on {', '.join(gone)}: `{line}` makes them"
    return [*lacking, *([said] if gone else [])]


def _scores(runs):
    """Table 4: all methods on all tasks."""
    tidy, cells = _grid(runs, ["test_score", "forget_score", "retain_score"])
    return Exhibit(
        "table_4",
        "Scores of the paper's methods on all tasks at 5 % (%)",
        table=tidy,
        cells=cells,
        missing=_absent(tidy, runs),
        notes=[
            UNSEEN,
            (
                f"published ({SOURCE}): a table gives NegGrad 3.7 for text-to-image, lower being better, while the text"
                " calls SalUn the best there by 5.1 points"
            ),
        ],
    )


def _attack(runs):
    """Table 5: membership inference."""
    tidy, cells = _grid(runs, ["mia_loss_auc"])
    tidy, cells = _averaged(tidy, cells, 100)
    return Exhibit(
        "table_5",
        "Success of membership inference (AUC of the attack by loss, %; 50 is ideal)",
        table=tidy,
        cells=cells,
        missing=_absent(tidy, runs),
        notes=[SAME],
    )


def _hours(runs):
    """Table 6: time."""
    tidy, cells = _averaged(*_grid(runs, ["seconds"], scale=1), 1, "seconds")
    tidy = tidy.assign(hours=tidy["mean"] / 3600) if len(tidy) else tidy
    return Exhibit(
        "table_6",
        "Unlearning time (seconds; the CSV has hours too)",
        table=tidy,
        cells=cells,
        missing=_absent(tidy, runs),
        notes=[
            SAME,
            (
                "ours: CPU seconds without a GPU, wall clock with one, evaluation not counted; on whatever machine the "
                "runs were made"
            ),
        ],
    )


def _averaged(tidy, cells, scale, value="mia_loss_auc"):
    """With a last row of means over the tasks that have all methods."""
    if tidy.empty:
        return tidy, cells
    wide = (
        tidy[tidy["value"] == value]
        .pivot_table(index=["task", "model"], columns="method", values="mean")
        .reindex(columns=[*REFERENCES, *METHODS])
        .dropna(subset=[*METHODS])
    )
    row = {
        "task": f"mean of {len(wide)}",
        "model": "",
        **{name: spread(wide[name].mean(skipna=False), scale=scale) for name in wide},
    }
    return tidy, pd.concat([cells, pd.DataFrame([row])], ignore_index=True).fillna("–")


# -- figures
# ---------------------------------------------------------------------------------------------------------------


def _overview(runs):
    """Figure 2: forgetting against keeping, a panel per task."""
    here = _default(runs)
    here = here[here["method"].isin([*METHODS, *REFERENCES])]
    tidy, panels = _grid(runs, ["test_score", "forget_score"])[0], []
    if len(tidy):
        wide = (
            tidy.pivot_table(index=["task", "model", "method"], columns="value", values="mean", sort=False)
            .dropna()
            .reset_index()
        )
        for (task, model), part in wide.groupby(["task", "model"], sort=False):
            colours = {**{m: number for number, m in enumerate(METHODS)}, **{name: name for name in REFERENCES}}
            dots = [
                Line(m, [100 * x], [100 * y], kind="named", colour=colours[m])
                for m, x, y in zip(part["method"], part["forget_score"], part["test_score"])
            ]
            panels.append(Panel(f"{task} / {model}", "forget, %", "", dots))
    return Exhibit(
        "figure_2",
        "Scores on D_t over those on D_f at 5 %, all tasks",
        ablations.wrapped(panels, "test, %"),
        tidy,
        _grid(runs, ["test_score", "forget_score"])[1],
        [UNSEEN],
        _absent(tidy, runs),
    )


# -- the page
# --------------------------------------------------------------------------------------------------------------


def _page(made, runs, notes, path):
    from mubench.leaderboard.site import HERE, environment

    text = (
        environment()
        .get_template("paper.html")
        .render(
            made=made,
            runs=len(runs),
            tasks=runs["task"].nunique(),
            source=SOURCE,
            notes=notes[:30],
            left=max(0, len(notes) - 30),
            formulas=VERSION,
            style=(HERE / "static" / "site.css").read_text(encoding="utf-8"),
            name_of=lambda file: Path(file).name,
        )
    )
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
