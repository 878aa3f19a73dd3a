"""The Python side for one's own models and checkpoints; `mubench.run` is in `mubench.runner`."""
import copy
import re
import shlex
import time
from dataclasses import dataclass

from mubench import registry
from mubench.behaviour import Custom
from mubench.costs import Costs
from mubench.curriculum import make
from mubench.engine import Budget, Context, Engine, make_accelerator, threads
from mubench.errors import MubenchError
from mubench.examples import Examples, Wrapped
from mubench.recipe import Recipe
from mubench.registry import load_method, load_task
from mubench.results import Result, RunSpec, Store, now, split_facts, task_facts
from mubench.splits import ratio_name


@dataclass
class Unlearned:
    """What `unlearn` gives back: the unlearned ``model`` (on its device, in eval mode) and the `Costs`."""

    model: object
    costs: Costs


def unlearn(model, forget, retain, method="salun", *, collate=None, loss=None, fresh=None, head=None, num_labels=None, seed=0,
            validation=None, batch_size=32, precision="no", lora=None, lora_rank=None, curriculum=None, curriculum_lambda=1.0,
            curriculum_tau="mean", max_steps=None, max_seconds=None, inplace=False, progress=True, **hyperparameters):
    """Make a model of one's own forget.

    model: a ``torch.nn.Module`` called as ``model(**batch)`` without the labels, giving logits [B, C] or an object with
        ``.logits`` (any `transformers` classifier); or anything, if ``loss`` is given.
    forget, retain: map-style data sets of dicts (Hugging Face data sets, ``torch`` data sets, lists), items ``{input: …,
        "labels" or "label": …}``. Disjoint.
    collate: list of items → dict of tensors with first dimension B (default: ``torch``'s).
    loss: ``loss(model, batch)`` → per-example losses [B], or (losses [B], logits [B, C]); default cross-entropy.
    head: name of the submodule whose input is the representation of an example, for methods that measure it (``classifier``).
    fresh: () → a new, untrained model, for methods that need one (default for `transformers` models: their configuration).
    validation: more examples, held out from training, for methods that measure a threshold on such.
    method: a registry name, ``path/to/file.py:Class`` or a `Method`; **hyperparameters: its hyperparameters, such as ``lr``
        (default: the method's ``lr_factor`` × 1e-3) and ``epochs``.
    lora: train LoRA adapters of so many per cent of the model's parameters, or of rank ``lora_rank``; they are merged at the end.
    curriculum: ``"superloss"`` weighs examples by how easy they are, ``curriculum_lambda`` and ``curriculum_tau`` being its λ and τ.
    seed: of everything random; the same seed on one process gives the same bits. inplace: change ``model`` itself.

    Returns an `Unlearned`. Raises `MubenchError` for an empty forget set, a method that needs what the model does not give,
    an unknown hyperparameter, or a loss that becomes NaN or infinite.
    """
    chosen = load_method(method, **hyperparameters)
    wrap = lambda d: d if d is None or isinstance(d, (Examples, Wrapped)) else Wrapped(d, collate)
    sets = [wrap(forget), wrap(retain)]
    for name, view in zip(("forget", "retain"), sets):
        if not len(view):
            raise MubenchError(f"the {name} set is empty: give at least one example")
    behaviour = Custom(loss, num_labels, head)
    behaviour.probe(model, sets[0])
    if missing := chosen.needs - behaviour.provides:
        raise MubenchError(f"{chosen.name} needs {', '.join(sorted(missing))}, which this model and loss do not give: let loss return "
                           "(losses, logits) and batches hold 'labels', and name the head, head='classifier', for representations (rep)")
    if fresh is None:
        def fresh():
            if not hasattr(model, "config"):
                raise MubenchError(f"{chosen.name} needs an untrained model: pass fresh=, a function without arguments that builds one")
            return type(model)(model.config)
    student = model if inplace else copy.deepcopy(model)
    if lora and lora_rank:
        raise MubenchError(f"lora={lora:g} and lora_rank={lora_rank} are two answers to one question: give one of them")
    adapt = {"share": lora} if lora else {"rank": lora_rank} if lora_rank else None
    if adapt and not chosen.adapts:
        raise MubenchError(f"{chosen.name} edits the weights themselves, LoRA leaves them as they are: run it without")
    context = Context(behaviour, student, fresh, *sets, seed, make_accelerator(precision), chosen.start, validation=wrap(validation),
                      adapt=adapt)
    weigh = make(curriculum, curriculum_lambda, curriculum_tau, behaviour.num_labels)
    recipe = chosen.recipe(Recipe(lr=1e-3, epochs=10, batch_size=batch_size))
    limits = {"steps": max_steps, "seconds": max_seconds}
    budget = Budget(**{name: limit for name, limit in limits.items() if limit is not None})
    costs = Engine(chosen, context, recipe, budget, progress=progress, curriculum=weigh).run()
    return Unlearned(context.student.eval(), costs)


def evaluate(task, checkpoint, *, model=None, ratio=5, split_file=None, seed=0, limit=None, name=None, out=None, seconds=None, paper="",
             save_model=False):
    """Measure weights that any code has unlearned: name → value of every metric that applies.

    task: a registry name; checkpoint: a folder in safetensors (or a hub id), or a ``torch.nn.Module`` of the task's class;
    model: which of the task's models it is (default: the first); ratio or split_file: what was to be forgotten;
    seed: of the untrained model ZRF compares with, and which of several runs of that code this is. Scores are fractions.
    name, out: what to call that code, and a folder of results to put record and predictions into, as a run does; with seconds: what
    unlearning took on this machine (None: not known); paper: where the code is described; save_model: keep the weights there too.
    Raises `MubenchError` where the checkpoint cannot be read or does not fit the task.
    """
    from mubench import originals
    from mubench.engine import make_accelerator
    from mubench.evaluation import SETS, predict, scores
    from mubench.metrics import compute_all
    from mubench.runner import UNTRAINED, environment, portable, weights_hash

    _nameable(name, out, seconds)
    reference, task, started = task if isinstance(task, str) else task.name, load_task(task), now()
    model, split = task.model(model), task.split(ratio, split_file)
    loaded = isinstance(checkpoint, str) or hasattr(checkpoint, "parts")
    network = originals.load(task, model, checkpoint)[0] if loaded else checkpoint
    sets = task.sets(model, split, limit)
    with threads(task.threads):
        clock = time.perf_counter()
        frame = predict(task, network, task.scored({n: sets[n] for n in SETS if n in sets}), task.build(model, UNTRAINED + seed, blank=True))
        taken, here = time.perf_counter() - clock, environment(make_accelerator())
    original, known = originals.load(task, model)
    test = known["card"]["scores"]["test"] if known["card"] and not limit else None
    if test is None:
        test = scores(task, predict(task, original, task.scored({"test": sets["test"]})))["test"]

    weights, rows = weights_hash(network), {"split_file": str(split_file)} if split_file else {"ratio": ratio_name(ratio)}
    spec = RunSpec(task=reference, model=model, method=f"{name}@{weights[:12]}", seed=seed, limit=limit, **rows)
    said = rows | {"model": model, "seed": seed, "limit": limit, "name": name, "seconds": seconds, "out": out}
    result = Result(
        schema=1, id=spec.id, spec=spec.model_dump(), started=started, task=task_facts(task),
        command=shlex.join(["mubench", "evaluate", reference, str(checkpoint) if loaded else "CHECKPOINT",
                            *(f"--{n.replace('_', '-')}={v}" for n, v in said.items() if v is not None)]),
        method={"name": str(name), "version": 1, "paper": paper, "hyperparameters": {}, "recipe": None},
        model={"name": model, "class": type(network).__name__, "parameters": sum(p.numel() for p in network.parameters())},
        split=split_facts(split), checkpoint={"source": portable(known["source"]), "sha256": known["sha256"], "test_score": test},
        costs={"unlearning_seconds": seconds, **dict.fromkeys(("cpu_seconds", "steps", "examples", "flops", "peak_memory_bytes")),
               "stopped_by": "epochs", "losses": [], "validation": []},
        evaluation_seconds=taken, metrics={}, predictions={}, weights=weights, environment=here, status="limited" if limit else "complete")
    result.metrics = compute_all(frame, result.facts)
    if out is not None:
        Store(out).write(spec, result, frame, network if save_model else None)
    return result.metrics


def _nameable(name, out, seconds):
    if (name is None) != (out is None):
        raise MubenchError("name and out belong together: how to call the code that made these weights, and the folder to record it in")
    if name is not None and (not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in registry.methods.names()):
        raise MubenchError(f"name {name!r}: give a snake_case name that is no method of mubench, such as my_method")
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise MubenchError(f"seconds {seconds!r}: what unlearning took, a number from 0")


def submit(results, name, **options):
    """Check results and pack them for the leaderboard; see `mubench.leaderboard.submission.submit`."""
    from mubench.leaderboard.submission import submit as pack

    return pack(results, name, **options)


def board(results="results", out=None, **options):
    """Aggregate result folders into tables; see `mubench.leaderboard.board`."""
    from mubench.leaderboard.board import board as make

    return make(results, out, **options)


def report(run, out=None, **options):
    """One stored run as a self-contained HTML page; see `mubench.leaderboard.report`."""
    from mubench.leaderboard.report import report as make

    return make(run, out, **options)


def ablate(kind, tasks, methods=None, *, models=None, ratios=(5,), seeds=(0,), at=None, out="results", figures=None, workers=1, eval_every=10,
           margin=None, limit=None, run=True, **options):
    """Vary one thing, run what ``out`` does not hold yet, and draw; returns the exhibits (see `mubench.leaderboard.ablations`).

    kind: lora, curriculum, ratio, scale, budget or bias; tasks, methods: names (default: those the MU-Bench paper compares); at: levels
    instead of the kind's own; figures: a folder to write to; eval_every: steps between the points of curves, where the kind draws curves;
    margin: of the deletion capacity, a fraction; limit: trials on so many rows; run: whether to run what is
    missing, not only to draw; options: as in `mubench.run`.
    """
    from mubench import grid
    from mubench.errors import MubenchError
    from mubench.leaderboard.ablations import MARGIN, METHODS, analyse, named, plan
    from mubench.leaderboard.records import read_runs

    kind = named(kind, at)
    references, specs, left_out = plan(kind, tasks, methods or METHODS, models, ratios, seeds, limit=limit, **options)
    if run:
        grid.sweep(references, out, workers)
        _, _, failed = grid.sweep(specs, out, workers, **({"eval_every": eval_every} if kind.along else {}))
        if len(failed) == len(specs):
            raise MubenchError(f"no run of this ablation succeeded, the first, {failed[0].folder}, failed with: {grid.reason(failed[0], out)}")
    runs, notes = read_runs(out, only=[*references, *specs], limit=limit)
    trial = [f"a trial on {limit} rows of each set: no result"] if limit else []
    failed = [note for note in notes if note.startswith("failed: ") or " is left out: " in note and " is the later result " not in note]
    exhibits = analyse(kind, runs, [*references, *specs], MARGIN if margin is None else margin, [*trial, *left_out, *failed])
    if figures:
        for exhibit in exhibits:
            exhibit.write(figures)
    return exhibits
