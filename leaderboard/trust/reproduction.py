"""Reproduced: the run is done again from its spec, and compared."""

import tempfile

from mubench import registry
from mubench.leaderboard.trust.levels import Unavailable
from mubench.leaderboard.trust.suite import same, suite_task
from mubench.leaderboard.trust.untrusted import library_errors, printable
from mubench.measure.metrics import METRICS
from mubench.records.predictions import agree
from mubench.records.result import read
from mubench.records.store import Store
from mubench.spec import make_spec

TOLERANCE = 0.03  # of metrics of a run done again on another machine


def reproduce(run):
    """Do a run again and compare the weights and, where these are others, as on another machine, the metrics.

    run: a `CheckedRun`. Its other probes are not done again.

    Returns a sentence on what was found. Raises `Unavailable` where it cannot be done again, `MubenchError` where a
    metric differs by more than `TOLERANCE`.
    """
    from mubench.runner import run_spec

    spec = run.spec
    _refuse_unrepeatable(run)
    with tempfile.TemporaryDirectory() as folder, library_errors(run.folder):
        found = read(run_spec(make_spec(**spec.model_dump()), Store(folder), progress=False))
    equal = found.weights == run.result.weights
    if equal and not run.result.migrated:  # work decides who is ranked: the same run has the same
        for name in ("examples", "steps", "flops", "stopped_by"):
            same(run, f"costs.{name}", run.result.costs.get(name), found.costs[name])
    claimed = {n: v for n, v in run.result.metrics.items() if n in METRICS and METRICS[n].probe is None}
    agree(run.folder, claimed, found.metrics, 1e-12 if equal else TOLERANCE, "when run again")
    apart = max((abs(v - found.metrics[n]) for n, v in claimed.items() if v is not None), default=0)
    weights = "the same weights" if equal else "other weights, as on another machine"
    return f"run again in {found.costs['unlearning_seconds']:.1f} s: {weights}, metrics within {apart:.4f}"


def _refuse_unrepeatable(run):
    spec = run.spec
    if spec.method not in registry.methods.names():
        raise Unavailable(
            f"{printable(spec.method)!r} is no method of the suite, and a stranger's code is not run; who trusts it"
            " does that where it can do no harm"
        )
    suite_task(spec.task)
    if spec.checkpoint or spec.split_file:
        raise Unavailable("an original or forget set of its own is not run again")
    if (run.result.checkpoint.get("seed") or 0) != spec.seed:
        raise Unavailable(
            f"its original is not that of seed {spec.seed}, as in all records of schema 1: a run starts from "
            "that of its seed now"
        )
