"""The trials of a tuning: settings that Optuna suggests, tried on validation data, and kept in a journal."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import sys

from mubench.cache import whole, writing
from mubench.errors import MubenchError
from mubench.registry import methods
from mubench.spec import Incompatible, make_spec, retrain_of

OBJECTIVE = "gap to retrain, the lower the better, with validation rows instead of test rows"
WORST = 1.0  # the gap of a model that diverged
FOLDER = ".tune"  # of trials, in a folder of results
SUGGESTIONS = 20  # in a row that are no news, after which nothing is left to try


class Trials:
    """The trials of one spec: what is searched, and the journal that keeps them.

    spec: the run whose hyperparameters are chosen.
    out: the folder of results.
    number: how many settings are tried.
    budget_seconds: no trial begins after so many seconds of trials (None: no limit).

    Raises `Incompatible` where there is nothing to tune.
    """

    def __init__(self, spec, out, number, budget_seconds):
        method = methods.get(spec.method)
        self.spec, self.out, self.number, self.budget_seconds = spec, out, number, budget_seconds
        given = {*spec.params, *["lr_factor"] * ("lr" in spec.params)}
        self.space = {name: choice for name, choice in method.space(spec.protocol).items() if name not in given}
        if not self.space:
            raise Incompatible(f"{method.name} has nothing to tune" + (" besides what is given" if spec.params else ""))
        self.defaults = {name: method.defaults(spec.protocol)[name] for name in self.space}
        self.prunes = method.finish is methods.base.finish and not method.wrap
        digest = hashlib.sha256(json.dumps([spec.id, self.space], sort_keys=True).encode()).hexdigest()[:12]
        name = f"{spec.task.rpartition('/')[2]}-{method.name}-{digest}".replace(":", "-")
        self.journal = os.path.join(out, FOLDER, name)

    def variant(self, params, **fields):
        """The spec with other hyperparameters."""
        changes = {"params": self.spec.params | params} | fields
        return make_spec(**self.spec.model_dump(exclude_defaults=True) | changes)

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
        """Optuna's study of this journal."""
        import optuna

        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(self.journal + ".journal"))
        study = optuna.create_study(study_name="tune", storage=storage, direction="minimize", load_if_exists=True)
        # The random numbers depend on what is done: an interrupted study does not draw its first settings again.
        seed = self.spec.seed + len(study.trials)
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, constant_liar=True)
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
        if bad := [process.exitcode for process in running if process.exitcode]:
            if 130 in bad:
                raise KeyboardInterrupt
            raise MubenchError(
                f"a worker died with exit code {bad[0]} (out of memory?): the same command goes on, --workers 1 says"
                " more"
            )
        return None

    def work(self, report=print):
        """Try, in this process, until nothing is left to try."""
        study = self.study()
        while trial := self._next(study):
            self._try(study, trial)
            report(f"{self.spec.folder.parent}, {_told(study.trials[trial.number])}", flush=True)

    def _next(self, study):
        """The next trial to do, asked by one worker at a time.

        None where all are done, or `SUGGESTIONS` in a row are no news.
        """
        from filelock import FileLock

        with FileLock(self.journal + ".next.lock"):
            for _ in range(SUGGESTIONS):
                begun = self.counted(study)
                if len(begun) >= self.number or self.budget_seconds and _seconds(begun) >= self.budget_seconds:
                    return None
                trial = study.ask({name: _distribution(choice) for name, choice in self.space.items()})
                if trial.params not in [t.params for t in begun]:
                    return trial
                study.tell(trial, state=_state().FAIL)
        return None

    def counted(self, study):
        """Trials begun, without those that were begun again or tried nothing new."""
        return [t for t in study.get_trials(deepcopy=False) if t.state not in (_state().WAITING, _state().FAIL)]

    def _try(self, study, trial):
        import optuna

        from mubench.job import Job
        from mubench.train.loop import NonFiniteLoss

        job, retrained = Job.of(self.variant(trial.params)), self.retrained()

        def observe(context):
            trial.report(_objective(job, context.student, retrained), context.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            job.train(progress=False, observe=observe if self.prunes else None)
            study.tell(trial, _objective(job, job.unlearned.model, retrained))
        except NonFiniteLoss:
            study.tell(trial, WORST)
        except optuna.TrialPruned:
            study.tell(trial, state=_state().PRUNED)

    def retrained(self):
        """The predictions of the model retrained without D_f, which trials are compared with.

        It is trained once, for all methods.
        """
        import pandas as pd
        from filelock import FileLock

        from mubench.job import Job

        spec = retrain_of(self.spec)
        path = os.path.join(self.out, FOLDER, f"retrain-{spec.id}.parquet")
        with FileLock(path + ".lock"):
            if not os.path.exists(path):
                job = Job.of(spec)
                job.train(progress=False)
                with whole(path) as temporary:
                    _predictions(job, job.unlearned.model).to_parquet(temporary)
        return pd.read_parquet(path)

    def choice(self):
        """The best setting, of equals the earliest, and what a result records of how it was found."""
        trials = self.counted(self.study())
        complete = [t for t in trials if t.state == _state().COMPLETE]
        best = min(complete, key=lambda t: (t.value, t.number))
        stored = json.loads(json.dumps(self.defaults))
        default = next((t for t in complete if t.params == stored), None)
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


@contextlib.contextmanager
def silent_optuna():
    """Optuna reports errors only; what the user has set is put back."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _worker(trials, workers):
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    try:
        with silent_optuna():
            trials.work()
    except KeyboardInterrupt:
        sys.exit(130)


def _predictions(job, model):
    """Of a model of the job; validation rows go by the name of test rows, which nobody looks at."""
    from mubench.measure.predict import predict
    from mubench.train.distributed import threads

    shown = job.task.scored({name: job.sets[name] for name in ("validation", "forget", "retain")})
    sets = {"test": shown.pop("validation"), **shown}
    with threads(job.task.threads):
        return predict(job.task, model, sets, accelerator=job.context.accelerator)


def _objective(job, model, retrained):
    """`OBJECTIVE` of a model of the job, in [0, 1]; where it is undefined, the worst."""
    from mubench.measure.metrics import METRICS, Predictions
    from mubench.measure.predict import scorer

    facts = {"num_labels": job.task.num_labels, "random_guess": job.task.random_guess, "scorer": scorer(job.task)}
    compared = Predictions(_predictions(job, model), facts, Predictions(retrained, facts))
    value = float(METRICS["gap_to_retrain"].compute(compared))
    return value if value == value else WORST


def _distribution(choice):
    """What a method's space says of a hyperparameter, as Optuna's distribution."""
    from optuna import distributions

    if isinstance(choice, list):
        return distributions.CategoricalDistribution(choice)
    kind = distributions.IntDistribution if isinstance(choice[0], int) else distributions.FloatDistribution
    return kind(*choice[:2], log=choice[2:] == ("log",))


def _seconds(trials):
    return sum(t.duration.total_seconds() for t in trials if t.duration)


def _told(trial):
    """A trial on one line: its number, its value in per cent, whether it was pruned, its setting."""
    setting = " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.params.items()
    )
    value = "" if trial.value is None else f"{100 * trial.value:.1f}  "
    return f"trial {trial.number + 1}: {value}{'pruned  ' if trial.state.name == 'PRUNED' else ''}{setting}"


def _state():
    from optuna.trial import TrialState

    return TrialState
