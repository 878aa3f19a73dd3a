"""`mubench tune`: hyperparameters chosen on validation data, with equal trials and an equal time budget for every
method (Optuna).
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import sys

from mubench.cache import whole, writing
from mubench.errors import MubenchError
from mubench.registry import methods
from mubench.records.result import Store, read
from mubench.spec import Incompatible, command, make_spec, retrain_of

OBJECTIVE = "gap to retrain, the lower the better, with validation rows instead of test rows"
WORST = 1.0  # the gap of a model that diverged


def tune(task, method="salun", trials=20, *, budget_seconds=None, workers=1, out="results", **options):
    """Choose a method's hyperparameters, then run what was chosen; returns its `Result`.

    task, method, out and options: as in `mubench.run`; ``params`` are fixed and not searched. The space is what the
    method declares (`Method.space`); the first trial is its defaults. trials: how many settings are tried, each on at
    most the examples that retraining uses (see `Budget`); budget_seconds: no trial begins after so many seconds of
    trials, those of all workers added up. seed: of the trials and of the run after them. The objective is `OBJECTIVE`:
    the model is retrained once, and no test row is looked at. A trial whose loss diverges counts as the worst; one that
    is worse than the median of the others after the same epoch is pruned, unless the method edits its weights after the
    last one. Trials are kept in ``out``: whoever is interrupted, a second call goes on.

    Raises `MubenchError` where there is nothing to tune, or another process is tuning the same.
    """
    spec = make_spec(task=task, method=method, **options)
    chosen = tune_all([spec], trials, [spec.seed], budget_seconds, workers, out)
    return read(Store(out).path(chosen[0]))


def tune_all(specs, trials=20, seeds=(0,), budget_seconds=None, workers=1, out="results", report=print):
    """`tune` for each of some specs of the first of ``seeds``, whose choices then run with all of them; returns the
    specs of those runs. What has nothing to tune is said and left out; where one fails, the others go on before that is
    raised."""
    if trials < 1 or workers < 1 or budget_seconds is not None and not budget_seconds > 0:
        raise MubenchError(f"trials={trials}, workers={workers}, budget_seconds={budget_seconds}: each must be above 0")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise MubenchError(
            "tuning runs trials side by side, not one over several processes: start it without a launcher, with"
            " --workers N"
        )
    plans, chosen, failed = [], [], []
    for spec in specs:
        try:
            plans.append(Plan(spec, out, trials, budget_seconds))
        except Incompatible as error:
            report(f"left out: {error}")
            failed.append(error)
    if not plans:
        raise failed[0]
    failed = []
    for plan in plans:
        try:
            with plan.alone():
                plan.go(workers, report)
                params, facts = plan.choice()
            facts["command"] = command(
                plan.spec, "tune", seed=list(seeds), trials=plan.trials, budget_seconds=plan.budget_seconds
            )
            for seed in seeds:
                found = plan.variant(params, seed=seed, trials=facts["trials"])
                _finish(found, Store(out), facts, report)
                chosen.append(found)
        except MubenchError as error:
            report(f"failed: {plan.spec.folder.parent}: {error}")
            failed.append(f"{plan.spec.folder.parent}: {error}")
    if failed:
        raise MubenchError(f"{len(failed)} of {len(plans)} could not be tuned, the first: {failed[0]}")
    return chosen


class Plan:
    """The trials of one spec: what is searched, and the journal that keeps them."""

    def __init__(self, spec, out, trials, budget_seconds):
        method = methods.get(spec.method)
        self.spec, self.out, self.trials, self.budget_seconds = spec, out, trials, budget_seconds
        given = {*spec.params, *["lr_factor"] * ("lr" in spec.params)}
        self.space = {name: choice for name, choice in method.space(spec.protocol).items() if name not in given}
        if not self.space:
            raise Incompatible(f"{method.name} has nothing to tune" + (" besides what is given" if spec.params else ""))
        self.defaults = {name: method.defaults(spec.protocol)[name] for name in self.space}
        self.prunes = method.finish is methods.base.finish
        digest = hashlib.sha256(json.dumps([spec.id, self.space], sort_keys=True).encode()).hexdigest()[:12]
        self.journal = os.path.join(
            out, ".tune", f"{spec.task.rpartition('/')[2]}-{method.name}-{digest}".replace(":", "-")
        )

    def variant(self, params, **fields):
        """The spec with other hyperparameters."""
        said = self.spec.model_dump(exclude_defaults=True) | {"params": self.spec.params | params} | fields
        return make_spec(**said)

    @contextlib.contextmanager
    def alone(self):
        """Nobody else tunes this meanwhile; trials that somebody was killed in are begun again."""
        from filelock import FileLock, Timeout

        with writing(self.out):
            os.makedirs(os.path.dirname(self.journal), exist_ok=True)
        try:
            with FileLock(self.journal + ".lock", blocking=False):
                study = self.study()
                if not study.trials:
                    study.enqueue_trial(self.defaults)
                for trial in study.get_trials(states=[_state().RUNNING]):
                    study.tell(trial.number, state=_state().FAIL)
                    study.enqueue_trial(trial.params)
                yield
        except Timeout:
            raise MubenchError(f"{self.spec.method} is being tuned by another process on {self.out}") from None

    def study(self):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(self.journal + ".journal"))
        study = optuna.create_study(study_name="tune", storage=storage, direction="minimize", load_if_exists=True)
        # Random numbers that depend on what is done: a study that was interrupted does not draw its first settings
        # again.
        study.sampler = optuna.samplers.TPESampler(
            seed=self.spec.seed + len(study.trials), n_startup_trials=5, constant_liar=True
        )
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4) if self.prunes else optuna.pruners.NopPruner()
        return study

    def go(self, workers, report=print):
        """Try until the trials, or their seconds, are used up."""
        if workers == 1:
            return self.work(report)
        context = multiprocessing.get_context("spawn")
        running = [context.Process(target=_worker, args=(self, workers)) for _ in range(workers)]
        for process in running:
            process.start()
        try:
            for process in running:
                process.join()
        finally:
            for process in running:
                process.terminate()
        if bad := [p.exitcode for p in running if p.exitcode]:
            if 130 in bad:
                raise KeyboardInterrupt
            raise MubenchError(
                f"a worker died with exit code {bad[0]} (out of memory?): the same command goes on, --workers 1 says"
                " more"
            )

    def work(self, report=print):
        study = self.study()
        while trial := self._next(study):
            self._try(study, trial)
            done = study.trials[trial.number]
            value = "" if done.value is None else f"{100 * done.value:.1f}  "
            report(
                f"{self.spec.folder.parent}, trial {trial.number + 1}:"
                f" {value}{'pruned  ' if done.state.name == 'PRUNED' else ''}{_settings(done)}",
                flush=True,
            )

    def _next(self, study):
        """The next trial to do, asked by one worker at a time; None where all are done, or 20 suggestions in a row are
        no news.
        """
        from filelock import FileLock

        with FileLock(self.journal + ".next.lock"):
            for _ in range(20):
                done = self.counted(study)
                if len(done) >= self.trials or self.budget_seconds and _seconds(done) >= self.budget_seconds:
                    return None
                trial = study.ask({name: _distribution(choice) for name, choice in self.space.items()})
                if trial.params not in [t.params for t in done]:
                    return trial
                study.tell(trial, state=_state().FAIL)

    def counted(self, study):
        """Trials begun, without those that were begun again or tried nothing new."""
        return [t for t in study.get_trials(deepcopy=False) if t.state not in (_state().WAITING, _state().FAIL)]

    def _try(self, study, trial):
        import optuna

        from mubench.train.loop import NonFiniteLoss
        from mubench.job import Job

        job, retrained = Job.of(self.variant(trial.params)), self.retrained()

        def observe(context):
            trial.report(_objective(job, retrained), context.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            job.train(progress=False, observe=observe if self.prunes else None)
            study.tell(trial, _objective(job, retrained))
        except NonFiniteLoss:
            study.tell(trial, WORST)
        except optuna.TrialPruned:
            study.tell(trial, state=_state().PRUNED)

    def retrained(self):
        """The predictions of the model retrained without D_f, which trials are compared with; trained once, for all
        methods.
        """
        import pandas as pd
        from filelock import FileLock

        from mubench.job import Job

        spec = retrain_of(self.spec)
        path = os.path.join(self.out, ".tune", f"retrain-{spec.id}.parquet")
        with FileLock(path + ".lock"):
            if not os.path.exists(path):
                job = Job.of(spec)
                job.train(progress=False)
                with whole(path) as temporary:
                    _predictions(job).to_parquet(temporary)
        return pd.read_parquet(path)

    def choice(self):
        """The best setting, of equals the earliest, and what a result says of how it was found."""
        trials = self.counted(self.study())
        complete = [t for t in trials if t.state == _state().COMPLETE]
        best = min(complete, key=lambda t: (t.value, t.number))
        default = next((t for t in complete if t.params == _storable(self.defaults)), None)
        return best.params, {
            "objective": OBJECTIVE,
            "value": best.value,
            "default_value": default and default.value,
            "trials": len(trials),
            "pruned": len(trials) - len(complete),
            "seconds": _seconds(trials),
            "budget_seconds": self.budget_seconds,
            "seed": self.spec.seed,
            "space": {name: list(choice) for name, choice in self.space.items()},
        }


def _worker(plan, workers):
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    try:
        plan.work()
    except KeyboardInterrupt:
        sys.exit(130)


def _predictions(job):
    """Of the student as it is now; validation rows go by the name of test rows, which nobody looks at."""
    from mubench.train.distributed import threads
    from mubench.measure.predict import predict

    shown = job.task.scored({name: job.sets[name] for name in ("validation", "forget", "retain")})
    with threads(job.task.threads):
        return predict(
            job.task,
            job.context.student,
            {"test": shown.pop("validation"), **shown},
            accelerator=job.context.accelerator,
        )


def _objective(job, retrained):
    """`OBJECTIVE` of the student as it is now, in [0, 1]; where it is undefined, the worst."""
    from mubench.measure.predict import scorer
    from mubench.measure.metrics import METRICS, Predictions

    facts = {"num_labels": job.task.num_labels, "random_guess": job.task.random_guess, "scorer": scorer(job.task)}
    value = float(
        METRICS["gap_to_retrain"].compute(Predictions(_predictions(job), facts, Predictions(retrained, facts)))
    )
    return value if value == value else WORST


def _finish(spec, store, facts, report):
    from mubench.sweep.progress import summary
    from mubench.runner import run_spec

    if not store.done(spec):
        with store.claim(spec) as mine:
            if not mine:
                raise MubenchError(f"run {spec.id} is under way in another process on {store.root}")
            run_spec(spec, store, tuning=facts)
    report(
        f"{spec.folder.parent}, seed {spec.seed}, tuned in {spec.trials} trials: {summary(read(store.path(spec)))}",
        flush=True,
    )


def _distribution(choice):
    from optuna import distributions as of

    if isinstance(choice, list):
        return of.CategoricalDistribution(choice)
    kind = of.IntDistribution if isinstance(choice[0], int) else of.FloatDistribution
    return kind(*choice[:2], log=choice[2:] == ("log",))


def _storable(params):
    return json.loads(json.dumps(params))


def _seconds(trials):
    return sum(t.duration.total_seconds() for t in trials if t.duration)


def _settings(trial):
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.params.items()
    )


def _state():
    from optuna.trial import TrialState

    return TrialState
