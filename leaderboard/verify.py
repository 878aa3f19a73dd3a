"""How far a result may be believed: recomputed, compared with the task's own data, predicted again, run again; and what
is strange.
"""

import enum
import functools
import hashlib
import json
import math
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from mubench import registry
from mubench.models import networks
from mubench.errors import MubenchError
from mubench.leaderboard.reading import LIMITS, Hash, Line, Part, content, foreign, parsed, plain, read_record, sentence
from mubench.records.predictions import PREDICTIONS, agree
from mubench.records.result import RESULT, split_facts, task_facts
from mubench.records.store import MODEL
from mubench.spec import Budget

SUBMISSION, VERIFIED = "submission.json", "verified.json"
SAMPLE = 256  # examples of each set that are predicted again
CLOSE = {
    "no": 0.01,
    "bf16": 0.1,
    "fp16": 0.05,
}  # of predictions made again on another machine: so far off, relative to the largest
STRAYS = 0.01  # share of examples that may be off by more: near ties go either way
RERUN = 0.03  # of metrics of a run done again on another machine
FAST = {"cpu_seconds": 2, "unlearning_seconds": 5}  # so many times retrain's FLOPs per second is no longer believed


class Level(str, enum.Enum):
    """What a result's numbers rest on, from least to most."""

    REPORTED = "reported"  # the numbers alone were given: shown, never ranked
    RECOMPUTED = "recomputed"  # every metric follows from predictions, which are of the task's own examples and targets
    RE_EVALUATED = "re-evaluated"  # the predictions were made again from the weights
    REPRODUCED = "reproduced"  # the run was done again from its spec

    __str__ = str.__str__

    @property
    def rank(self):
        return list(Level).index(self)


class Unavailable(MubenchError):
    """What would raise a result's level is not to be had; nothing was found against it."""


# -- recomputed: compared with the task's own data
# -----------------------------------------------------------------------


def compare(run):
    """What of a run agrees with the suite: the task's facts, the original, the split, each example and its target, and
    what one column of predictions says of another. Returns flags: what could not be compared. Raises `MubenchError`
    where something differs."""
    result, spec, flags = run.result, run.spec, []
    task = _loaded(spec.task)
    _same(run, "limited", result.status == "limited", bool(spec.limit))
    _same(run, "model", spec.model, task.model(spec.model))
    with foreign(run.folder):
        method = spec.make_method() if spec.method in registry.methods.names() else None
    away = spec.checkpoint or spec.split_file or ".py" in spec.method  # then the id depends on files that are not here
    if run.old:
        flags.append("made with another version of task, method or engine")
    else:
        if method and result.method.get("fingerprint") not in (None, registry.methods.fingerprint(spec.method)):
            flags.append(f"made with other code of {spec.method} than the suite's")
        elif not (result.migrated or away):
            _same(run, "id", result.id, spec.id)
        for part, known in _known(method, task, spec).items() if method else ():
            for name, value in (
                result.method.get(part) or {}
            ).items():  # what is not recorded is newer, and had its default
                _same(run, f"{part}.{name}", value, known.get(name))
    flags += _compare_original(run, task)
    try:
        expected, split = _expected(spec.task, spec.model, "5" if spec.split_file else spec.ratio, spec.limit)
    except MubenchError as error:
        return [*flags, f"not compared with the data, which are not at hand: {str(error)[:200]}"]
    for name, value in task_facts(task).items():
        _same(run, f"task.{name}", result.task.get(name), value)
    if spec.split_file:
        flags.append("forget set of its own")
        _same(run, "split.data", result.split["data"], split["data"])
    else:
        for name, value in split.items():
            _same(run, f"split.{name}", result.split.get(name), value)
        if method and result.budget and not run.old:
            _same(run, "budget", result.budget, Budget.of(spec, method, task, split["retain"]).asdict())
    if run.frame is None:
        return [*flags, "no predictions"]
    if not spec.split_file:
        for name, rows in expected.groupby("set"):
            mine = run.frame[run.frame["set"] == name]
            if not np.array_equal(mine["index"], rows["index"]):
                raise MubenchError(
                    f"{run.folder}: the examples of the {name} set are others than the task's, {len(mine)} for"
                    f" {len(rows)}"
                )
            if off := int((mine["target"].to_numpy() != rows["target"].to_numpy()).sum()):
                raise MubenchError(f"{run.folder}: {off} targets of the {name} set are not the task's own")
        if len(expected) != len(run.frame):
            raise MubenchError(f"{run.folder} has {len(run.frame)} predictions, the task {len(expected)} examples")
    return flags + _coherent(run)


def _known(method, task, spec):
    return {
        "hyperparameters": method.hyperparameters(),
        "recipe": asdict(method.recipe(task.model_recipe(spec.model))),
        "taxonomy": method.taxonomy(),
    }


def _same(run, what, claimed, found):
    if json.dumps(claimed, sort_keys=True) != json.dumps(found, sort_keys=True):
        raise MubenchError(
            f"{run.folder}: {what} is {str(claimed)[:80]} in {RESULT}, but {str(found)[:80]} in the suite"
        )


def _compare_original(run, task):
    """With the card that ships with the suite or, of an original that everybody trains, with the one here. Records of
    schema 1 all start from the first."""
    from mubench.models.originals import CARD, trained_dir

    seed = run.result.checkpoint.get("seed") or 0
    card = (trained_dir(task, run.spec.model, seed) if seed else task.originals_dir(run.spec.model)) / CARD
    if run.spec.checkpoint or not card.is_file():
        lacking = f"original of seed {seed} not compared: it does not ship with the suite"
        return ["original of its own" if run.spec.checkpoint else lacking]
    card = json.loads(card.read_text())
    if seed and run.result.checkpoint["sha256"] != card["sha256"]:  # additions in another order give other weights
        return [f"original of seed {seed} is another than the one trained here"]
    _same(run, "checkpoint.sha256", run.result.checkpoint["sha256"], card["sha256"])
    if not run.spec.limit:
        _same(run, "checkpoint.test_score", run.result.checkpoint["test_score"], card["scores"]["test"])
    return []


@functools.lru_cache(maxsize=8)
def _expected(task, model, ratio, limit):
    """Set, index and target of all examples that a run predicts, as a frame, and the facts of the split."""
    import torch

    task = _loaded(task)
    split, frames = task.split(ratio), []
    for name, view in _shown(task, model, split, limit).items():
        batches = [task.targets(view[chunk]) for chunk in torch.arange(len(view)).split(256)]
        targets = [target for batch in batches for target in (batch if isinstance(batch, list) else batch.tolist())]
        frames.append(pd.DataFrame({"set": name, "index": view.rows.numpy(), "target": targets}))
    return pd.concat(frames, ignore_index=True).sort_values(["set", "index"], ignore_index=True), split_facts(split)


@functools.lru_cache(maxsize=2)
def _loaded(name):
    """A task of the suite, kept: its data are read once. A file that a submission names is never imported."""
    if name not in registry.tasks.names():
        raise MubenchError(
            f"{plain(name)!r} is no task of the suite: results on a task of one's own cannot be compared"
        )
    return registry.load_task(name)


def _shown(task, model, split, limit):
    from mubench.measure.predict import SETS

    sets = task.sets(model, split, limit)
    return task.scored({name: sets[name] for name in SETS if name in sets})


def _coherent(run):
    """Columns say the same of each example: its score follows from prediction and target, loss and prediction from the
    logits.
    """
    from scipy.special import logsumexp

    from mubench.measure.metrics.primary import Primary, load_primary

    frame, where = run.frame, f"{run.folder / PREDICTIONS}:"
    primary = load_primary(run.result.task["metric"], **run.result.task.get("metric_options", {}))
    loss = frame["loss"].to_numpy("float64")
    if type(primary).score is Primary.score:  # of pictures drawn only the score is stored
        right = primary.per_example(frame["prediction"].to_numpy(), frame["target"].to_numpy())
        _follows(where, "score", frame["score"], right, 1e-9)
    if "confidence" in frame:
        with np.errstate(over="ignore"):
            _follows(where, "confidence", frame["confidence"], np.exp(-loss), 2e-3)
    if "logits" in frame:
        rows = np.arange(len(frame))
        logits, target, prediction = (
            np.stack(frame["logits"]).astype("float64"),
            frame["target"].to_numpy(),
            frame["prediction"].to_numpy(),
        )
        if (np.concatenate([target, prediction]) >= logits.shape[1]).any() or (prediction < 0).any():
            raise MubenchError(f"{where} a label beyond the {logits.shape[1]} there are")
        with np.errstate(all="ignore"):
            slack = 2**-9 * (np.abs(logits).max(1) + np.abs(loss)) + 1e-4  # stored with 10 bits of mantissa
            _follows(where, "loss", loss, logsumexp(logits, axis=1) - logits[rows, target], slack)
            _follows(where, "prediction", logits[rows, prediction], logits.max(1), slack)
    wild = int((~np.isfinite(loss)).sum())
    return [f"{wild} losses are not finite"] if wild else []


def _follows(where, column, claimed, found, slack):
    claimed, found = np.asarray(claimed, "float64"), np.asarray(found, "float64")
    with np.errstate(invalid="ignore"):
        off = ~((np.abs(claimed - found) <= slack) | (claimed == found) | (~np.isfinite(claimed) & ~np.isfinite(found)))
    if off.any():
        worst = int(np.argmax(off))
        raise MubenchError(
            f"{where} {column} of {off.sum()} examples does not follow from the other columns, in row {worst} "
            f"it is {claimed[worst]:.6g}, they give {found[worst]:.6g}"
        )


# -- re-evaluated: predicted again from the weights
# ----------------------------------------------------------------------


def re_evaluate(run, folder=None, sample=SAMPLE, seed=None, limits=LIMITS):
    """Predict ``sample`` examples of each set (None: all) again with the weights in a ``folder`` (default: saved with
    the run), and compare. The examples are drawn by ``seed`` (default: one that nobody knew before). Returns a
    sentence; raises where they differ."""
    import torch

    from mubench.train.distributed import threads
    from mubench.measure.predict import UNTRAINED, predict

    spec = run.spec
    task = _loaded(spec.task)
    folder = Path(folder or run.folder / MODEL)
    if folder.name not in (MODEL, run.result.id) or not networks.weights(folder):
        raise Unavailable(
            f"{run.folder} has no weights in safetensors, in {MODEL}/ or in a folder {run.result.id}/ on the hub"
        )
    network = _network(task, spec.model, folder, limits)
    if (found := networks.weights_hash(network)) != run.result.weights:
        raise MubenchError(
            f"{run.folder}: the weights given have hash {found[:12]}…, those evaluated {str(run.result.weights)[:12]}…"
        )
    if run.frame is None:
        raise Unavailable(f"{run.folder} has no predictions to compare with those of its weights")
    if spec.split_file:
        raise Unavailable(f"{run.folder}: predictions on a forget set of its own are not made again")
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    draw, chosen = torch.Generator().manual_seed(seed), {}
    for name, view in _shown(task, spec.model, task.split(spec.ratio), spec.limit).items():
        chosen[name] = view.select(torch.randperm(len(view), generator=draw)[:sample].sort().values)
    with threads(task.threads), foreign(run.folder):
        again = predict(task, network, chosen, task.build(spec.model, UNTRAINED + spec.seed, blank=True))
    both = again.merge(run.frame, on=["set", "index"], suffixes=("_again", ""), validate="one_to_one")
    if len(both) != len(again):
        raise MubenchError(f"{run.folder} lacks {len(again) - len(both)} of {len(again)} examples drawn by seed {seed}")
    for name in again.columns.difference(["set", "index"]):
        if name not in run.frame:
            raise MubenchError(f"{run.folder} has no column {name!r}, its weights give one")
        off = [not _near(a, b, CLOSE[spec.precision]) for a, b in zip(both[name], both[f"{name}_again"])]
        if sum(off) > STRAYS * len(off):
            raise MubenchError(
                f"{run.folder}: {name} of {sum(off)} in {len(off)} examples (drawn by seed {seed}) is not what the"
                f" weights give, claimed for one {_first(both[name], off)}, found {_first(both[f'{name}_again'], off)};"
                f" tolerance: {CLOSE[spec.precision]:g} of the largest number, in all but {STRAYS:.0%} of examples"
            )
    return f"{len(again)} predictions made again from weights {found[:12]}, drawn by seed {seed}"


def _first(values, off):
    return plain(next(value for value, wrong in zip(values, off) if wrong))[:40]


def _near(claimed, found, close):
    if isinstance(found, (str, int, np.integer)):
        return claimed == found
    gone = [value is None or isinstance(value, float) and math.isnan(value) for value in (claimed, found)]
    if any(gone):
        return all(gone)
    claimed, found = np.atleast_1d(np.asarray(claimed, "float64")), np.atleast_1d(np.asarray(found, "float64"))
    if claimed.shape != found.shape:
        return False
    largest = max(1.0, np.abs(found[np.isfinite(found)]).max(initial=0))
    return bool(np.allclose(claimed, found, rtol=0, atol=close * largest, equal_nan=True))


def _network(task, model, folder, limits):
    """The task's own network, of its own card's configuration, with the weights in safetensors files; a stranger's
    configuration is not read."""
    from safetensors.torch import load, save_file

    network, given = task.build(model, blank=True), {}
    most = min(limits.weights, 4 * sum(t.numel() * t.element_size() for t in network.state_dict().values()) + 2**20)
    for path in networks.weights(folder):
        data = content(path.resolve(), most)  # the hub's cache is made of links; in a submission there are none
        with foreign(path):
            given |= load(data)
    with tempfile.TemporaryDirectory() as aside, foreign(folder):
        networks.save_configuration(network, aside)
        save_file(given, Path(aside) / networks.weights_name(network), {"format": "pt"})
        network, lost = networks.read(type(network), aside)
    if lost:
        raise MubenchError(
            f"{folder}: {len(lost)} weights of {model} of {task.name} are missing or of another shape, among them"
            f" {lost[0]}"
        )
    return network.eval()


# -- reproduced: run again from the spec
# ---------------------------------------------------------------------------------


def rerun(run):
    """Do the run again and compare: the weights, and where these are others, as on another machine, the metrics.
    Returns a sentence; raises where a metric differs by more than `RERUN`."""
    from mubench.records.result import read
    from mubench.records.store import Store
    from mubench.runner import run_spec
    from mubench.spec import make_spec

    spec = run.spec
    if spec.method not in registry.methods.names():
        raise Unavailable(
            f"{plain(spec.method)!r} is no method of the suite, and a stranger's code is not run; who trusts it does"
            " that where it can do no harm"
        )
    _loaded(spec.task)
    if spec.checkpoint or spec.split_file:
        raise Unavailable("an original or forget set of its own is not run again")
    if (run.result.checkpoint.get("seed") or 0) != spec.seed:
        raise Unavailable(
            f"its original is not that of seed {spec.seed}, as in all records of schema 1: a run starts from "
            "that of its seed now"
        )
    with tempfile.TemporaryDirectory() as folder, foreign(run.folder):
        found = read(run_spec(make_spec(**spec.model_dump()), Store(folder), progress=False))
    same = found.weights == run.result.weights
    if same and not run.result.migrated:  # work decides who is ranked: the same run has the same
        for name in ("examples", "steps", "flops", "stopped_by"):
            _same(run, f"costs.{name}", run.result.costs.get(name), found.costs[name])
    agree(run.folder, run.result.metrics, found.metrics, 1e-12 if same else RERUN, "when run again")
    apart = max((abs(v - found.metrics[n]) for n, v in run.result.metrics.items() if v is not None), default=0)
    weights = "the same weights" if same else "other weights, as on another machine"
    return f"run again in {found.costs['unlearning_seconds']:.1f} s: {weights}, metrics within {apart:.4f}"


# -- flags: what a reader should know
# ------------------------------------------------------------------------------------


def flags(runs, references=()):
    """For each of ``runs``, sentences on what is strange about it beside the others and ``references`` (more runs: of
    retrain).
    """
    found, seeds, retrained = {run: [] for run in runs}, {}, {}
    for run in dict.fromkeys([*runs, *references]):
        if run.result.method["name"] == "retrain":
            retrained.setdefault(run.group, []).append(run)
    for run in runs:
        seeds.setdefault((run.group, run.settings), []).append(run)
    for group in seeds.values():
        for run in group:
            found[run] += _outlying(run, group) + _repeated(run, group)
    for run in runs:
        others = [other for other in retrained.get(run.group, []) if other is not run]
        if run.frame is not None and run.result.method["name"] != "retrain":
            mine = _digest(run, "forget")
            found[run] += [
                f"forget predictions are those of retrain, seed {other.spec.seed}"
                for other in others
                if other.frame is not None and _digest(other, "forget") == mine
            ]
        found[run] += _hasty(run, others)
    return found


def _outlying(run, group):
    """Far from the median of at least four seeds: by 8 median deviations, and 4 standard errors of a share of so many
    examples.
    """
    if len(group) < 4 or run.frame is None:
        return []
    for name in ("test", "forget", "retain"):
        values = np.array([v for other in group if (v := other.metrics.get(f"{name}_score")) is not None])
        n, middle = (run.frame["set"] == name).sum(), np.median(values) if len(values) else math.nan
        far = max(8 * np.median(np.abs(values - middle)), 2 / math.sqrt(max(n, 1))) if len(values) else math.inf
        if abs(run.metrics.get(f"{name}_score", middle) - middle) > far:
            return [
                f"outlier seed: {name}_score {run.metrics[f'{name}_score']:.3f}, median of {len(values)} seeds"
                f" {middle:.3f}"
            ]
    return []


def _repeated(run, group):
    if run.frame is None or run.result.costs.get("steps") == 0:  # without training no seed makes a difference
        return []
    same = [
        other.spec.seed
        for other in group
        if other is not run and other.frame is not None and _digest(other) == _digest(run)
    ]
    return [f"predictions equal to those of seed {', '.join(map(str, sorted(same)))}"] if same else []


def _digest(run, part=None):
    rows = run.frame if part is None else run.frame[run.frame["set"] == part]
    shown = "".join(map(str, rows["prediction"])).encode()
    return hashlib.sha256(rows["loss"].to_numpy("float64").tobytes() + shown).digest()


def _hasty(run, retrained):
    """Time claims beyond what the same machine did when it retrained."""
    costs, here, same = run.result.costs, run.result.environment, run.result.clock
    if costs["flops"] is None:
        return [] if costs["unlearning_seconds"] is None else ["time as its author claims it, without FLOPs"]
    said, processors = [], here["threads"] * here.get("processes", 1)
    if (costs.get("cpu_seconds") or 0) > 1.25 * costs["unlearning_seconds"] * max(1, processors) + 1:
        said.append(
            f"time claim: {costs['cpu_seconds']:.0f} CPU seconds in {costs['unlearning_seconds']:.0f} seconds on"
            f" {processors} threads"
        )
    for clock, factor in FAST.items():
        speeds = [
            other.result.costs["flops"] / other.result.costs[clock]
            for other in retrained
            if other.result.costs.get(clock) and other.result.costs["flops"] and same and other.result.clock == same
        ]
        if speeds and costs.get(clock) is not None and costs["flops"] > factor * max(speeds) * costs[clock]:
            said.append(
                f"time claim: {costs['flops']:.3g} FLOPs in {costs[clock]:.3g} {clock.replace('_', ' ')}, retrain on"
                f" the same machine does {max(speeds):.3g} a second"
            )
            break
    return said


# -- levels
# --------------------------------------------------------------------------------------------------------------


class Verdict(Part):
    """What a check found of one result, for these very files."""

    level: Level = Field(strict=False)
    files: dict[Literal[RESULT, PREDICTIONS], Hash]
    flags: list[Line] = []
    mubench: Line
    machine: Line
    checked: Line = ""


class Verified(Part):
    """verified.json: result id → `Verdict`. Written by the leaderboard, never taken from a submission."""

    schema_version: Literal[1] = Field(1, alias="schema")
    results: dict[Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")], Verdict]


def read_verified(root, limits=LIMITS):
    """Result id → `Verdict`, as recorded in a submission's folder; empty where nothing is."""
    path = Path(root) / VERIFIED
    if not os.path.lexists(path):
        return {}
    with sentence(path):
        return Verified.model_validate(parsed(content(path, 16 * limits.json), path, limits)).results


def level(folder, record=None):
    """`Level` and flags of a stored result; record: what `read_record` gives of it, where that is known.

    Of a submission (five folders up lies its submission.json): what `mubench check --record` found, as long as the
    files are those it was found for, else *reported*. Results outside of submissions are one's own, *reproduced* by
    whoever ran them from their spec; of weights that other code unlearned, *re-evaluated*.
    """
    folder = Path(folder).absolute()
    root = ([*folder.parents][5:] or [folder])[0]
    if not os.path.lexists(root / SUBMISSION):
        run = record or read_record(folder)
        own = Level.RE_EVALUATED if "@" in str(run.spec.get("method")) else Level.REPRODUCED
        return (own if run.predictions else Level.REPORTED), ()
    verdict = read_verified(root).get(folder.name)
    if verdict is None:
        return Level.REPORTED, ()
    for name, known in verdict.files.items():
        most = LIMITS.json if name == RESULT else LIMITS.predictions
        if hashlib.sha256(content(folder / name, most)).hexdigest() != known:
            return Level.REPORTED, (f"{name} was changed after it was checked",)
    return verdict.level, tuple(verdict.flags)
