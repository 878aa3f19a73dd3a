"""`mubench tune`: hyperparameters chosen on validation data, with equal trials and an equal budget for every method."""

import os
from pathlib import Path
from typing import Any

from mubench.errors import MubenchError
from mubench.records.result import Result, read
from mubench.records.store import Store
from mubench.spec import Incompatible, command, make_spec
from mubench.sweep.progress import summary
from mubench.sweep.trials import Trials, silent_optuna


def tune(
    task: Any,
    method: Any = "salun",
    trials: int = 20,
    *,
    budget_seconds: float | None = None,
    workers: int = 1,
    out: str | Path = "results",
    **options: Any,
) -> Result:
    """Choose a method's hyperparameters, then run what was chosen.

    task, method, out and options: as in `mubench.run`; ``params`` are fixed and not searched.
    trials: how many settings are tried, each on at most the examples that retraining uses (see `Budget`).
    budget_seconds: no trial begins after so many seconds of trials, those of all workers added up (None: no limit).
    workers: processes on this machine.

    The space is what the method declares (`Method.space`); the first trial is its defaults. The objective is
    `OBJECTIVE`: the model is retrained once, and no test row is looked at. A trial whose loss diverges counts as the
    worst. One that is worse than the median of the others after the same epoch is pruned, unless the method edits its
    weights after the last one. Trials are kept in ``out``: whoever is interrupted, a second call goes on.

    Returns the `Result` of the run with what was chosen. Raises `MubenchError` where there is nothing to tune, or
    another process is tuning the same.
    """
    spec = make_spec(task=task, method=method, **options)
    chosen = tune_all([spec], trials, [spec.seed], budget_seconds, workers, out)
    return read(Store(out).path(chosen[0]))


def tune_all(specs, trials=20, seeds=(0,), budget_seconds=None, workers=1, out="results", report=print):
    """`tune` for each of some specs of the first of ``seeds``, whose choices then run with all of them.

    What has nothing to tune is reported and left out. Where one fails, the others go on before that is raised.

    Returns the specs of the runs with what was chosen.
    """
    if trials < 1 or workers < 1 or budget_seconds is not None and not budget_seconds > 0:
        raise MubenchError(f"trials={trials}, workers={workers}, budget_seconds={budget_seconds}: each must be above 0")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise MubenchError(
            "tuning runs trials side by side, not one over several processes: start it without a launcher, with"
            " --workers N"
        )
    planned, left_out = [], []
    for spec in specs:
        try:
            planned.append(Trials(spec, out, trials, budget_seconds))
        except Incompatible as error:
            report(f"left out: {error}")
            left_out.append(error)
    if not planned:
        raise left_out[0]
    chosen, failures = [], []
    for each in planned:
        try:
            chosen += _choose_and_run(each, workers, seeds, report)
        except MubenchError as error:
            report(f"failed: {each.spec.folder.parent}: {error}")
            failures.append(f"{each.spec.folder.parent}: {error}")
    if failures:
        raise MubenchError(f"{len(failures)} of {len(planned)} could not be tuned, the first: {failures[0]}")
    return chosen


def _choose_and_run(trials, workers, seeds, report):
    """The specs of the runs, one for each seed, with the setting that some `Trials` choose; they are done."""
    with silent_optuna(), trials.alone():
        trials.go(workers, report)
        params, facts = trials.choice()
    asked = {"seed": list(seeds), "trials": trials.number, "budget_seconds": trials.budget_seconds}
    facts["command"] = command(trials.spec, "tune", **asked)
    chosen = [trials.variant(params, seed=seed, trials=facts["trials"]) for seed in seeds]
    for spec in chosen:
        _run(spec, Store(trials.out), facts, report)
    return chosen


def _run(spec, store, facts, report):
    """Do the run with what was chosen, unless it is done; ``facts``: how that was found."""
    from mubench.runner import run_spec

    if not store.done(spec):
        with store.claim(spec) as ours:
            if not ours:
                raise MubenchError(f"run {spec.id} is under way in another process on {store.root}")
            run_spec(spec, store, tuning=facts)
    result = summary(read(store.path(spec)))
    report(f"{spec.folder.parent}, seed {spec.seed}, tuned in {spec.trials} trials: {result}", flush=True)
