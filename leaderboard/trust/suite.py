"""Recomputed: what of a run is compared with the suite. The task's facts, the method's, the original, the split, each
example and its target."""

import functools
import json
from dataclasses import asdict

import numpy as np
import pandas as pd

from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard.trust.columns import compare_columns
from mubench.leaderboard.trust.untrusted import library_errors, printable
from mubench.models.originals import CARD, trained_dir
from mubench.records.result import RESULT, split_facts, task_facts
from mubench.spec import Budget


def compare_with_suite(run):
    """What of a run agrees with the suite, and its columns with each other.

    run: a `CheckedRun`.

    Returns flags: sentences on what could not be compared. Raises `MubenchError` where something differs.
    """
    result, spec = run.result, run.spec
    task = suite_task(spec.task)
    same(run, "limited", result.status == "limited", bool(spec.limit))
    same(run, "model", spec.model, task.model(spec.model))
    with library_errors(run.folder):
        method = spec.make_method() if spec.method in registry.methods.names() else None
    flags = _compare_code(run, task, method) + compare_original(run, task)
    try:
        expected, split = _expected(spec.task, spec.model, *_split_of(spec), spec.limit)
    except MubenchError as error:
        return [*flags, f"not compared with the data, which are not at hand: {str(error)[:200]}"]
    for name, value in task_facts(task).items():
        same(run, f"task.{name}", result.task.get(name), value)
    flags += _compare_split(run, split)
    if method and result.budget and not spec.split_file and not run.old:
        budget = Budget.of(spec, method, task, (split["forget"], split["retain"]))
        same(run, "budget", result.budget, budget.asdict())
    if run.frame is None:
        return [*flags, "no predictions"]
    if not spec.split_file:
        _compare_examples(run, expected)
        _compare_probed(run, expected)
    if run.unknown:
        flags.append(f"metrics that are not known here, and not shown: {', '.join(run.unknown)}")
    return flags + compare_columns(run)


def _split_of(spec):
    """Ratio and unit of the standard split that a run's rows are compared with."""
    return ("5", None) if spec.split_file else (spec.ratio, spec.unit)


def same(run, what, claimed, found):
    """Raise unless a value in a run's record is the suite's."""
    if json.dumps(claimed, sort_keys=True) != json.dumps(found, sort_keys=True):
        raise MubenchError(
            f"{run.folder}: {what} is {str(claimed)[:80]} in {RESULT}, but {str(found)[:80]} in the suite"
        )


def _compare_code(run, task, method):
    """Flags on the code of a run; its id, hyperparameters, recipe and taxonomy are those of the suite's ``method``
    (None: it is no method of the suite)."""
    result, spec = run.result, run.spec
    if run.old:
        return ["made with another version of task, method or engine"]
    flags = []
    outside = spec.checkpoint or spec.split_file or ".py" in spec.method  # the id depends on files that are not here
    if method and result.method.get("fingerprint") not in (None, registry.methods.fingerprint(spec.method)):
        flags.append(f"made with other code of {spec.method} than the suite's")
    elif not (result.migrated or outside):
        same(run, "id", result.id, spec.id)
    if method:
        facts = {
            "hyperparameters": method.hyperparameters(),
            "recipe": asdict(method.recipe(task.model_recipe(spec.model))),
            "taxonomy": method.taxonomy(),
        }
        for part, values in facts.items():
            recorded = result.method.get(part) or {}  # what is not recorded is newer, and had its default
            for name, value in recorded.items():
                same(run, f"{part}.{name}", value, values.get(name))
    return flags


def compare_original(run, task):
    """Compare a run's original with the card that ships with the suite or, of a seed that everybody trains, with the
    one here. Records of schema 1 all start from the first. Returns flags."""
    seed = run.result.checkpoint.get("seed") or 0
    card = (trained_dir(task, run.spec.model, seed) if seed else task.originals_dir(run.spec.model)) / CARD
    if run.spec.checkpoint:
        return ["original of its own"]
    if not card.is_file():
        return [f"original of seed {seed} not compared: it does not ship with the suite"]
    card = json.loads(card.read_text(encoding="utf-8"))
    if seed and run.result.checkpoint["sha256"] != card["sha256"]:  # additions in another order give other weights
        return [f"original of seed {seed} is another than the one trained here"]
    same(run, "checkpoint.sha256", run.result.checkpoint["sha256"], card["sha256"])
    if not run.spec.limit:
        same(run, "checkpoint.test_score", run.result.checkpoint["test_score"], card["scores"]["test"])
    return []


def _compare_split(run, split):
    """Compare a run's split with the facts of the standard one; of a forget set of its own, only the data. Returns
    flags."""
    if run.spec.split_file:
        same(run, "split.data", run.result.split["data"], split["data"])
        return ["forget set of its own"]
    for name, value in split.items():
        same(run, f"split.{name}", run.result.split.get(name), value)
    return []


def _compare_examples(run, expected):
    """Raise unless a run predicts the task's own examples, with their own targets."""
    for name, rows in expected.groupby("set"):
        predicted = run.frame[run.frame["set"] == name]
        if not np.array_equal(predicted["index"], rows["index"]):
            raise MubenchError(
                f"{run.folder}: the examples of the {name} set are others than the task's, {len(predicted)} for"
                f" {len(rows)}"
            )
        if off := int((predicted["target"].to_numpy() != rows["target"].to_numpy()).sum()):
            raise MubenchError(f"{run.folder}: {off} targets of the {name} set are not the task's own")
    if len(expected) != len(run.frame):
        raise MubenchError(f"{run.folder} has {len(run.frame)} predictions, the task {len(expected)} examples")


def _compare_probed(run, expected):
    """Raise where a probe predicts examples that a scored set of the task does not have, or with other targets."""
    for probe, frame in run.probes.items():
        rows = frame[frame["set"].isin(expected["set"].unique())]
        both = rows.merge(expected, on=["set", "index"], how="left", suffixes=("", "_own"))
        if off := int((both["target"] != both["target_own"]).sum()):
            raise MubenchError(
                f"{run.folder}: {off} of {len(rows)} predictions of the probe {probe} are of no example of the task's"
                " sets, or have other targets than the task's own"
            )


@functools.lru_cache(maxsize=8)
def _expected(task, model, ratio, unit, limit):
    """Set, index and target of all examples that a run predicts, as a frame, and the facts of the split."""
    import torch

    task = suite_task(task)
    split, frames = task.split(ratio, unit=unit), []
    for name, view in scored_sets(task, model, split, limit).items():
        batches = [task.targets(view[chunk]) for chunk in torch.arange(len(view)).split(256)]
        targets = [target for batch in batches for target in (batch if isinstance(batch, list) else batch.tolist())]
        frames.append(pd.DataFrame({"set": name, "index": view.rows.numpy(), "target": targets}))
    return pd.concat(frames, ignore_index=True).sort_values(["set", "index"], ignore_index=True), split_facts(split)


@functools.lru_cache(maxsize=2)
def suite_task(name):
    """A task of the suite, kept: its data are read once. A file that a submission names is never imported."""
    if name not in registry.tasks.names():
        raise MubenchError(
            f"{printable(name)!r} is no task of the suite: results on a task of one's own cannot be compared"
        )
    return registry.load_task(name)


def scored_sets(task, model, split, limit):
    """Name → examples of the sets that a run predicts."""
    from mubench.measure.predict import shown

    return shown(task, task.sets(model, split, limit))
