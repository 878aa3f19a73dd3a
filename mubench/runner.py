"""The one path: RunSpec → Job → training → predictions → Result → store. All that unlearns or measures takes it."""

import time
from pathlib import Path
from typing import Any

from mubench.errors import MubenchError
from mubench.job import Job
from mubench.measure.predict import Curve
from mubench.records.result import Result, now, read
from mubench.records.store import Store
from mubench.spec import make_spec
from mubench.sweep import plan
from mubench.train.distributed import threads


def run(
    task: Any,
    method: Any = "salun",
    *,
    out: str | Path = "results",
    save_model: bool | str = False,
    eval_every: int | None = None,
    force: bool = False,
    **options: Any,
) -> Result:
    """Unlearn with one method on one task, evaluate and store; returns the `Result`.

    task, method: registry names or ``path/to/file.py:Class``.
    out: the folder of results. A run it holds is read, not repeated, unless a curve is asked for that it lacks.
    save_model: keep the weights too (of LoRA: merged), or ``"adapter"``.
    eval_every: score the sets every so many steps too (off the clock) for the result's ``curve``.
    force: do the run even if ``out`` holds it.
    options: the other fields of `RunSpec`, such as model, ratio, seed and ``params``, a dict of hyperparameters.

    Raises `MubenchError` for anything the caller can mend.
    """
    spec, store = make_spec(task=task, method=method, **options), Store(out)
    if force or not store.done(spec, eval_every):
        with store.claim(spec) as ours:
            if not ours:
                raise MubenchError(f"run {spec.id} is under way in another process on {out}")
            run_spec(spec, store, save_model, eval_every=eval_every)
    return read(store.path(spec))


def run_spec(spec, store, save_model=False, progress=True, task=None, shard=False, **options):
    """`carry_out` the job of a `RunSpec`; returns its folder in the store, where a failure is left too."""
    with store.recording(spec, plan.explained):
        carry_out(Job.of(spec, task, shard=shard), store, save_model, progress, **options)
    return store.path(spec)


def carry_out(job, store=None, save_model=False, progress=True, eval_every=None, costs=None, **facts):
    """A job to its `Result`: train, or take the ``costs`` of what was done elsewhere; predict, measure, store."""
    with threads(job.task.threads):
        job.saved(save_model)
        started, test_score, curve = now(), job.original_score("test"), Curve(job, eval_every)
        costs = costs or job.train(progress, curve.add if eval_every else None, eval_every).costs.asdict()
        clock = time.perf_counter()
        frame, exhibits = job.predict()
        measured = {"started": started, "evaluation_seconds": time.perf_counter() - clock}
        result = job.result(frame, costs, test_score, **measured, curve=curve.whole(frame, costs), **facts)
    if store and job.context.accelerator.is_main_process:
        store.write(job.options, result, frame, job.saved(save_model), exhibits)
    return result
