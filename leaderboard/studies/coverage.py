"""Which runs an ablation is made of, which it lacks, and the command that makes these."""

import json
import math
import shlex
from typing import NamedTuple

import numpy as np

from mubench.leaderboard.frame import of_one_code
from mubench.leaderboard.rows import REFERENCES, standard
from mubench.leaderboard.studies.kinds import KINDS, VARIED, varied_options
from mubench.leaderboard.studies.runs import GROUP, METHODS, SCORES, untuned
from mubench.splits import described, split_name, split_parts

USED = [
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


class Place(NamedTuple):
    """Where a run is expected.

    level: of what is varied; None is the plain run.
    """

    task: str
    model: str
    ratio: str
    method: str
    level: float | None


def runs_of(kind, runs, specs=None, methods=None, ratio="5"):
    """The runs of an ablation, with their level in the column ``at`` (NaN: the plain run).

    runs: a frame of runs, as `read_runs` gives it.
    specs: `RunSpec`s that alone count; without them every run of default hyperparameters whose options are a level.
    methods: those that count, beside the references; default: all.
    ratio: of the runs, where ``specs`` do not say it and it is not what is varied.
    """
    if specs is not None:
        runs = runs[runs["id"].isin([spec.id for spec in specs])]
    else:
        runs = untuned(of_one_code(runs))
        runs = runs[standard(runs["ratio"]) if kind.varies_ratio else runs["ratio"] == ratio]
    levels = [kind.level_of(_options(text, specs is None)) for text in runs["options"]]
    belongs = [level is None or not math.isnan(level) for level in levels]
    levels = [math.nan if level is None else float(level) for level in levels if level is None or not math.isnan(level)]
    runs = runs[np.array(belongs, bool)]
    at = runs["ratio_order"] if kind.varies_ratio else levels
    runs = runs[[name for name in USED if name in runs]].assign(at=at)
    return runs[runs["method"].isin([*methods, *REFERENCES])] if methods else runs


def _options(text, every):
    """The recorded options of a run; not ``every`` one, but those that ablations are about."""
    return {name: value for name, value in json.loads(text).items() if every or name in VARIED}


def expected(kind, runs, specs=None, ratio="5"):
    """The `Place`s that the figure has points for.

    runs: as `runs_of` gives them; without ``specs`` every level of every method that has a run is expected.
    """
    if specs is not None:
        places = [
            Place(spec.task, spec.model, split_name(spec.ratio, spec.unit), spec.method, _level_of(kind, spec))
            for spec in specs
        ]
    else:
        places = [
            Place(task, model, f"{level:g}" if kind.varies_ratio else ratio, method, level)
            for task, model, _, method in dict.fromkeys(zip(*(runs[name] for name in GROUP), strict=True))
            for level in kind.levels
        ]
    return list(dict.fromkeys(place for place in places if place.method not in REFERENCES))


def _level_of(kind, spec):
    return float(spec.ratio) if kind.varies_ratio else kind.level_of(varied_options(spec))


# -- what is missing
# ---------------------------------------------------------------------------------------------------------------


def missing_runs(kind, runs, places):
    """Sentences on the levels that have no run, and on curves that were not recorded.

    runs: of methods, no references.
    places: as `expected` gives them.
    """
    lacks = _missing_levels(kind, runs, places)
    if kind.on_curves and len(runs):
        where = runs["task"] + " / " + runs["model"]
        for place, group in runs[runs["curve"] == ""].groupby(where):
            methods = ", ".join(dict.fromkeys(group["method"]))
            lacks.append((place, f"no curve of {methods}, --eval-every records it"))
        if kind.x == "relative":
            unknown = dict.fromkeys(where[runs["relative_flops"].isna()])
            lacks += [(place, "no complete retrain, whose work is the unit") for place in unknown]
    return _together(lacks)


def missing_transfer(runs):
    """Sentences on tasks without a transfer set."""
    tasks = dict.fromkeys(runs.loc[runs["transfer_score"].isna(), "task"])
    return _together([(task, "no transfer set") for task in tasks])


def _missing_levels(kind, runs, places):
    """(where, what is missing): methods that lack the same levels of a place are named together."""
    present = {
        Place(*group, None if math.isnan(at) else float(at))
        for *group, at in zip(*(runs[name] for name in [*GROUP, "at"]), strict=True)
    }
    levels = {}
    for place in places:
        if place not in present:
            where = f"{place.task} / {place.model}" + ("" if kind.varies_ratio else f", {described(place.ratio)}")
            levels.setdefault((where, place.method), []).append(kind.label_of(place.level) or "the run")
    methods = {}
    for (where, method), labels in levels.items():
        methods.setdefault((where, ", ".join(dict.fromkeys(labels))), []).append(method)
    varied = f"{kind.varied} " if kind.varied else ""
    return [
        (where, f"no {'run' if labels == 'the run' else varied + labels} of {', '.join(names)}")
        for (where, labels), names in methods.items()
    ]


def _together(lacks):
    """Sentences from pairs of where and what: places that lack the same stand in one."""
    places = {}
    for where, lack in lacks:
        places.setdefault(lack, []).append(where)
    return [f"{'; '.join(where)}: {lack}" for lack, where in places.items()]


# -- the command
# ---------------------------------------------------------------------------------------------------------------


def command_for(kind, places, runs, methods=None):
    """The command that makes the expected runs of an ablation.

    places: as `expected` gives them.
    runs: those that are there, for their seeds.
    methods: those that are shown.
    """
    tasks, models, splits, expected_methods, _ = (list(dict.fromkeys(names)) for names in zip(*places, strict=True))
    ratios, units = (list(dict.fromkeys(parts)) for parts in zip(*map(split_parts, splits), strict=True))
    seeds, levels = sorted({*runs["seed"]}) or [0], [level for level in kind.levels if level is not None]
    return ablate_command(
        kind.name,
        tasks,
        method=[] if {*(methods or expected_methods)} == {*METHODS} else expected_methods,
        model=models if len(tasks) == 1 and not kind.models else [],
        ratio=[] if kind.varies_ratio or ratios == ["5"] else ratios,
        unit=[unit for unit in units if unit],
        seed=[] if seeds == [0] else seeds,
        at=[] if kind.levels == KINDS[kind.name].levels else [f"{level:g}" for level in levels],
    )


def ablate_command(kind, tasks, **flags):
    """The command line of an ablation.

    kind: its name.
    flags: lists of values; an empty one is no flag.
    """
    words = [word for name, values in flags.items() if values for word in (f"--{name}", *map(str, values))]
    return shlex.join(["mubench", "ablate", kind, *tasks, *words])
