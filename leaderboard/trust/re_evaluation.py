"""Re-evaluated: predictions are made again from the weights, and compared."""

import functools
import math
import os
import tempfile
from pathlib import Path

import numpy as np

from mubench.errors import MubenchError
from mubench.leaderboard.trust.levels import Unavailable
from mubench.leaderboard.trust.limits import LIMITS
from mubench.leaderboard.trust.suite import same, scored_sets, suite_task
from mubench.leaderboard.trust.untrusted import library_errors, printable, read_bytes
from mubench.models import networks
from mubench.records.store import MODEL

SAMPLE = 256  # examples of each set that are predicted again
# How far off predictions made again on another machine may be, by precision, relative to the largest number.
TOLERANCES = {"no": 0.01, "bf16": 0.1, "fp16": 0.05}
STRAYS = 0.01  # share of examples that may be off by more: near ties go either way


def re_evaluate(run, folder=None, sample=SAMPLE, seed=None, limits=LIMITS):
    """Predict examples again with a run's weights, and compare.

    run: a `CheckedRun`.
    folder: of the weights; None: saved with the run.
    sample: how many examples of each set; None: all.
    seed: of the draw of examples; None: one that nobody knew before.
    limits: on the weights.

    Returns a sentence on what was found. Raises `Unavailable` where there is nothing to compare, `MubenchError` where
    predictions differ.
    """
    task = suite_task(run.spec.task)
    network = _evaluated_network(run, task, Path(folder or run.folder / MODEL), limits)
    if run.frame is None:
        raise Unavailable(f"{run.folder} has no predictions to compare with those of its weights")
    if run.spec.split_file:
        raise Unavailable(f"{run.folder}: predictions on a forget set of its own are not made again")
    from mubench.measure.predict import BARE

    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    again = _predict_sample(run, task, network, sample, seed)
    both = again.merge(run.frame, on=["set", "index"], suffixes=("_again", ""), validate="one_to_one")
    if len(both) != len(again):
        raise MubenchError(f"{run.folder} lacks {len(again) - len(both)} of {len(again)} examples drawn by seed {seed}")
    for name in again.columns.difference(["set", "index"]):
        if name not in run.frame:
            raise MubenchError(f"{run.folder} has no column {name!r}, its weights give one")
        rows = ~both["set"].isin(BARE) if name == "logits" else slice(None)  # records of before have them there, too
        _compare_column(run, name, both.loc[rows, name], both.loc[rows, f"{name}_again"], seed)
    return f"{len(again)} predictions made again from weights {run.result.weights[:12]}, drawn by seed {seed}"


def _evaluated_network(run, task, folder, limits):
    """The network or wrapper with the weights in a folder; raises where those are not the ones that were evaluated."""
    wrapper = run.result.model.get("wrapper")
    if wrapper and not wrapper["loads"]:
        raise Unavailable(
            f"{run.folder}: {printable(wrapper['name'])} is a wrapper of somebody's own, whose code is in no file:"
            " it can be recomputed from its predictions only, or run again by who has its method (--rerun)"
        )
    is_wrapper = os.path.lexists(folder / networks.WRAPPER)
    if folder.name not in (MODEL, run.result.id) or not (is_wrapper or networks.weights(folder)):
        raise Unavailable(
            f"{run.folder} has no weights in safetensors, in {MODEL}/ or in a folder {run.result.id}/ on the hub"
        )
    load = functools.partial(_wrapper, run) if is_wrapper else task_network
    network = load(task, run.spec.model, folder, limits)
    same(run, "model.wrapper", wrapper, network.asdict() if is_wrapper else None)
    if (found := networks.weights_hash(network)) != run.result.weights:
        raise MubenchError(
            f"{run.folder}: the weights given have hash {found[:12]}…, those evaluated {str(run.result.weights)[:12]}…"
        )
    return network


def _wrapper(run, task, model, folder, limits):
    """The wrapper in a folder, its parts networks of the task's models, and around the original of the run."""
    from mubench.models import originals, wrappers

    def original():
        if run.spec.checkpoint:
            raise Unavailable(f"{run.folder}: a wrapper around an original of its own, which is not here")
        try:
            network, facts = originals.load(task, model, seed=run.spec.seed)
        except MubenchError as error:
            raise Unavailable(f"{run.folder}: a wrapper around the original, and {error}") from None
        if run.spec.seed and facts["sha256"] != run.result.checkpoint["sha256"]:
            raise Unavailable(
                f"{run.folder}: the original of seed {run.spec.seed} it wraps is not the one trained here"
            )
        return network

    def part(inner, kind):
        return task_network(task, originals.model_of(task, model, kind), inner, limits)

    with library_errors(folder):
        return wrappers.load(folder, original, part)


def task_network(task, model, folder, limits=LIMITS):
    """The task's own network, of its own card's configuration, with the weights in the safetensors files of a folder.

    A stranger's configuration is not read. Raises `MubenchError` where weights are missing or of another shape.
    """
    from safetensors.torch import load, save_file

    network, given = task.build(model, blank=True), {}
    most = min(limits.weights, 4 * sum(t.numel() * t.element_size() for t in network.state_dict().values()) + 2**20)
    for path in networks.weights(folder):
        data = read_bytes(path.resolve(), most)  # the hub's cache is made of links; in a submission there are none
        with library_errors(path):
            given |= load(data)
    with tempfile.TemporaryDirectory() as aside, library_errors(folder):
        networks.save_configuration(network, aside)
        save_file(given, Path(aside) / networks.weights_name(network), {"format": "pt"})
        network, lost = networks.read(type(network), aside)
    if lost:
        raise MubenchError(
            f"{folder}: {len(lost)} weights of {model} of {task.name} are missing or of another shape, among them"
            f" {lost[0]}"
        )
    return network.eval()


def _predict_sample(run, task, network, sample, seed):
    """Predictions of so many examples of each set, as a frame."""
    import torch

    from mubench.measure.predict import UNTRAINED, predict, with_untrained
    from mubench.train.distributed import threads

    spec, draw, chosen = run.spec, torch.Generator().manual_seed(seed), {}
    for name, view in scored_sets(task, spec.model, task.split(spec.ratio, unit=spec.unit), spec.limit).items():
        sample = len(view) if task.batchwise else sample  # what is predicted of one depends on the others
        chosen[name] = view.select(torch.randperm(len(view), generator=draw)[:sample].sort().values)
    with threads(task.threads), library_errors(run.folder):
        untrained = lambda: task.build(spec.model, UNTRAINED + spec.seed, blank=True)
        forget = {name: view for name, view in chosen.items() if name == "forget"}
        return with_untrained(predict(task, network, chosen), lambda: predict(task, untrained(), forget))


def _compare_column(run, name, claimed, found, seed):
    """Raise where a column differs in more than `STRAYS` of the examples."""
    tolerance = TOLERANCES[run.spec.precision]
    off = [not _near(a, b, tolerance) for a, b in zip(claimed, found, strict=True)]
    if sum(off) > STRAYS * len(off):
        raise MubenchError(
            f"{run.folder}: {name} of {sum(off)} in {len(off)} examples (drawn by seed {seed}) is not what the"
            f" weights give, claimed for one {_first(claimed, off)}, found {_first(found, off)};"
            f" tolerance: {tolerance:g} of the largest number, in all but {STRAYS:.0%} of examples"
        )


def _first(values, off):
    return printable(next(value for value, wrong in zip(values, off, strict=True) if wrong))[:40]


def _near(claimed, found, tolerance):
    """Whether two predictions are equal, numbers up to a ``tolerance`` relative to the largest one found."""
    if isinstance(found, (str, int, np.integer)):
        return claimed == found
    gone = [value is None or isinstance(value, float) and math.isnan(value) for value in (claimed, found)]
    if any(gone):
        return all(gone)
    claimed, found = np.atleast_1d(np.asarray(claimed, "float64")), np.atleast_1d(np.asarray(found, "float64"))
    if claimed.shape != found.shape:
        return False
    largest = max(1.0, np.abs(found[np.isfinite(found)]).max(initial=0))
    return bool(np.allclose(claimed, found, rtol=0, atol=tolerance * largest, equal_nan=True))
