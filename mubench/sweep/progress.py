"""How far a sweep is: which of its runs are settled, how one ended, and how many are left."""

import json
import multiprocessing
import os
import time

from mubench.records.result import Store


class Progress:
    """How far a sweep is, from memory: a byte for each run (left, done or failed), shared with its workers; no lock, so
    none dies with it.
    """

    LEFT, DONE, FAILED = range(3)

    def __init__(self, specs, before=0):
        self.rows, self.before, self.started = {spec.id: row for row, spec in enumerate(specs)}, before, time.time()
        self.states = multiprocessing.get_context("spawn").Array("b", len(specs), lock=False)

    def mark(self, spec, failed=False):
        self.states[self.rows[spec.id]] = self.FAILED if failed else self.DONE

    def __str__(self):
        states = bytes(self.states)
        left, failed = states.count(self.LEFT), states.count(self.FAILED)
        now = len(states) - left
        shown = [f"{self.before + now}/{self.before + len(states)}", *[f"{failed} failed"] * bool(failed)]
        coming = [f"~{span((time.time() - self.started) / now * left)} left"] if left and now else []
        return f"[{', '.join(shown + coming)}]"


def span(seconds):
    """Seconds in words: ``40 s``, ``12 min``, ``3.5 h``, ``2.0 days``."""
    for unit, size in (("days", 86400), ("h", 3600)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def reason(spec, out):
    """Why a run failed."""
    path = Store(out).path(spec) / "error.json"
    return json.loads(path.read_text())["reason"] if path.is_file() else "no reason recorded: is the disk full?"


def settled(store, spec, since, force, options):
    """Whether a sweep that began at ``since`` has nothing left to do for a run."""
    path = store.path(spec) / "result.json"
    return (
        store.failed(spec, since)
        or store.done(spec, options.get("eval_every"))
        and (not force or path.stat().st_mtime >= since)
    )


def summary(result):
    show = {"test": "test_score", "forget": "forget_score", "retain": "retain_score", "MIA AUC": "mia_loss_auc"}
    values = [
        f"{label} {100 * result.metrics[name]:.1f}"
        for label, name in show.items()
        if result.metrics.get(name) is not None
    ]
    return ", ".join([*values, f"{result.seconds:.1f} s"])


def together():
    """Whether several processes work on the same run."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def rank():
    """The number of this process among those that work on the same run."""
    return int(os.environ.get("RANK", 0))
