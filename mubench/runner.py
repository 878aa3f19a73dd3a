"""The one path: RunSpec → Job → training → predictions → Result → store. All that unlearns or measures goes along it,
or a part of it.
"""

import time

from mubench.train.distributed import threads
from mubench.errors import MubenchError
from mubench.measure.predict import Curve
from mubench.job import Job
from mubench.records.result import Store, now, read
from mubench.spec import make_spec
from mubench.sweep import plan


def run(task, method="salun", *, out="results", save_model=False, eval_every=None, force=False, **options):
    """Unlearn with one method on one task, evaluate and store; returns the `Result`.

    task, method: registry names or ``path/to/file.py:Class``; options: the other fields of `RunSpec`, such as model,
    ratio, seed and ``params``,
    a dict of hyperparameters. save_model: keep the weights too (of LoRA: merged), or ``"adapter"``; eval_every: score
    the sets every so many steps too (off the clock) for the result's ``curve``. A run that ``out`` already holds is
    read, not repeated, unless ``force``, or unless a curve is asked for that it lacks. Raises `MubenchError` for
    anything the caller can mend.
    """
    spec, store = make_spec(task=task, method=method, **options), Store(out)
    if force or not store.done(spec, eval_every):
        with store.claim(spec) as mine:
            if not mine:
                raise MubenchError(f"run {spec.id} is under way in another process on {out}")
            run_spec(spec, store, save_model, eval_every=eval_every)
    return read(store.path(spec))


def run_spec(spec, store, save_model=False, progress=True, task=None, shard=False, **options):
    """`carry_out` the job of a `RunSpec`; returns the folder of its result, on every process. What makes it fail is
    left there.
    """
    with store.recording(spec, plan.exhausted):
        carry_out(Job.of(spec, task, shard=shard), store, save_model, progress, **options)
    return store.path(spec)


def carry_out(job, store=None, save_model=False, progress=True, eval_every=None, costs=None, **said):
    """A job to its `Result`: train (unless ``costs`` say what that took elsewhere), predict, measure and, with a
    ``store``, keep it.
    """
    with threads(job.task.threads):
        job.saved(save_model)
        started, test_score, curve = now(), job.original_score("test"), Curve(job, eval_every)
        costs = costs or job.train(progress, curve.add if eval_every else None, eval_every).asdict()
        clock = time.perf_counter()
        frame, exhibits = job.predict()
        seconds = time.perf_counter() - clock
        result = job.result(
            frame,
            costs,
            test_score,
            started=started,
            evaluation_seconds=seconds,
            curve=curve.whole(frame, costs),
            **said,
        )
    if store and job.context.accelerator.is_main_process:
        store.write(job.options, result, frame, job.saved(save_model), exhibits)
    return result
