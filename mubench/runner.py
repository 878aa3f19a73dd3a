"""The one path: RunSpec → task → split → original checkpoint → method on the engine → evaluation → result."""
import functools
import hashlib
import os
import platform
import re
import shlex
import subprocess
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mubench import curriculum, originals, plan
from mubench.engine import Budget, Context, Engine, NonFiniteLoss, make_accelerator, threads
from mubench.errors import MubenchError
from mubench.evaluation import SETS, predict, scores, validator
from mubench.metrics import compute_all
from mubench.registry import load_method, load_task
from mubench.results import Result, RunSpec, Store, make_spec, now, split_facts, task_facts

UNTRAINED = 1_000_000  # added to the seed: ZRF's untrained model is no teacher that a method has imitated


@functools.lru_cache(maxsize=2)
def task_of(reference):
    return load_task(reference)  # kept: the runs of a grid share the decoded data


def run_spec(spec, store, save_model=False, progress=True, task=None, tuning=None, eval_every=None):
    """Run a `RunSpec` and store what came of it; returns the folder of the result (on every process). save_model: keep the unlearned
    weights (adapters merged into them), or with ``"adapter"`` those alone; task: its task as an instance where that is not what its
    name stands for (a sample of it); tuning: how its hyperparameters were chosen, as recorded in the result; eval_every: score the sets
    after every so many steps too, off the clock, for the result's ``curve``."""
    task = task or task_of(spec.task)
    with threads(task.threads):
        return _run(task, spec, store, save_model, progress, tuning, eval_every)


@dataclass
class Unlearning:
    """A `RunSpec` with all it needs: ``run()`` unlearns, then ``context.student`` is the unlearned model."""

    task: object
    spec: RunSpec
    store: Store
    method: object
    split: object
    network: object
    checkpoint: dict
    sets: dict
    recipe: object
    context: Context

    @classmethod
    def make(cls, task, spec, store):
        method, split = load_method(spec.method, **spec.params), task.split(spec.ratio, spec.split_file)
        network, checkpoint = originals.load(task, spec.model, spec.checkpoint)
        sets = task.sets(spec.model, split, spec.limit)
        fresh, blank = (functools.partial(task.build, spec.model, spec.seed, blank=b) for b in (False, True))
        context = Context(task, network, fresh, sets["forget"], sets["retain"], spec.seed, make_accelerator(spec.precision), method.start,
                          blank, sets["validation"], spec.adapt)
        return cls(task, spec, store, method, split, network, checkpoint, sets, method.recipe(task.model_recipe(spec.model)), context)

    def original_score(self, name):
        """The original's score on a set, before ``run``: from its card, or measured where there is none or only a part of the rows is used."""
        if (card := self.checkpoint["card"]) and not self.spec.limit and name in card["scores"]:
            return card["scores"][name]
        shown = self.task.scored({name: self.sets[name]})
        return scores(self.task, predict(self.task, self.network, shown, accelerator=self.context.accelerator))[name]

    def run(self, progress=True, observe=None, every=None):
        """Returns the `Costs`; ``observe`` and ``every`` as in `Engine`."""
        spec, task, accelerator = self.spec, self.task, self.context.accelerator
        limits = budget(spec, task, self.method, len(self.sets["retain"]), self.store)
        weigh = curriculum.make(spec.curriculum, spec.curriculum_lambda, spec.curriculum_tau, task.num_labels)
        return Engine(self.method, self.context, self.recipe, limits, progress=progress, observe=observe, every=every,
                      validate=validator(task, self.sets, accelerator), curriculum=weigh).run()


def _run(task, spec, store, save_model, progress, tuning, eval_every):
    if eval_every is not None and eval_every < 1:
        raise MubenchError(f"eval_every={eval_every}: it counts steps, so it must be at least 1")
    if save_model == "adapter" and not spec.adapt:
        raise MubenchError("there is no adapter to save without LoRA: add --lora, or save the model")
    started, unlearning = now(), Unlearning.make(task, spec, store)
    context, method, split, sets, checkpoint = (getattr(unlearning, n) for n in ("context", "method", "split", "sets", "checkpoint"))
    accelerator = context.accelerator
    reference = unlearning.original_score("test")
    shown, curve = task.scored({name: sets[name] for name in SETS if name in sets}), []

    def point(frame, **clocks):
        curve.append({"step": context.step, **clocks, **{f"{name}_score": value for name, value in scores(task, frame).items()}})

    def look(context):
        meter = context.meter
        frame = predict(task, context.student, {n: view for n, view in shown.items() if n != "transfer"}, accelerator=accelerator)
        point(frame, seconds=meter.seconds(), cpu_seconds=meter.cpu_seconds(), flops=meter.costs.flops)

    costs = unlearning.run(progress, look if eval_every else None, eval_every)

    clock = time.perf_counter()
    frame = predict(task, context.student, shown, task.build(spec.model, UNTRAINED + spec.seed, blank=True), accelerator)
    exhibits = task.exhibits(lambda: originals.load(task, spec.model, spec.checkpoint)[0], context.student, shown)
    seconds = time.perf_counter() - clock
    if eval_every:
        point(frame[frame["set"] != "transfer"], seconds=costs.unlearning_seconds, cpu_seconds=costs.cpu_seconds, flops=costs.flops)
    if not accelerator.is_main_process:
        return store.path(spec)
    result = Result(
        schema=1, id=spec.id, spec=spec.model_dump(), started=started, command=command(spec), tuning=tuning, curve=curve,
        task=task_facts(task),
        method={"name": method.name, "version": method.version, "paper": method.paper, "taxonomy": method.taxonomy(),
                "hyperparameters": method.hyperparameters(), "recipe": asdict(unlearning.recipe)},
        model={"name": spec.model, "class": type(unlearning.network).__name__,
               "parameters": sum(p.numel() for p in context.student.parameters()),
               **({"lora": context.adapters.asdict()} if context.adapters else {})},
        split=split_facts(split),
        checkpoint={"source": portable(checkpoint["source"]), "sha256": checkpoint["sha256"], "test_score": reference},
        costs=costs.asdict(), evaluation_seconds=seconds, metrics={}, predictions={}, weights=weights_hash(context.student),
        environment=environment(accelerator),
        status="limited" if spec.limit else "complete" if costs.stopped_by == "epochs" else "stopped")
    result.metrics = compute_all(frame, result.facts)
    saved = {"adapter": context.adapters, True: context.student}.get(save_model)
    return store.write(spec, result, frame, saved, exhibits)


def run(task, method="salun", *, model=None, ratio=5, seed=0, out="results", save_model=False, eval_every=None, force=False, **options):
    """Unlearn with one method on one task, evaluate and store; returns the `Result`.

    task, method: registry names or ``path/to/file.py:Class``; model: a model of the task (default: its first); ratio: per cent
    of D to forget, in (0, 50]; options: ``params`` (a dict of hyperparameters) and the other fields of `RunSpec`.
    save_model: keep the weights too (of LoRA: merged), or ``"adapter"``; eval_every: score the sets every so many steps too (off the clock)
    for the result's ``curve``. A run that ``out`` already holds is read, not repeated, unless ``force``, or unless a curve is asked for
    that it lacks. Raises `MubenchError` for anything the caller can mend.
    """
    from mubench.results import read

    spec, store = make_spec(task=task, method=method, model=model, ratio=ratio, seed=seed, **options), Store(out)
    if force or not store.done(spec, eval_every):
        with store.claim(spec) as mine:
            if not mine:
                raise MubenchError(f"run {spec.id} is under way in another process on {out}")
            try_run(spec, store, save_model, eval_every=eval_every)
    return read(store.path(spec))


def try_run(spec, store, save_model=False, progress=True, **options):
    """`run_spec`, leaving an ``error.json`` with the reason and what was recorded if it fails."""
    try:
        return run_spec(spec, store, save_model, progress, **options)
    except Exception as error:
        recorded = {"costs": error.costs.asdict()} if isinstance(error, NonFiniteLoss) else {}
        known = isinstance(error, MubenchError)
        why = str(error) if known else f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError) or re.search("(out of|not enough|allocate) memory", why, re.IGNORECASE):  # PyTorch's have no class in common
            why = plan.exhausted(spec, why)
        store.write_error(spec, why, traceback=None if known else traceback.format_exc(), **recorded)
        raise


def budget(spec, task, method, retain, store):
    """What the run may use: what the spec says, and by default never more than retraining: its examples by the recipe, and
    its time (`Result.seconds`) where the store holds the retrained model of the same task, model, ratio and seed on this machine: a busy
    CPU must not cut a run short that a quiet one would finish."""
    limits = {"steps": spec.max_steps, "seconds": spec.max_seconds, "examples": task.model_recipe(spec.model).epochs * retain}
    retrain = retrain_of(spec)
    if method.start == "original" and spec.max_seconds is None and store.done(retrain):
        from mubench.results import read

        known = read(store.path(retrain))
        if known.environment["machine"] == machine() and known.environment["threads"] == torch.get_num_threads():
            limits["seconds" if torch.cuda.is_available() else "cpu_seconds"] = known.seconds
    return Budget(**{name: limit for name, limit in limits.items() if limit is not None})


def retrain_of(spec):
    """The run that retrains from scratch where ``spec`` unlearns."""
    return RunSpec(**spec.model_dump(include={"task", "model", "ratio", "seed", "split_file", "checkpoint", "precision", "limit"}),
                   method="retrain")


def command(spec):
    """The command line that repeats a run."""
    words = ["mubench", "run", spec.task, spec.method, "--model", spec.model, "--ratio", spec.ratio, "--seed", str(spec.seed)]
    for name, value in spec.params.items():
        words += ["--set", f"{name}={list(value) if isinstance(value, tuple) else value}"]
    said = spec.model_dump(exclude_defaults=True, exclude={"task", "method", "model", "ratio", "seed", "params", "trials"})
    for name, value in said.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def portable(source):
    """A checkpoint's source without this machine's folders: relative to the package where it ships with it."""
    package = Path(__file__).resolve().parent.parent
    path = Path(source).resolve()
    return str(path.relative_to(package)) if path.is_relative_to(package) else source


def weights_hash(model):
    """SHA-256 over names, shapes and bytes of all weights and buffers, in alphabetical order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def machine():
    """What the hardware is, in words: comparable times come from equal ones."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def environment(accelerator):
    """Versions, hardware and git state, as recorded in every result."""
    from importlib.metadata import version

    names = ("mubench", "torch", "transformers", "datasets", "accelerate", "peft", "scikit-learn", "numpy")
    git = functools.partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True)
    try:  # a package installed inside somebody else's checkout is not tracked there
        tracked = git(["git", "ls-files", "--error-unmatch", Path(__file__).name]).returncode == 0
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip() if tracked else None
        # without locks: a run that is killed here would leave one in the checkout, and git would refuse to commit
        dirty = bool(git(["git", "--no-optional-locks", "status", "--porcelain"]).stdout.strip()) if tracked else None
    except OSError:
        commit = dirty = None
    return {"python": platform.python_version(), **{n: version(n) for n in names}, "system": platform.system(),
            "machine": machine(), "threads": torch.get_num_threads(), "processes": accelerator.num_processes,
            "precision": accelerator.mixed_precision, "git_commit": commit, "git_dirty": dirty}
