"""Ablations: one thing is varied, all else stays; what is varied and what is drawn of each kind stands in `KINDS`.

`plan` makes the runs, `analyse` turns the frame of runs (`records.COLUMNS`) into exhibits: a figure with its table, and
a table of what follows from it (a capacity, a law, a difference). Imports no torch; a figure without enough data says
what is missing.
"""

import json
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mubench.sweep import grid
from mubench.sweep.progress import reason
from mubench.errors import MubenchError, nearest
from mubench.leaderboard import statistics
from mubench.leaderboard.studies import bias
from mubench.leaderboard.board import HEADERS
from mubench.leaderboard.studies.figures import Exhibit, Line, Panel, spread, texts
from mubench.leaderboard.records import of_one_code, read_runs
from mubench.leaderboard.rows import REFERENCES
from mubench.spec import RunSpec

METHODS = ("neggrad", "rand_label", "bad_t", "scrub", "salun")  # those the MU-Bench paper compares
MARGIN = 0.02  # by how much the test score may fall below the original's, within the deletion capacity
LEAST = 5  # points a law is fitted to and tried on
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the work of retraining, where `budget` reads scores
GROUP = ["task", "model", "ratio", "method"]
SCORES = ("test_score", "forget_score", "retain_score")
READ = [
    *GROUP,
    "seed",
    "ratio_order",
    *SCORES,
    "transfer_score",
    "mia_loss_auc",
    "original_score",
    "parameters",
    "share",
    "curve",
    "flops",
    "relative_flops",
    "original",
    "folder",
]  # columns the analysis is made of
VARIED = ("lora", "lora_rank", "curriculum", "curriculum_lambda", "curriculum_tau")  # options that ablations are about


@dataclass(frozen=True)
class Kind:
    """name; about: what is asked; level: what is varied, in words; field: the option of a run that says it, levels: its
    values, None being the plain run; given: options that go with it; values: what is drawn, a panel each; x: the column
    it is drawn over, label: its axis;
    log: whether that is logarithmic; line: what has a line of its own; along: whether points lie along runs (their
    curves) instead of at their ends; references: runs needed beside; models: those run by default; findings: (runs,
    points, margin) → what follows; panels: how it is drawn, if not as lines."""

    name: str
    about: str
    values: tuple
    x: str
    label: str
    findings: Callable
    level: str = ""
    field: str = ""
    levels: tuple = (None,)
    plain: str = ""
    given: tuple = ()
    log: bool = False
    line: str = "method"
    along: bool = False
    references: tuple = REFERENCES
    models: tuple = ()
    panels: Callable = None

    def options(self, level):
        return {} if level is None or not self.field else {self.field: level, **dict(self.given)}

    def level_of(self, options):
        """The level of a run, from its options as recorded: None of the plain one, NaN of one that belongs to another
        ablation.
        """
        if {*options} - {self.field, *dict(self.given)}:
            return math.nan
        if not self.field or self.field == "ratio" or dict(self.given).items() - options.items():
            return math.nan if options else None
        return options.get(self.field, RunSpec.model_fields[self.field].default)

    def said(self, level):
        return self.plain if level is None else f"{level:g}"


# -- the runs
# --------------------------------------------------------------------------------------------------------------


def ablate(
    kind,
    tasks,
    methods=METHODS,
    *,
    models=None,
    ratios=None,
    seeds=None,
    at=None,
    out="results",
    figures=None,
    workers=1,
    eval_every=10,
    margin=MARGIN,
    limit=None,
    run=True,
    **options,
):
    """Vary one thing, run what ``out`` does not hold yet, and draw; returns the exhibits.

    kind: lora, curriculum, ratio, scale, budget or bias; tasks, methods: names (default: those the MU-Bench paper
    compares); at: levels instead of the kind's own; figures: a folder to write to; eval_every: steps between the points
    of curves, where the kind draws curves;
    margin: of the deletion capacity, a fraction; limit: trials on so many rows; run: whether to run what is
    missing, not only to draw; options: as in `mubench.run`.
    """
    kind = named(kind, at)
    references, specs, left_out = plan(kind, tasks, methods, models, ratios, seeds, limit=limit, **options)
    if run:
        grid.sweep(references, out, workers)
        _, _, failed = grid.sweep(specs, out, workers, **({"eval_every": eval_every} if kind.along else {}))
        if len(failed) == len(specs):
            raise MubenchError(
                f"no run of this ablation succeeded, the first, {failed[0].folder}, failed with:"
                f" {reason(failed[0], out)}"
            )
    runs, notes = read_runs(out, only=[*references, *specs], limit=limit)
    trial = [f"a trial on {limit} rows of each set: no result"] if limit else []
    exhibits = analyse(kind, runs, [*references, *specs], margin, [*trial, *left_out, *notes])
    if figures:
        for exhibit in exhibits:
            exhibit.write(figures)
    return exhibits


def plan(kind, tasks, methods=METHODS, models=None, ratios=("5",), seeds=(0,), at=None, **options):
    """The `RunSpec`s of the references and of the ablation, and a sentence for each pair that cannot work. at: levels
    instead of the kind's own (the plain run is always among them)."""
    kind = named(kind, at)
    levels = kind.levels
    models = list(models or kind.models) or None
    ratios = [f"{level:g}" for level in levels] if kind.field == "ratio" else ratios
    references, _ = grid.expand(tasks, kind.references, models, ratios, seeds, **options)
    plain, left_out = grid.expand(tasks, methods, models, ratios, seeds, **options)
    specs = {spec.id: spec for spec in plain if None in levels or kind.field == "ratio"}
    for level in levels if kind.field not in ("", "ratio") else ():
        try:
            more, lacking = grid.expand(tasks, methods, models, ratios, seeds, **options, **kind.options(level))
        except MubenchError as error:  # no method can: the plain ones could, so it is the level
            more, lacking = [], [str(error)]
        specs |= {spec.id: spec for spec in more}
        left_out = [*left_out, *lacking]
    return references, list(specs.values()), list(dict.fromkeys(left_out))


def named(kind, at=None):
    """The `Kind` of a name, with other levels than its own where ``at`` says some."""
    if not isinstance(kind, Kind):
        if kind not in KINDS:
            raise nearest("ablation", kind, KINDS, "`mubench ablate --help`")
        kind = KINDS[kind]
    if not at:
        return kind
    if not kind.field:
        raise MubenchError(f"--at {' '.join(map(str, at))}: {kind.name} varies no option of its runs")
    return replace(kind, levels=tuple(dict.fromkeys([*(level for level in kind.levels if level is None), *at])))


# -- the analysis
# ----------------------------------------------------------------------------------------------------------


def analyse(kind, runs, specs=None, margin=MARGIN, notes=(), only=None, title="", ratio="5"):
    """The exhibits of an ablation: the figure with its points, and what follows from them.

    runs: a frame with `records.COLUMNS`; specs: the runs that were meant to be there (default: every level of what
    ``runs`` holds);
    only: methods shown; ratio: that of the runs, where ``specs`` do not say it and it is not what is varied; margin: of
    the deletion capacity.
    """
    kind = named(kind)
    if not 0 <= margin < 1:
        raise MubenchError(f"margin {margin!r}: by how much the test score may fall, a fraction such as {MARGIN:g}")
    (runs, expected), unmeasured = _chosen(kind, runs, specs, only, ratio), []
    if "transfer_change" in kind.values:
        runs, unmeasured = changes(runs)
        notes = [*notes, *_shortcuts(runs)]
    mine = runs[~runs["method"].isin(REFERENCES)]
    points = _points(kind, mine)
    lacking = _lacking(kind, mine, expected)
    rows = (kind.panels or _lines)(kind, points, runs, margin)
    title = title or kind.about
    found, said, more = kind.findings(mine, points, margin) if len(points) else (pd.DataFrame(), [], [])
    levels = "" if kind.along else kind.level
    if any(not sentence.endswith("no transfer set") for sentence in lacking):
        said = [*said, f"runs that are missing are made by `{_command(kind, expected, mine, only)}`"]
    main = Exhibit(
        kind.name,
        title,
        rows,
        points.drop(columns="order", errors="ignore"),
        _cells(points, levels or "at", kind),
        [*notes, *said],
        [*lacking, *unmeasured, *more],
    )
    if not main.rows and not main.missing:
        main.missing.append("nothing to draw: there are no runs of this kind")
    about = " ".join((kind.findings.__doc__ or "").split()).rstrip(".").replace("``", "`")
    follows = Exhibit(
        f"{kind.name}_{kind.findings.__name__}",
        f"{title}: {kind.findings.__name__}",
        table=found,
        notes=[about, "scores and margins are fractions"],
        cells=texts(found).rename(columns=lambda name: name.replace("_", " ")),
    )
    return [main, *([follows] if len(found) else [])]


def _chosen(kind, runs, specs, only, ratio):
    """The runs of an ablation with their ``at``, and what was expected: (group, level)."""
    if specs is not None:
        runs = runs[runs["id"].isin([spec.id for spec in specs])]
    else:
        runs = of_one_code(runs)
        runs = runs[
            (runs["params"] == "{}")
            & (runs["trials"] == 0)
            & (np.isfinite(runs["ratio_order"]) if kind.field == "ratio" else runs["ratio"] == ratio)
        ]
    options = [json.loads(text) for text in runs["options"]]
    levels = [
        kind.level_of(said if specs is None else {name: said[name] for name in VARIED if name in said})
        for said in options
    ]
    runs = runs[np.array([level is None or level == level for level in levels], bool)]
    levels = [math.nan if level is None else float(level) for level in levels if level is None or level == level]
    runs = runs[[name for name in READ if name in runs]].assign(
        at=runs["ratio_order"] if kind.field == "ratio" else levels
    )
    if only:
        runs = runs[runs["method"].isin([*only, *REFERENCES])]
    if specs is not None:
        meant = [
            (
                spec.task,
                spec.model,
                spec.ratio,
                spec.method,
                float(spec.ratio) if kind.field == "ratio" else kind.level_of(_said(spec)),
            )
            for spec in specs
        ]
    else:
        there = [*dict.fromkeys(zip(*(runs[name] for name in GROUP)))]
        meant = [
            (task, model, f"{level:g}" if kind.field == "ratio" else ratio, method, level)
            for task, model, ratio, method in there
            for level in kind.levels
        ]
    return runs, list(dict.fromkeys(place for place in meant if place[3] not in REFERENCES))


def _command(kind, expected, runs, only):
    """The command that makes the runs of an ablation which are not there."""
    tasks, models, ratios, methods, _ = (list(dict.fromkeys(values)) for values in zip(*expected))
    seeds, levels = sorted({*runs["seed"]}) or [0], [level for level in kind.levels if level is not None]
    return command(
        kind.name,
        tasks,
        method=[] if {*(only or methods)} == {*METHODS} else methods,
        model=models if len(tasks) == 1 and not kind.models else [],
        ratio=[] if kind.field == "ratio" or ratios == ["5"] else ratios,
        seed=[] if seeds == [0] else seeds,
        at=[] if kind.levels == KINDS[kind.name].levels else [f"{level:g}" for level in levels],
    )


def command(kind, tasks, **flags):
    """The command line of an ablation; flags: lists of values, none of which is no flag."""
    words = [word for name, values in flags.items() if values for word in (f"--{name}", *map(str, values))]
    return shlex.join(["mubench", "ablate", kind, *tasks, *words])


def _said(spec):
    return {name: value for name, value in spec.model_dump(exclude_defaults=True).items() if name in VARIED}


def _lacking(kind, runs, expected):
    """Sentences on levels without a run, and on curves that were not recorded; methods and places that lack the same
    together.
    """
    level = lambda at: None if at is None or at != at else float(at)
    there = {(*place, level(at)) for *place, at in zip(*(runs[name] for name in [*GROUP, "at"]))}
    gone = {}
    for *place, at in expected:
        if (*place, level(at)) not in there:
            task, model, ratio, method = place
            where = f"{task} / {model}" + ("" if kind.field == "ratio" else f", {ratio} %")
            gone.setdefault((where, method), []).append(kind.said(at) or "the run")
    same, found = {}, []
    for (where, method), levels in gone.items():
        same.setdefault((where, ", ".join(dict.fromkeys(levels))), []).append(method)
    what = f"{kind.level} " if kind.level else ""
    for (where, levels), methods in same.items():
        found.append((where, f"no {'run' if levels == 'the run' else what + levels} of {', '.join(methods)}"))
    places = runs["task"] + " / " + runs["model"]
    if kind.along and len(runs):
        bare = runs[runs["curve"] == ""]
        found += [
            (where, f"no curve of {', '.join(dict.fromkeys(group['method']))}, --eval-every records it")
            for where, group in bare.groupby(places)
        ]
        if kind.x == "relative":
            unknown = dict.fromkeys(places[runs["relative_flops"].isna()])
            found += [(where, "no complete retrain, whose work is the unit") for where in unknown]
    if "transfer_change" in (kind.x, *kind.values) and len(runs):
        found += [(task, "no transfer set") for task in dict.fromkeys(runs.loc[runs["transfer_score"].isna(), "task"])]
    lacks = {}
    for where, lack in found:
        lacks.setdefault(lack, []).append(where)
    return [f"{'; '.join(where)}: {lack}" for lack, where in lacks.items()]


def _points(kind, runs):
    """One row per point and value: group, ``at`` (level or step), x, mean, half-width of the 95 % interval over seeds,
    n.
    """
    columns = [*GROUP, "at", "order", "x", "value", "mean", "half_width", "n"]
    if kind.along:
        runs = along(runs)
    if runs.empty:
        return pd.DataFrame(columns=columns)
    order = {kind.said(level): number for number, level in enumerate(kind.levels)}
    at = runs["at"] if kind.along else [kind.said(None if level != level else level) for level in runs["at"]]
    runs = runs.assign(at=at, order=runs["at"] if kind.along else [order.get(name, len(order)) for name in at])
    runs["x"] = runs["order"] if kind.x == "order" else runs[kind.x]
    runs = runs[runs["x"].notna()]
    values = [name for name in kind.values if runs[name].notna().any()]
    if not values:
        return pd.DataFrame(columns=columns)
    table, tidy = summary(runs, [*GROUP, "at", "order"], ["x", *values]), []
    for name in values:
        mean, half, n = table[name]
        tidy.append(table["keys"].assign(x=table["x"][0], value=name, mean=mean, half_width=half, n=n))
    tidy = pd.concat(tidy, ignore_index=True)
    return tidy[tidy["mean"].notna()].sort_values([*GROUP, "value", "x"], kind="stable").reset_index(drop=True)[columns]


def along(runs):
    """One row per run and point of its curve; ``relative``: work as a share of retraining's."""
    rows = []
    for run in runs[runs["curve"] != ""].itertuples():
        unit = run.flops / run.relative_flops if run.relative_flops > 0 else math.nan
        shared = {name: getattr(run, name) for name in [*GROUP, "seed", "parameters", "original_score"]}
        rows += [
            {
                **shared,
                **{name: point.get(name) for name in ("flops", "test_score", "forget_score", "retain_score")},
                "at": point["step"],
                "relative": math.nan if point.get("flops") is None else point["flops"] / unit,
            }
            for point in {point["step"]: point for point in json.loads(run.curve)}.values()
        ]  # the last step may be told twice
    return pd.DataFrame(rows)


def summary(runs, keys, values):
    """value → (mean, half-width, n) over the runs that share ``keys``, and those as the frame ``keys``."""
    groups = runs.groupby(keys, sort=False, dropna=False)
    place, seat = groups.ngroup().to_numpy(), groups.cumcount().to_numpy()
    found = {"keys": runs[~runs.duplicated(keys)][keys].reset_index(drop=True)}
    for name in values:
        table = np.full((len(found["keys"]), seat.max() + 1), np.nan)
        table[place, seat] = runs[name].to_numpy("float64")
        mean, half, _, _, n = statistics.describe(table)
        found[name] = mean, half, n
    return found


def _cells(points, level, kind):
    """Points as a table for people: of runs with curves the last ones."""
    if points.empty:
        return pd.DataFrame()
    if kind.along:
        last = points.groupby([*GROUP, "value"])["x"].transform("max")
        points = points[points["x"] == last].assign(at="end")
    same = points.drop_duplicates([*GROUP, "order", "at"]).assign(
        rank=lambda frame: frame["method"].map(_ordered(points["method"]).index)
    )
    same = same.sort_values(["task", "model", "rank", "order"], kind="stable")
    texts = {
        (*key,): spread(mean, half)
        for *key, mean, half in zip(*(points[n] for n in [*GROUP, "at", "value", "mean", "half_width"]))
    }
    places = list(zip(*(same[n] for n in [*GROUP, "at"])))
    table = {name: same[name].tolist() for name in GROUP} | (
        {} if kind.field in ("", "ratio") else {level: same["at"].tolist()}
    )
    table |= {
        head(value): [texts.get((*place, value), "–") for place in places]
        for value in kind.values
        if value in set(points["value"])
    }
    return pd.DataFrame(table | {"n": same["n"].tolist()}).astype(str)


def head(value):
    return {
        "test_change": "test, change",
        "transfer_change": "transfer, change",
        "bias_change": "bias amplification, change",
    }.get(value) or HEADERS[value]


# -- panels
# ----------------------------------------------------------------------------------------------------------------


def _lines(kind, points, runs, margin):
    """A row of panels for each task and model: a panel per value, a line per method (or what ``kind.line`` says)."""
    facets = [name for name in GROUP if name != kind.line and not (name == "ratio" and kind.field == "ratio")]
    points, names, rows = points.sort_values("x", kind="stable"), _ordered(points[kind.line]), []
    runs = (
        runs[runs["method"].isin(kind.references)]
        if kind.field != "ratio"
        else runs.drop_duplicates(["task", "model", "seed"])
    )
    ticks = {number: kind.said(level) for number, level in enumerate(kind.levels)} if kind.x == "order" else {}
    if kind.x == "ratio_order":
        ticks = {x: f"{x:g}" for x in sorted({*points["x"]}) if x == int(x)}
    if kind.x == "share":
        ticks = {x: f"{x:g}" for x in (1, 5, 10, 25, 100)}
    for where, group in points.groupby(facets, sort=False):
        panels, place = [], dict(zip(facets, where))
        for value in kind.values:
            lines = []
            for name, line in group[group["value"] == value].groupby(kind.line, sort=False):
                if len(line) > 1:
                    lines.append(
                        Line(
                            name,
                            list(line["x"]),
                            list(100 * line["mean"]),
                            list(100 * line["half_width"]),
                            colour=names.index(name),
                        )
                    )
            lines.sort(key=lambda line: line.colour)
            if lines:
                panels.append(
                    Panel(
                        head(value) if panels else f"{_place(place)}\n{head(value)}",
                        kind.label,
                        "%" if not panels else "",
                        lines,
                        _levels(kind, runs, place, value, margin),
                        kind.log,
                        ticks,
                    )
                )
        rows.append(panels)
    return rows


def _ordered(names):
    """The paper's methods first, so that they have the same colours in all figures."""
    return [*METHODS, *sorted({*names} - {*METHODS})]


def _place(place):
    return " / ".join(str(place[name]) for name in ("task", "model", "method") if name in place) + (
        f", {place['ratio']} %" if "ratio" in place else ""
    )


def _levels(kind, runs, place, value, margin):
    """Where the references lie; of the deletion capacity the original less the margin."""
    here = runs[np.logical_and.reduce([runs[name] == what for name, what in place.items()])] if place else runs
    if kind.field == "ratio":
        return (
            {"original − margin": 100 * (here["original_score"].mean() - margin)}
            if value == "test_score" and len(here)
            else {}
        )
    means = here[here["method"].isin(kind.references)].groupby("method")[value].mean() if "method" not in place else {}
    return {name: 100 * mean for name, mean in dict(means).items() if mean == mean}


def _scale_panels(kind, points, runs, margin):
    """Of each task a panel per method, with the curves of all models and their laws, and one with the ends over the
    sizes of models.
    """
    sizes, ends, rows = sorted(set(points["model"])), _ends(runs[~runs["method"].isin(REFERENCES)]), []
    for (task, ratio), group in points[points["x"] > 0].groupby(
        ["task", "ratio"], sort=False
    ):  # the start, at no FLOPs, is on no log axis
        panels, here = [], ends[(ends["task"] == task) & (ends["ratio"] == ratio)]
        for method in [name for name in _ordered(group["method"]) if name in set(group["method"])]:
            lines = []
            for model, line in group[group["method"] == method].groupby("model"):
                colour = 5 + sizes.index(model)
                if len(line) > 1:
                    lines.append(Line(model, list(line["x"]), list(100 * line["mean"]), kind="points", colour=colour))
                if law := fit(line["x"], line["mean"]):
                    xs = np.geomspace(line["x"].min(), line["x"].max(), 60)
                    lines.append(Line(model, list(xs), list(100 * law(xs)), kind="law", colour=colour))
            panels += [Panel(f"{task}, {ratio} %: {method}", kind.label, "", lines, log=True)] if lines else []
        lines = [
            Line(method, list(line["x"]), list(100 * line["mean"]), colour=_ordered(ends["method"]).index(method))
            for method, line in here.groupby("method", sort=False)
            if len(line) > 1
        ]
        ticks = {x: f"{x / 1e6:.2g} M" for x in here["x"]}
        panels += (
            [Panel(f"{task}, {ratio} %: at the end", "parameters (log)", "", lines, log=True, ticks=ticks)]
            if lines
            else []
        )
        rows += wrapped(panels, "forget, %")
    return rows


def wrapped(panels, y, columns=3):
    """Rows of three panels, the first of each with a title of its y axis."""
    return [
        [replace(panel, y="" if number else y) for number, panel in enumerate(panels[start : start + columns])]
        for start in range(0, len(panels), columns)
    ]


def _bias_panels(kind, points, runs, margin):
    """Panels three in a row, one per task and model: what a method changed on the transfer set over what it changed on
    the test set; then what it changed of the bias amplification, where the task states a shortcut."""
    names, rows = _ordered(points["method"]), []
    for value, y in (("transfer_change", "change on transfer, points"), ("bias_change", "bias amplification, points")):
        panels = []
        for (task, model, ratio), wide in points[points["value"] == value].groupby(
            ["task", "model", "ratio"], sort=False
        ):
            dots = [
                Line(m, [100 * x], [100 * y], kind="named", colour=names.index(m))
                for m, x, y in zip(wide["method"], wide["x"], wide["mean"])
            ]
            panels.append(
                Panel(
                    f"{task} / {model}, {ratio} %",
                    kind.label,
                    "",
                    dots,
                    diagonal=value == "transfer_change",
                    levels={} if value == "transfer_change" else {"": 0},
                )
            )
        rows += wrapped(panels, y)
    return rows


# -- what follows
# ----------------------------------------------------------------------------------------------------------


def capacity(runs, points=None, margin=MARGIN):
    """Deletion capacity: the largest ratio whose mean test score is at least the original's less ``margin``; nothing is
    interpolated, and one ratio alone has none. ``least`` and ``most``: over the seeds that tried most ratios, each by
    itself; ``fails``: smaller ratios that do not keep to the margin all the same."""
    keys = ["task", "model", "method"]
    (drops, largest), (seeds, each) = within(runs, keys, margin), within(runs, [*keys, "seed"], margin)
    tried = seeds.count(axis=1)
    each = each[tried == tried.groupby(keys).transform("max")].groupby(keys).agg(["min", "max", "count"])
    ratios, rows = drops.columns.to_numpy(), []
    facts = dict(zip(drops.index, zip(drops.to_numpy(), largest, each.reindex(drops.index).to_numpy())))
    for place in dict.fromkeys(zip(*(runs[key] for key in keys))):
        mine, most, (low, high, count) = facts.get(place, ([], 0, (0, 0, 0)))
        if np.isfinite(mine).sum() > 1:
            fails = ratios[(mine > margin + 1e-12) & (ratios < most)]
            rows.append(
                dict(zip(keys, place))
                | {
                    "capacity": float(most),
                    "least": float(low),
                    "most": float(high),
                    "seeds": int(count),
                    "fails": ", ".join(f"{r:g}" for r in fails) or None,
                    "largest_tried": float(ratios[~np.isnan(mine)].max()),
                    "margin": margin,
                }
            )
    return (
        pd.DataFrame(rows),
        [
            f"capacity: the largest ratio (%) whose mean test score is at least the original's less {100 * margin:g}"
            " points; nothing is interpolated"
        ],
        [],
    )


def within(runs, by, margin):
    """Of the runs that share ``by``: the mean drop of the test score below the original's at each ratio, and the
    largest ratio whose
    drop is within the margin (0: none)."""
    drops = runs.assign(drop=runs["original_score"] - runs["test_score"]).pivot_table(
        index=by, columns="ratio_order", values="drop", sort=True
    )
    return drops, ((drops <= margin + 1e-12) * drops.columns.to_numpy()).max(axis=1)


def effect(runs, points=None, margin=None):
    """Scores with less those without, seeds paired: means and half-widths per task, method and level."""
    rows, values = [], ("test_score", "forget_score", "retain_score", "mia_loss_auc")
    plain = runs["at"].isna()
    both = runs[~plain].merge(runs[plain], on=[*GROUP, "seed"], suffixes=("", "_off"))
    for (*place, level), group in both.groupby([*GROUP, "at"], sort=False):
        changes = np.array([group[name] - group[f"{name}_off"] for name in values], "float64")
        mean, half, _, _, n = statistics.describe(changes)
        rows.append(
            dict(zip(GROUP, place))
            | {"lambda": float(level)}
            | {
                f"{name}{part}": float(v)
                for name, m, h in zip(values, mean, half)
                for part, v in (("_change", m), ("_half_width", h))
            }
            | {"n": int(n.max())}
        )
    rows.sort(key=lambda row: [row[name] for name in (*GROUP, "lambda")])
    return pd.DataFrame(rows), ["changes: with the curriculum less without, seeds paired"], []


def shares(runs, points=None, margin=None):
    """The smallest share whose mean score on the forget set is more than ``margin`` below the largest over all
    shares.
    """
    rows = []
    for place, group in runs.groupby(GROUP, sort=False):
        scores = group.groupby("share")["forget_score"].mean()
        if len(scores) < 2:
            continue
        low = scores.index[scores < scores.max() - (MARGIN if margin is None else margin)]
        rows.append(
            dict(zip(GROUP, place))
            | {
                "least_share_that_forgets": float(low.min()) if len(low) else math.nan,
                "forget_score_there": float(scores[low.min()]) if len(low) else math.nan,
                "highest_forget_score": float(scores.max()),
                "dense_forget_score": float(scores.get(100.0, math.nan)),
                "seeds": group["seed"].nunique(),
            }
        )
    return (
        pd.DataFrame(rows),
        [
            f"a share forgets where the forget score is more than {100 * margin:g} points below the highest over all"
            " shares"
        ],
        [],
    )


@dataclass(frozen=True)
class Law:
    """y = c + a·(x/x₀)^−b (power), or y = c + a·exp(−b·(x − x₀)) (exponential), fitted to all points but the last."""

    form: str
    a: float
    b: float
    c: float
    x0: float
    r2: float
    predicted: float
    actual: float
    n: int

    def __call__(self, x):
        x = np.asarray(x, "float64")
        return self.c + self.a * ((x / self.x0) ** -self.b if self.form == "power" else np.exp(-self.b * (x - self.x0)))

    @property
    def error(self):
        return self.predicted - self.actual


def fit(x, y):
    """The law that fits best, or None where there are fewer than five points or they do not change. The last point is
    held out: how well it is predicted is the law's predictability. For a given b a law is linear in a and c, so only b
    is searched."""
    from scipy.optimize import minimize_scalar

    x, y = (np.asarray(values, "float64")[np.argsort(x, kind="stable")] for values in (x, y))
    x, y = x[x > 0], y[x > 0]
    if len(np.unique(x)) < LEAST or np.ptp(y[:-1]) < 1e-9:
        return None
    mine, score, x0 = x[:-1], y[:-1], x[0]
    spread_of = float(((score - score.mean()) ** 2).sum())
    bases = {"power": (np.log(mine / x0), 1.0), "exponential": ((mine - x0) / np.ptp(mine), float(np.ptp(mine)))}
    tried, laws = np.linspace(math.log(0.02), math.log(20), 60), []
    for form, (along_x, unit) in bases.items():

        def solve(t):  # a line through (exp(−b·u), score), least squares: what is left, its slope, the basis
            basis = np.exp(-np.exp(np.atleast_1d(t))[:, None] * along_x)
            off = basis - basis.mean(axis=1, keepdims=True)
            a = off @ (score - score.mean()) / (off**2).sum(axis=1)
            return spread_of - a**2 * (off**2).sum(axis=1), a, basis

        best = int(np.argmin(solve(tried)[0]))
        found = minimize_scalar(
            lambda t: solve(t)[0][0],
            bounds=(tried[max(0, best - 1)], tried[min(len(tried) - 1, best + 1)]),
            method="bounded",
            options={"xatol": 1e-9},
        )
        left, (a,), (basis,) = solve(found.x)
        law = Law(
            form,
            float(a),
            math.exp(found.x) / unit,
            float(score.mean() - a * basis.mean()),
            float(x0),
            1 - float(left[0]) / spread_of,
            math.nan,
            float(y[-1]),
            len(x),
        )
        laws.append(replace(law, predicted=float(law(x[-1]))))
    return max(laws, key=lambda law: law.r2)


def _ends(runs):
    if runs.empty:
        return pd.DataFrame(columns=[*GROUP, "x", "mean"])
    table = summary(runs, GROUP, ["parameters", "forget_score"])
    return (
        table["keys"]
        .assign(x=table["parameters"][0], mean=table["forget_score"][0])
        .dropna()
        .sort_values("x", kind="stable")
    )


def laws(runs, points, margin=None):
    """Of every curve of scores on the forget set over FLOPs, and of the ends over the sizes of models, the law that
    fits.
    """
    rows, lacks = [], {}
    curves = points[points["value"] == "forget_score"]
    series = [
        ((task, ratio, method), model, "FLOPs along the run", line["x"], line["mean"])
        for (task, model, ratio, method), line in curves.groupby(GROUP, sort=False)
    ]
    series += [
        (place, "all", "parameters", line["x"], line["mean"])
        for place, line in _ends(runs).groupby(["task", "ratio", "method"], sort=False)
    ]
    for (task, ratio, method), model, over, x, y in series:
        if law := fit(x, y):
            rows.append(
                {
                    "task": task,
                    "model": model,
                    "ratio": ratio,
                    "method": method,
                    "over": over,
                    "law": law.form,
                    "a": law.a,
                    "b": law.b,
                    "c": law.c,
                    "x0": law.x0,
                    "r2": law.r2,
                    "predicted": law.predicted,
                    "actual": law.actual,
                    "error": law.error,
                    "points": law.n,
                }
            )
        else:
            why = (
                f"has {len(set(x))} of the {LEAST} points that a law needs"
                if len(set(x)) < LEAST
                else "does not change"
            )
            lacks.setdefault(f"the forget score over {over} {why}", []).append(
                " / ".join([task, *([model] if model != "all" else []), method])
            )
    missing = [f"{', '.join(where)}: {lack}" for lack, where in lacks.items()]
    return (
        pd.DataFrame(rows),
        ["dashed: the law fitted to all points of a curve but its last, which it is tried on"] if rows else [],
        missing,
    )


def readings(runs, points, margin=None):
    """Mean scores when a share of retraining's work was done: of the last point by then, nothing is interpolated;
    ``spent``: in all."""
    rows = []
    for place, line in points.groupby([*GROUP, "value"], sort=False):
        by = {f"{share:.0%}": line["mean"][line["x"] <= share + 1e-9] for share in SHARES}
        rows.append(
            dict(zip([*GROUP, "value"], place))
            | {name: means.iloc[-1] if len(means) else math.nan for name, means in by.items()}
            | {"spent": line["x"].iloc[-1], "n": int(line["n"].iloc[-1])}
        )
    return pd.DataFrame(rows), [], []


def excess(runs, points, margin=None):
    """By how much a method changes the transfer score more than the test score, and the bias amplification: means over
    tasks, with their intervals over these."""
    rows, values = [], ["test_change", "transfer_change", "bias_change"]
    means = runs.groupby(["method", "task", "model", "ratio"], sort=False)[values].mean().reset_index()
    for method, group in means.groupby("method", sort=False):
        both = group.dropna(subset=["transfer_change", "test_change"])
        tried = np.stack([group["transfer_change"] - group["test_change"], group["bias_change"]])
        (excess, bias), (half, bias_half), _, _, (n, states) = statistics.describe(tried)
        rows.append(
            {
                "method": method,
                "test_change": float(both["test_change"].mean()),
                "transfer_change": float(both["transfer_change"].mean()),
                "excess": excess,
                "half_width": half,
                "places": int(n),
                "bias_change": bias,
                "bias_half_width": bias_half,
                "bias_places": int(states),
            }
        )
    return (
        pd.DataFrame(rows),
        [
            "below the diagonal transfer suffers more than the test set; above 0 a method leans on the stated shortcut"
            " more than the original does"
        ],
        [],
    )


def changes(runs):
    """Runs with what they changed against the original: on the test set by its record, on the transfer set and in bias
    amplification by its own runs; and sentences on what could not be measured."""
    amplified, missing = bias.measured(runs)
    where, runs = ["task", "model", "original"], runs.assign(bias=amplified)
    before = runs[runs["method"] == "original"].groupby(where)[["transfer_score", "bias"]].mean()
    before = runs[where].join(before, on=where)
    return (
        runs.assign(
            test_change=runs["test_score"] - runs["original_score"],
            transfer_change=runs["transfer_score"] - before["transfer_score"],
            bias_change=runs["bias"] - before["bias"],
        ),
        missing,
    )


def _shortcuts(runs):
    """Sentences on the shortcuts that the tasks of runs state."""
    said = {task: bias.shortcut(task) for task in dict.fromkeys(runs["task"])}
    said = "; ".join(f"{task}: {text}" for task, text in said.items() if text)
    return [
        (
            f"bias amplification: BiasAmp A→T of Wang & Russakovsky 2021; stated shortcuts: {said}"
            if said
            else "bias amplification: no task here states a shortcut"
        )
    ]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "lora",
            "Scores over the share of parameters that is trained",
            (*SCORES, "mia_loss_auc"),
            "share",
            "trained, % (log)",
            shares,
            "share",
            "lora",
            (1, 5, 10, 25, 50, 75, None),
            "dense",
            log=True,
        ),
        Kind(
            "curriculum",
            "Scores with and without a curriculum (SuperLoss)",
            (*SCORES, "mia_loss_auc"),
            "order",
            "λ of the curriculum",
            effect,
            "λ",
            "curriculum_lambda",
            (None, 10, 1, 0.1),
            "off",
            (("curriculum", "superloss"),),
        ),
        Kind(
            "ratio",
            "Scores over the deletion ratio, and the deletion capacity",
            SCORES,
            "ratio_order",
            "deleted, %",
            capacity,
            "ratio",
            "ratio",
            tuple(range(1, 11)),
            references=("original",),
        ),
        Kind(
            "scale",
            "The forget score over FLOPs and over sizes of models",
            ("forget_score",),
            "flops",
            "FLOPs (log)",
            laws,
            log=True,
            line="model",
            along=True,
            references=("original",),
            models=("all",),
            panels=_scale_panels,
        ),
        Kind(
            "budget",
            "Scores over work, up to that of retraining",
            SCORES,
            "relative",
            "work, 1 = retraining",
            readings,
            along=True,
        ),
        Kind(
            "bias",
            "Change on the transfer set, and of bias amplification, against change on the test set",
            ("test_change", "transfer_change", "bias_change"),
            "test_change",
            "change on test, points",
            excess,
            panels=_bias_panels,
        ),
    )
}
