"""A `Job`: a run with all it needs, resolved before it starts. Here alone jobs and their results are put together."""

import functools
import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mubench.cache import whole, writing
from mubench.errors import MubenchError
from mubench.examples import Absent
from mubench.measure.card import on_card
from mubench.measure.metrics import Predictions, compute_all
from mubench.measure.predict import predict, scores, shown, validator
from mubench.measure.shared import predicted
from mubench.models import networks, originals
from mubench.models.unlearned import Unlearned
from mubench.records.machine import environment
from mubench.records.result import SCHEMA, Result, method_facts, split_facts, task_facts
from mubench.registry import load_method, load_task
from mubench.spec import ENGINE, Budget, Options, command
from mubench.train.context import Context
from mubench.train.curriculum import make_curriculum
from mubench.train.distributed import make_accelerator, threads
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe


@functools.lru_cache(maxsize=2)
def task_of(reference):
    return load_task(reference)  # kept: the runs of a grid share the decoded data


@dataclass
class Job:
    """A run with all it needs.

    task: the `Behaviour`.
    method: the `Method`, or None where weights are only measured.
    options: the `RunSpec` of a run on a task, else its `Options`.
    sets: name → examples.
    context: the `Context` that is trained in.
    recipe: what the method trains by.
    budget: the most it may use.
    split: of a run on a task, the deletion `Split`.
    checkpoint: of a run on a task, the facts of the original (`originals.load`), and as ``network`` the model that is
        unlearned, which changes (`original` reads it anew).
    unlearned: the `Unlearned` that is measured; None until `train` is through.
    """

    task: object
    method: object
    options: Options
    sets: dict
    context: Context
    recipe: Recipe | None = None
    budget: Budget = Budget()
    split: object = None
    checkpoint: dict | None = None
    unlearned: Unlearned | None = None

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
        """The one assembly of what a method unlearns.

        task, method, options, sets, budget, facts: as the fields of `Job`; of a task's run facts are split and
            checkpoint.
        network: the original, which becomes the student.
        fresh, blank: () → a new model (see `Context`).
        recipe: the original's.
        model: its name.
        shard: whether processes share out its weights while it trains.
        """
        context = Context(
            task,
            network,
            fresh,
            sets["forget"],
            sets.get("retain", Absent("retain")),
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
        """The job of a `RunSpec`.

        task: its task as an instance, where that is not what its name stands for (a sample of it).
        student: an unlearned model, which is only measured.
        shard: as in `make`.
        """
        task = task or task_of(spec.task)
        split = task.split(spec.ratio, spec.split_file, spec.unit)
        sets = task.sets(spec.model, split, spec.limit)
        network, checkpoint = original(task, spec.model, spec.checkpoint, spec.seed)
        facts = {"split": split, "checkpoint": checkpoint | {"network": network}}
        if student is not None:
            views = sets["forget"], sets.get("retain", Absent("retain"))
            context = Context(task, student, None, *views, spec.seed, make_accelerator(spec.precision))
            return cls(task, None, spec, sets, context, unlearned=Unlearned(student), **facts)
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
            Budget.of(spec, method, task, (len(split.forget), split.n - len(split.forget))),
            blank,
            spec.model,
            shard,
            **facts,
        )

    @classmethod
    def of_original(cls, task, model, seed=0):
        """The job that trains the original of a task's model: retraining, on all of D and in its world."""
        sets = task.sets(model)
        return cls.make(
            task,
            load_method("retrain"),
            Options(seed=seed),
            sets | {"forget": sets["train"].select(slice(0)), "retain": sets["train"]},
            None,
            lambda: task.build(model, seed),
            task.model_recipe(model),
            model=model,
        )

    def train(self, progress=True, observe=None, every=None):
        """Unlearn: the student of the context is changed.

        progress: show a bar.
        observe, every: as in `Engine`.

        Returns the `Unlearned`.
        """
        options, task = self.options, self.task
        validate = validator(task, self.sets, self.context.accelerator) if "validation" in self.sets else None
        weigh = make_curriculum(options.curriculum, options.curriculum_lambda, options.curriculum_tau, task.num_labels)
        with threads(task.threads):
            engine = Engine(
                self.method, self.context, self.recipe, self.budget, True, progress, validate, observe, every, weigh
            )
            costs = engine.run()
        self.unlearned = Unlearned(engine.model.eval(), costs, self.context.adapters)
        return self.unlearned

    @property
    def shown(self):
        """Set name → the examples that are scored."""
        return shown(self.task, self.sets)

    def original_score(self, name):
        """The original's score on a set, before training.

        It is its card's; or measured where there is none, where only a part of the rows is used, or where the world is
        evaluated without D_f, which the card's is not.
        """
        card, same_world = self.checkpoint["card"], self.sets["test"].world is self.sets["train"].world
        if card and same_world and not self.options.limit and name in card["scores"]:
            return card["scores"][name]
        who = ["original", self.checkpoint["sha256"]]
        return scores(self.task, predicted(self, name, who, lambda: self.checkpoint["network"]))[name]

    def saved(self, what):
        """(folder) → what is kept is written there: the unlearned model (True) or its ``"adapter"``; None: nothing."""
        if what not in (None, False, True, "adapter"):
            raise MubenchError(f"save_model={what!r}: it is True, False or 'adapter'")
        if what == "adapter" and not self.context.adapters:
            raise MubenchError("there is no adapter to save without LoRA: add --lora, or save the model")
        if what == "adapter" and self.method.wrap:
            raise MubenchError(f"an adapter alone is not what {self.method.name} leaves, a wrapper: save the model")
        return (lambda folder: self.unlearned.save(folder, what == "adapter")) if what else None

    def original(self):
        """The original of a run on a task, read anew."""
        spec = self.options
        return originals.load(self.task, spec.model, spec.checkpoint, spec.seed)[0]

    def exhibits(self):
        """Files to lay beside the predictions of the unlearned model."""
        return self.task.exhibits(self.original, self.unlearned.model, self.shown)

    def result(self, frame, costs, test_score, findings=(), **facts):
        """The `Result` of a run on a task, its metrics computed from the predictions.

        frame: the predictions of the evaluation.
        costs: of the unlearning, as a dict.
        test_score: the original's.
        findings: what came of the other probes, a `Finding` each.
        facts: fields of `Result` that only the caller knows; of ``method``, entries that replace those recorded here.
        """
        spec = self.options
        budget = self.budget if self.method else None
        facts["method"] = method_facts(spec.method, self.method, self.recipe) | facts.get("method", {})
        again = {"trials": spec.trials or None, "max_examples": budget and budget.examples}
        again["attack"] = [finding.probe.reference for finding in findings] or None
        facts.setdefault("command", command(spec, **again))
        result = Result(
            schema=SCHEMA,
            status="limited" if spec.limit else "complete" if costs["stopped_by"] == "epochs" else "stopped",
            id=spec.id,
            spec=spec.model_dump(),
            task=task_facts(self.task),
            engine=ENGINE if self.method else None,
            split=split_facts(self.split),
            budget=budget and budget.asdict(),
            costs=costs,
            model=self._model_facts(),
            checkpoint=self._checkpoint_facts(test_score),
            metrics={},
            predictions={},
            weights=networks.weights_hash(self.unlearned.model),
            environment=environment(self.context.accelerator),
            **facts,
        )
        result.probes = {finding.probe.name: finding.record() for finding in findings}
        found = {finding.probe.name: finding.frame for finding in findings if not finding.error}
        result.metrics = compute_all(Predictions(frame, result.facts, found))
        return result

    def _model_facts(self):
        """What a result records of the model."""
        kind = type(self.checkpoint["network"]).__name__
        return {"name": self.options.model, "class": kind, **self.unlearned.facts}

    def _checkpoint_facts(self, test_score):
        """What a result records of the original."""
        return {
            "source": originals.portable(self.checkpoint["source"]),
            "sha256": self.checkpoint["sha256"],
            "test_score": test_score,
            "seed": None if self.options.checkpoint else self.options.seed,
        }


def original(task, model, checkpoint=None, seed=0):
    """`originals.load`, the original of a seed being trained if it is not there.

    Processes that need the same one wait for the first.
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
    """Train the original of a task's model on all of D by its recipe. On one machine the same seed gives the same bits.

    task, model: whose original.
    folder: where weights, configuration and card go (default: the user's cache, where it is found from then on).
    seed: of everything random.
    progress: show a bar.

    Returns the card.
    """
    kept = None if folder else originals.trained_dir(task, model, seed)
    folder = Path(folder or kept.with_name(f".{kept.name}.{os.getpid()}"))  # in the cache it appears whole
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
    unlearned = job.train(progress)
    costs, student = unlearned.costs, unlearned.model
    with threads(task.threads):
        frame, here = predict(task, student, on_card(task, job.sets)), environment(job.context.accelerator)
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
            "data": task.data_checksum,
            "sha256": networks.weights_sha256(folder),
            "train_seconds": round(costs.unlearning_seconds, 1),
            "environment": {name: here[name] for name in ("python", "torch", "transformers", "machine", "threads")},
            "made": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        card_file.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card
