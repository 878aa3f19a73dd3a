"""A sweep: what everybody who does its runs must know, and how far it is."""

import json
import multiprocessing
import os
import time
from dataclasses import dataclass

from mubench.records.result import RESULT
from mubench.records.store import ERROR, Store


class Progress:
    """How far a sweep is: a byte for each run (left, done or failed), in memory that its workers share.

    There is no lock, so none is held for ever by a worker that dies.

    specs: the runs to do.
    before: how many others were done before.
    """

    LEFT, DONE, FAILED = range(3)

    def __init__(self, specs, before=0):
        self.rows, self.before, self.started = {spec.id: row for row, spec in enumerate(specs)}, before, time.time()
        self.states = multiprocessing.get_context("spawn").Array("b", len(specs), lock=False)

    def mark(self, spec, failed=False):
        """A run is over."""
        self.states[self.rows[spec.id]] = self.FAILED if failed else self.DONE

    def __str__(self):
        states = bytes(self.states)
        left, failed = states.count(self.LEFT), states.count(self.FAILED)
        over = len(states) - left
        parts = [f"{self.before + over}/{self.before + len(states)}", *[f"{failed} failed"] * bool(failed)]
        if left and over:
            parts.append(f"~{span((time.time() - self.started) / over * left)} left")
        return f"[{', '.join(parts)}]"


@dataclass
class Sweep:
    """The runs of a grid that are to be done, as every process sees them that does some.

    todo: the `RunSpec` of each run.
    store: the `Store` of their results.
    since: the store's time at the beginning; failures before it count for nothing.
    force: do again what is done.
    options: ``save_model``, ``eval_every`` and ``attack``, as in `mubench.run`.
    progress: the `Progress`.
    """

    todo: list
    store: Store
    since: float
    force: bool
    options: dict
    progress: Progress

    def settled(self, spec):
        """Whether nothing is left to do for a run."""
        if self.store.failed(spec, self.since):
            return True
        asked = self.options.get("eval_every"), probes_of(self.options), self.options.get("save_model")
        if not self.store.done(spec, *asked):
            return False
        return not self.force or (self.store.path(spec) / RESULT).stat().st_mtime >= self.since

    def failed(self, spec):
        """Whether a run has failed in this sweep."""
        return self.store.failed(spec, self.since)


def probes_of(options):
    """The `Probe`s that the options of a sweep ask for; without any, PyTorch is not imported."""
    if not options.get("attack"):
        return ()
    from mubench.measure.probes.base import load_probes

    return load_probes(options["attack"])


def span(seconds):
    """Seconds in words: ``40 s``, ``12 min``, ``3.5 h``, ``2.0 days``."""
    for unit, size in (("days", 86400), ("h", 3600)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def reason(spec, out):
    """Why a run failed, by the record in a folder of results."""
    path = Store(out).path(spec) / ERROR
    return (
        json.loads(path.read_text(encoding="utf-8"))["reason"]
        if path.is_file()
        else "no reason recorded: is the disk full?"
    )


def summary(result):
    """The main scores of a `Result`, in per cent, and its time, on one line."""
    show = {"test": "test_score", "forget": "forget_score", "retain": "retain_score", "MIA AUC": "mia_loss_auc"}
    values = [
        f"{label} {100 * result.metrics[name]:.1f}"
        for label, name in show.items()
        if result.metrics.get(name) is not None
    ]
    return ", ".join([*values, f"{result.seconds:.1f} s"])


def line(spec, text, progress):
    """What a sweep says of a run: which it is, what came of it, and how far the sweep is."""
    return f"{spec.folder.parent}, seed {spec.seed}: {text} {progress}"


def together():
    """Whether several processes work on the same run."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def rank():
    """The number of this process among those that work on the same run."""
    return int(os.environ.get("RANK", 0))
