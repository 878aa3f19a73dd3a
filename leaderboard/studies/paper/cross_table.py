"""Tables of tasks × methods: what Tables 4 to 6 and Figure 2 are made of."""

import pandas as pd

from mubench.leaderboard.columns import HEADERS
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.studies.figures import spread
from mubench.leaderboard.studies.paper.published import TWINS
from mubench.leaderboard.studies.runs import METHODS, over_seeds, plain
from mubench.spec import command

COLUMNS = (*REFERENCES, *METHODS)


def cross_table(runs, values, scale=100):
    """Means and intervals over seeds of plain runs at 5 %, of the references and the paper's methods.

    values: columns of runs.
    scale: what the cells are multiplied by.

    Returns (tidy, cells): a frame with a row per task, model, method and value; and texts, a row per task, model and
    value, a column per method.
    """
    runs, keys = plain(runs), ["task", "model", "method"]
    runs = runs[runs["method"].isin(COLUMNS)]
    if runs.empty:
        return pd.DataFrame(), pd.DataFrame()
    groups, means = over_seeds(runs, keys, values)
    parts = []
    for name in values:
        mean, half_width, n = means[name]
        parts.append(groups.assign(value=name, mean=mean, half_width=half_width, n=n))
    tidy = pd.concat(parts, ignore_index=True)
    tidy = tidy[tidy["mean"].notna()]
    columns = [*keys, "value", "mean", "half_width"]
    texts = {
        tuple(key): spread(mean, half_width, scale=scale)
        for *key, mean, half_width in zip(*(tidy[name] for name in columns), strict=True)
    }
    rows = [
        {"task": task, "model": model}
        | ({"": HEADERS[name]} if len(values) > 1 else {})
        | {method: texts.get((task, model, method, name), "–") for method in COLUMNS}
        for task, model in dict.fromkeys(zip(tidy["task"], tidy["model"], strict=True))
        for name in values
    ]
    return tidy, pd.DataFrame(rows)


def with_mean_row(tidy, cells, value, scale=100):
    """The cells with a last row of means of ``value`` over the tasks that have all methods of the paper."""
    if tidy.empty:
        return cells
    wide = tidy[tidy["value"] == value].pivot_table(index=["task", "model"], columns="method", values="mean")
    wide = wide.reindex(columns=[*COLUMNS]).dropna(subset=[*METHODS])
    means = {name: spread(wide[name].mean(skipna=False), scale=scale) for name in wide}
    row = {"task": f"mean of {len(wide)}", "model": "", **means}
    return pd.concat([cells, pd.DataFrame([row])], ignore_index=True).fillna("–")


def absent(tidy):
    """Sentences on tasks and methods without a run."""
    methods_of = tidy.groupby(["task", "model"], sort=False)["method"].agg(set).items() if len(tidy) else []
    missing = []
    for (task, model), methods in methods_of:
        if lacking := [name for name in COLUMNS if name not in methods]:
            missing.append(f"{task} / {model}: no run of {', '.join(lacking)}")
    tasks = set(tidy["task"]) if len(tidy) else set()
    if without_run := [name for name in [*TWINS, *TWINS.values()] if name not in tasks]:
        line = command({"task": ",".join(without_run), "method": ",".join(COLUMNS), "seed": [0, 1, 2]})
        missing.append(f"no run of the default settings at 5 % on {', '.join(without_run)}: `{line}` makes them")
    return missing
