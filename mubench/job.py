"""A `Job`: a run with all it needs, resolved before it starts. Here alone jobs and their results are put together."""

import functools
import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mubench.models import networks, originals
from mubench.train.curriculum import make_curriculum
from mubench.cache import whole, writing
from mubench.train.context import Context
from mubench.train.distributed import make_accelerator, threads
from mubench.train.engine import Engine
from mubench.errors import MubenchError
from mubench.measure.predict import SETS, UNTRAINED, predict, scores, validator
from mubench.fingerprint import fingerprint
from mubench.records.machine import environment
from mubench.measure.metrics import compute_all
from mubench.train.recipe import Recipe
from mubench.registry import load_method, load_task
from mubench.records.result import SCHEMA, Result, split_facts, task_facts
from mubench.spec import ENGINE, Budget, Options, command


@functools.lru_cache(maxsize=2)
def task_of(reference):
    return load_task(reference)  # kept: the runs of a grid share the decoded data


@dataclass
class Job:
    """A method, or None where weights are only measured, on a context.

    task: the `Behaviour`; options: the `RunSpec` of a run on a task, else its `Options`; sets: name → examples; recipe,
    budget: what the method trains by, and the most it may use. Of a run on a task also: split, the deletion `Split`;
    checkpoint: the facts of the original; network: of the student's class.
    """

    task: object
    method: object
    options: Options
    sets: dict
    context: Context
    recipe: Recipe = None
    budget: Budget = Budget()
    split: object = None
    checkpoint: dict = None

    @classmethod
    def make(
        cls,
        task,
        method,
        options,
        sets,
        network,
        fresh,
        recipe,
        budget=None,
        blank=None,
        model=None,
        shard=False,
        **facts,
    ):
        """The one assembly: ``network`` is unlearned by a method; ``fresh`` and ``blank`` make new models (see
        `Context`); model: its name.
        """
        context = Context(
            task,
            network,
            fresh,
            sets["forget"],
            sets["retain"],
            options.seed,
            make_accelerator(options.precision),
            method.start,
            blank,
            sets.get("validation"),
            options.adapt,
            model,
            shard,
        )
        budget = budget or Budget(options.max_examples, options.max_steps, options.max_seconds)
        return cls(task, method, options, sets, context, method.recipe(recipe), budget, **facts)

    @classmethod
    def of(cls, spec, task=None, student=None, shard=False):
        """The job of a `RunSpec`. task: its task as an instance, where that is not what its name stands for (a sample
        of it); student: unlearned weights, which are only measured."""
        task = task or task_of(spec.task)
        split = task.split(spec.ratio, spec.split_file)
        sets = task.sets(spec.model, split, spec.limit)
        network, checkpoint = original(task, spec.model, spec.checkpoint, spec.seed)
        facts = {"split": split, "checkpoint": checkpoint | {"network": network}}
        if student is not None:
            context = Context(
                task, student, None, sets["forget"], sets["retain"], spec.seed, make_accelerator(spec.precision)
            )
            return cls(task, None, spec, sets, context, **facts)
        method = spec.make_method()
        fresh, blank = (functools.partial(task.build, spec.model, spec.seed, blank=b) for b in (False, True))
        return cls.make(
            task,
            method,
            spec,
            sets,
            network,
            fresh,
            task.model_recipe(spec.model),
            Budget.of(spec, method, task, len(split.retain)),
            blank,
            spec.model,
            shard,
            **facts,
        )

    @classmethod
    def of_original(cls, task, model, seed=0):
        """The job that trains the original of a task's model: retraining, on all of D."""
        sets = task.sets(model, task.split())
        return cls.make(
            task,
            load_method("retrain"),
            Options(seed=seed),
            sets | {"retain": sets["train"]},
            None,
            lambda: task.build(model, seed),
            task.model_recipe(model),
            model=model,
        )

    def train(self, progress=True, observe=None, every=None):
        """Unlearn: the student of the context is changed. Returns the `Costs`; ``observe`` and ``every`` as in
        `Engine`.
        """
        options, task = self.options, self.task
        validate = validator(task, self.sets, self.context.accelerator) if "validation" in self.sets else None
        weigh = make_curriculum(options.curriculum, options.curriculum_lambda, options.curriculum_tau, task.num_labels)
        with threads(task.threads):
            return Engine(
                self.method, self.context, self.recipe, self.budget, True, progress, validate, observe, every, weigh
            ).run()

    @property
    def shown(self):
        """Set name → the examples that are scored."""
        return self.task.scored({name: self.sets[name] for name in SETS if name in self.sets})

    def original_score(self, name):
        """The original's score on a set, before training: from its card, or measured where there is none or only a part
        of the rows is used.
        """
        if (card := self.checkpoint["card"]) and not self.options.limit and name in card["scores"]:
            return card["scores"][name]
        shown = self.task.scored({name: self.sets[name]})
        return scores(
            self.task, predict(self.task, self.checkpoint["network"], shown, accelerator=self.context.accelerator)
        )[name]

    def saved(self, what):
        """What of the student is kept: all of it (True), its ``"adapter"``, or nothing."""
        if what not in (None, False, True, "adapter"):
            raise MubenchError(f"save_model={what!r}: it is True, False or 'adapter'")
        if what == "adapter" and not self.context.adapters:
            raise MubenchError("there is no adapter to save without LoRA: add --lora, or save the model")
        return {"adapter": self.context.adapters, True: self.context.student}.get(what)

    def predict(self):
        """The predictions of the student, and files to lay beside them."""
        task, spec, student, shown = self.task, self.options, self.context.student, self.shown
        blank = task.build(spec.model, UNTRAINED + spec.seed, blank=True)
        frame = predict(task, student, shown, blank, self.context.accelerator)
        return frame, task.exhibits(
            lambda: originals.load(task, spec.model, spec.checkpoint, spec.seed)[0], student, shown
        )

    def result(self, frame, costs, test_score, **said):
        """The `Result` of a run on a task, its metrics computed from the predictions; ``said``: what only the caller
        knows.
        """
        spec, method, student, card = self.options, self.method, self.context.student, self.checkpoint
        facts = (
            {
                "name": spec.method.partition("@")[0],
                "version": 1,
                "fingerprint": None,
                "hyperparameters": {},
                "recipe": None,
            }
            if method is None
            else {
                "name": method.name,
                "version": method.version,
                "fingerprint": fingerprint(type(method)),
                "paper": method.paper,
                "taxonomy": method.taxonomy(),
                "hyperparameters": method.hyperparameters(),
                "recipe": asdict(self.recipe),
            }
        )
        status = "limited" if spec.limit else "complete" if costs["stopped_by"] == "epochs" else "stopped"
        made = Result(
            schema=SCHEMA,
            status=status,
            id=spec.id,
            spec=spec.model_dump(),
            task=task_facts(self.task),
            method=facts | said.pop("method", {}),
            engine=method and ENGINE,
            split=split_facts(self.split),
            budget=method and self.budget.asdict(),
            costs=costs,
            model={
                "name": spec.model,
                "class": type(card["network"]).__name__,
                "parameters": sum(p.numel() for p in student.parameters()),
                **({"lora": self.context.adapters.asdict()} if self.context.adapters else {}),
            },
            checkpoint={
                "source": portable(card["source"]),
                "sha256": card["sha256"],
                "test_score": test_score,
                "seed": None if spec.checkpoint else spec.seed,
            },
            metrics={},
            predictions={},
            weights=networks.weights_hash(student),
            environment=environment(self.context.accelerator),
            **{"command": command(spec, trials=spec.trials or None, max_examples=method and self.budget.examples)}
            | said,
        )
        made.metrics = compute_all(frame, made.facts)
        return made


def original(task, model, checkpoint=None, seed=0):
    """`originals.load`, the original of a seed being trained if it is not there; processes that need the same one wait
    for the first.
    """
    from filelock import FileLock

    folder = originals.trained_dir(task, model, seed)
    if checkpoint is not None or not seed or networks.weights(folder):
        return originals.load(task, model, checkpoint, seed)
    how = originals.how_to_train(task, model, seed)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise MubenchError(
            f"{task.name} has no original {model} of seed {seed} yet, and several processes cannot train it as they"
            f" begin: `{how}` first"
        )
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
    with lock:
        if not networks.weights(folder):  # nobody has trained it while we waited
            print(
                f"training the original {model} of {task.name} for seed {seed}, once: `{how}`; kept in {folder}",
                file=sys.stderr,
                flush=True,
            )
            train_original(task, model, seed=seed, progress=False)
    return originals.load(task, model, seed=seed)


def train_original(task, model, folder=None, seed=0, progress=True):
    """Train the original of a task's model on all of D by its recipe; writes weights, config and card, returns the
    card.

    folder: where to; default the user's cache, where it is found from then on. Deterministic on one machine, given the
    seed.
    """
    kept = None if folder else originals.trained_dir(task, model, seed)
    folder = Path(
        folder or kept.with_name(f".{kept.name}.{os.getpid()}")
    )  # in the cache it appears whole or not at all
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    try:
        card = _trained(Job.of_original(task, model, seed), task, model, folder, seed, progress)
        if kept:
            shutil.rmtree(kept, ignore_errors=True)
            folder.rename(kept)
        return card
    finally:
        if kept:
            shutil.rmtree(folder, ignore_errors=True)


def _trained(job, task, model, folder, seed, progress):
    costs, student = job.train(progress), job.context.student
    with threads(task.threads):
        frame, here = predict(task, student, scored(task, job.sets)), environment(job.context.accelerator)
    with whole(folder / originals.CARD) as card_file:
        with networks.no_bars():
            student.save_pretrained(folder, safe_serialization=True)
        chosen = {"validation": costs.validation} if costs.validation else {}
        card = {
            "task": task.name,
            "model": model,
            "architecture": task.models[model].architecture,
            "parameters": sum(p.numel() for p in student.parameters()),
            "seed": seed,
            "recipe": asdict(task.model_recipe(model)),
            "scores": scores(task, frame),
            **chosen,
            "data": task.split().data,
            "sha256": networks.weights_sha256(folder),
            "train_seconds": round(costs.unlearning_seconds, 1),
            "environment": {name: here[name] for name in ("python", "torch", "transformers", "machine", "threads")},
            "made": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        card_file.write_text(json.dumps(card, indent=1) + "\n")
    return card


def verify_original(task, model, checkpoint=None, seed=0):
    """Measure an original again; returns ``{"card", "scores"}``, raising if a recorded score cannot be reproduced to
    0.005.
    """
    network, facts = originals.load(task, model, checkpoint, seed)
    sets = task.sets(model, task.split(5))
    with threads(task.threads):
        found = scores(task, predict(task, network, scored(task, sets)))
    recorded = (facts["card"] or {}).get("scores", {})
    off = {
        name: (recorded[name], found[name]) for name in recorded if abs(recorded[name] - found.get(name, -1)) > 0.005
    }
    if off:
        raise MubenchError(
            f"original {model} of {task.name} does not score what its card says: {off} (recorded, found)"
        )
    return {"sha256": facts["sha256"], "source": facts["source"], "scores": found}


def scored(task, sets):
    """The sets that an original's card has scores of."""
    return task.scored(
        {name: view for name, view in sets.items() if name in ("train", "validation", "test", "transfer")}
    )


def portable(source):
    """A checkpoint's source without this machine's folders: relative to the package or to the cache, where it lies
    there.
    """
    path = Path(source).resolve()
    for root in (Path(__file__).resolve().parent.parent, originals.trained_root().resolve()):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return source
