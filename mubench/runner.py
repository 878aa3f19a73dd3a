"""The one path: RunSpec → Job → training → probes → predictions → metrics → Result → store. All takes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mubench.errors import MubenchError
from mubench.job import Job, task_of
from mubench.measure.predict import Curve
from mubench.measure.probes import base as probes
from mubench.measure.probes.evaluate import Evaluate
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
    attack: Sequence[Any] = (),
    force: bool = False,
    **options: Any,
) -> Result:
    """Unlearn with one method on one task, evaluate and store; returns the `Result`.

    task, method: registry names or ``path/to/file.py:Class``.
    out: the folder of results. A run it holds is read, not repeated, unless a curve, a probe or weights are asked for
        that it lacks: then it is done again, and what it had besides is kept.
    save_model: keep the weights too (of LoRA: merged), or ``"adapter"``.
    eval_every: score the sets every so many steps too (off the clock) for the result's ``curve``.
    attack: probes to carry out on the unlearned model after the evaluation (`load_probes`).
    force: do the run even if ``out`` holds it.
    options: the other fields of `RunSpec`, such as model, ratio, seed and ``params``, a dict of hyperparameters.

    Raises `MubenchError` for anything the caller can mend, `ProbeFailed` where a probe fails: the rest is stored.
    """
    spec, store = make_spec(task=task, method=method, **options), Store(out, replace=force)
    attack = probes.load_probes(attack)
    if force or not store.done(spec, eval_every, attack, save_model):
        with store.claim(spec) as ours:
            if not ours:
                raise MubenchError(f"run {spec.id} is under way in another process on {out}")
            run_spec(spec, store, save_model, eval_every=eval_every, attack=attack)
    return read(store.path(spec))


def run_spec(spec, store, save_model=False, progress=True, task=None, shard=False, attack=(), **options):
    """`carry_out` the job of a `RunSpec`; returns its folder in the store, where a failure is left too."""
    with store.recording(spec, plan.explained):
        task = task or task_of(spec.task)
        attack = probes.load_probes(attack, task)
        carry_out(Job.of(spec, task, shard=shard), store, save_model, progress, attack=attack, **options)
    return store.path(spec)


def carry_out(job, store=None, save_model=False, progress=True, eval_every=None, attack=(), costs=None, **facts):
    """A job to its `Result`: train, or take the ``costs`` of what was done elsewhere; probe, measure, store."""
    with threads(job.task.threads):
        job.saved(save_model)
        for probe in attack:
            probe.refuse(job.task, job.sets)
        started, test_score, curve = now(), job.original_score("test"), Curve(job, eval_every)
        costs = costs or job.train(progress, curve.add if eval_every else None, eval_every).costs.asdict()
        evaluation = probes.carry_out(Evaluate(), job)
        frame, exhibits = evaluation.evaluated, job.exhibits()
        findings = [probes.carry_out(probe, job) for probe in attack]
        measured = {"started": started, "evaluation_seconds": evaluation.seconds}
        result = job.result(frame, costs, test_score, findings, **measured, curve=curve.whole(frame, costs), **facts)
    if store and job.context.accelerator.is_main_process:
        found = {finding.probe.name: finding.frame for finding in findings if not finding.error}
        store.write(job.options, result, frame, job.saved(save_model), exhibits, found)
    probes.raise_failed(findings, result)
    return result
