"""Contract tests of tasks, methods and results: the same for contributors, for users and in the project's own tests."""

import copy
import functools
import math
import tempfile

from mubench import registry
from mubench.task_checks import check_apart, check_reads, check_splits, check_world, sample_split
from mubench.task_checks import holds as _holds

PROBLEM = {
    "loss",
    "logit",
    "rep",
    "labels",
    "classes",
    "signal",
    "retain",
    "union",
    "examples",
}  # what the small problem of `check_method` provides


def check_method(reference):
    """A method runs on a small problem: finite, repeatable, leaving the original alone, and it is documented.

    Yields what was found to hold; raises `MubenchError` at the first that does not.
    """
    import torch

    cls = registry.methods.get(reference)
    _holds(cls.__doc__ and len(cls.__doc__.strip()) > 20, "the docstring says what the method does")
    yield "documented"
    for name, value in cls.defaults().items():
        cls(**{name: value})
    method = cls()
    yield (
        "hyperparameters typed:"
        f" {', '.join(n for n in cls.defaults() if n not in registry.methods.base.defaults()) or 'the common ones'}"
    )
    row = method.taxonomy()
    yield (
        f"Table 2: D_f {row['forget']} / {row['corruption']}, D_r {row['retain']}, {row['parameters']},"
        f" {row['schedule']}"
    )

    tasks = [t for t in registry.tasks.names() if method.needs <= set(registry.tasks.get(t).provides)]
    _holds(tasks, f"some task provides what it needs ({', '.join(sorted(method.needs))})")
    models, watched = [], _watched(cls)
    for seed in (0, 0, 1):
        network, run = _small(method, tasks)
        before = copy.deepcopy(network.state_dict())
        done = run(method=watched, seed=seed)
        _holds(
            all(torch.equal(v, network.state_dict()[k]) for k, v in before.items()),
            "the original model stays as it was",
        )
        _holds(all(p.isfinite().all() for p in done.model.parameters()), "the weights stay finite on a small problem")
        models.append((done.model.state_dict(), before))
    (one, before), (two, _), _ = models
    _holds(
        all(torch.equal(v, two[k]) for k, v in one.items()),
        "the same seed gives the same bits: draw from context.generator()",
    )
    yield f"repeatable, finite, {done.costs.steps} steps"
    if "retain" not in method.needs and method.needs <= PROBLEM:
        _without_retain(cls)
        yield "works without a retain set"
    changed = one.keys() != before.keys() or any(not torch.equal(v, before[k]) for k, v in one.items())
    _holds(changed or not method.terms, "a method with terms changes the model")
    yield "changes the model" if changed else "leaves the model as it is"
    _holds(not (cls.prunes and watched.edits), "a method that changes weights after its last epoch says prunes = False")
    yield f"works on {', '.join(tasks)}"


def _watched(cls):
    """The method, which notes in ``edits`` whether it changes weights after its last epoch."""
    import torch

    class Watched(cls):
        edits = False

        def finish(self, context):
            before = copy.deepcopy(context.student.state_dict())
            super().finish(context)
            after = context.student.state_dict()
            same = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in after)
            Watched.edits |= not same

    return Watched


def check_task(reference):
    """A task's facts, data, split, models, behaviour and originals hold what the contract says.

    A task that can write a sample (the paper tier) is checked on that, with runs from loading to the stored result.
    Yields what was found to hold; raises `MubenchError` at the first that does not.
    """
    task = registry.load_task(reference)
    _holds(
        task.__doc__ and task.source and task.licence and task.models,
        "docstring, source, licence and models are stated",
    )
    _holds(
        task.random_guess is None or 0 <= task.random_guess < 1,
        "random_guess is a score in [0, 1), or None until it is measured",
    )
    yield "data card complete"
    if not hasattr(task, "write_sample"):
        yield from check_behaviour(task)
        return
    with tempfile.TemporaryDirectory() as folder:
        sample = task.sample(folder)
        yield "written: a sample in the format of the published data, tiny models of the same classes"
        yield from check_behaviour(sample)
        for number, model in enumerate(task.models):
            yield from check_runs(reference, sample, model, one_per_schedule(task)[: 1 if number else None])


def one_per_schedule(task):
    """Methods that work on a task, one for each schedule and start there is."""
    methods = [registry.load_method(name) for name in registry.methods.names()]
    kinds = {(m.schedule, m.start): m.name for m in reversed(methods) if m.needs <= set(task.provides) and m.terms}
    return sorted(kinds.values())


def check_runs(reference, sample, model, methods):
    """Methods unlearn on a task's sample: a result each, whose scores are finite."""
    from mubench.records.result import read
    from mubench.records.store import Store
    from mubench.runner import run_spec
    from mubench.spec import make_spec

    with tempfile.TemporaryDirectory() as folder:
        for name in methods:
            spec = make_spec(task=reference, model=model, method=name, max_steps=2)
            result = read(run_spec(spec, Store(folder), progress=False, task=sample))
            scores = {
                n: v
                for n, v in result.metrics.items()
                if n.removesuffix("_score") in sample.sets(model, sample_split(sample))
            }
            _holds(
                scores and all(v is not None and math.isfinite(v) for v in scores.values()),
                f"{model}, {name}: every set has a finite score",
            )
            yield f"{model}: {name} ({result.costs['steps']} steps), " + ", ".join(
                f"{n} {v:.3f}" for n, v in scores.items()
            )


def check_behaviour(task):
    """Data, splits and, for each model, what one batch gives."""
    yield from _check_data(task)
    for name in task.models:
        yield from _check_model(task, name)
        yield from _check_original(task, name)


def _check_data(task):
    data = task.load()
    _holds({"train", "validation", "test"} <= set(data), "load() gives train, validation and test")
    _holds("transfer" in data or not task.transfer, "a transfer set that is declared exists")
    yield "data: " + ", ".join(f"{name} {len(rows)}" for name, rows in data.items())
    validation, test = task.held_out
    _holds("validation" in task.data or not set(validation) & set(test), "validation rows never count in the test set")
    for kind in task.unit_kinds:
        yield check_splits(task, kind)
    if task.world:
        check_world(task)


def _check_model(task, name):
    """What a model, untrained, gives for one batch of the forget set: one of each, per example."""
    import torch

    model, sets = task.build(name), task.sets(name, sample_split(task))
    _holds({*task.scored_sets} <= {*sets}, f"the scored sets are given: {', '.join(task.scored_sets)}")
    _holds(("retain" in sets) == ("retain" in task.provides), "a retain set is provided where sets() gives one")
    batch = sets["forget"][torch.arange(min(8, len(sets["forget"])))]
    n = len(batch["index"])
    with torch.no_grad():
        out = task.forward(model.eval(), batch, features="rep" in task.provides)
    _holds(out.loss.shape == (n,) and out.loss.isfinite().all(), f"{name}: forward gives one finite loss per example")
    if "logit" in task.provides:
        apart = task.divergence(out, out)
        small = apart.shape == (n,) and apart.abs().max() < 1e-5
        _holds(small, f"{name}: divergence is per example and 0 from itself")
    if "rep" in task.provides:
        shape = None if out.features is None else out.features.shape
        _holds(shape and shape[0] == n and len(shape) == 2, f"{name}: features are [B, H]")
    if "labels" in task.provides:
        _check_corruption(task, name, model, batch, out, sets.get("retain", sets["forget"]))
    if "world" in batch:
        check_reads(task, name, model, batch)
    if not task.batchwise and n > 1:
        check_apart(task, name, model, task.drawn(batch, 0))
    columns = task.predict(model, batch)
    one_each = {"target", "prediction", "score", "loss"} <= set(columns) and all(len(c) == n for c in columns.values())
    _holds(one_each, f"{name}: predict gives one row per example")
    parameters = sum(p.numel() for p in model.parameters())
    yield f"{name}: {parameters:,} parameters, forward, corrupt and predict per example"


def _check_corruption(task, name, model, batch, out, retain):
    """Corrupting all rows of a batch but the first changes their targets alone, in a copy."""
    import torch

    n = len(batch["index"])
    before = {k: v.clone() for k, v in batch.items() if isinstance(v, torch.Tensor)}
    wrong = task.corrupt(batch, torch.arange(1, n), torch.linspace(0, 0.999, n - 1), retain)
    untouched = all(torch.equal(v, batch[k]) for k, v in before.items())
    _holds(untouched, f"{name}: corrupt leaves the given batch as it is")
    with torch.no_grad():
        changed = (task.forward(model, wrong).loss - out.loss).abs() > 1e-4
    only_those = changed[1:].all() and not changed[0]
    _holds(only_those, f"{name}: corrupt changes the targets of the given rows and of no others")


def _check_original(task, name):
    from mubench.models import originals

    facts = originals.load(task, name)[1]
    card = facts["card"]
    if not card or task.fits is None:
        return
    _holds(card["data"] == task.data_checksum, f"{name}: the original was trained on these rows")
    _holds(card["scores"]["train"] >= task.fits, f"{name}: the original fits its training set (≥ {task.fits})")
    scores = ", ".join(f"{k} {v:.3f}" for k, v in card["scores"].items())
    yield f"{name}: original {facts['sha256'][:12]}, {scores}"


def _without_retain(method):
    """Run a method that says it needs no retain set on the small problem without one."""
    from mubench.api import unlearn

    unlearn(
        _network(),
        _problem(12, 0),
        method=method,
        validation=_problem(12, 2),
        fresh=_network,
        head="classifier",
        batch_size=8,
        progress=False,
    )


def _small(method, tasks):
    """A network and ``run(method=, seed=)`` → `Unlearned`, on which a method is tried.

    It is a small classifier; or, where the method needs more, a model of the first task that provides that and has its
    data at hand, untrained, on some of its rows.
    """
    from mubench.api import unlearn
    from mubench.job import Job
    from mubench.spec import Options

    if method.needs <= PROBLEM:
        network = _network()
        return network, functools.partial(
            unlearn,
            network,
            _problem(12, 0),
            _problem(24, 1),
            validation=_problem(12, 2),
            fresh=_network,
            head="classifier",
            batch_size=8,
            progress=False,
        )
    task = registry.load_task(next((t for t in tasks if not hasattr(registry.tasks.get(t), "write_sample")), tasks[0]))
    model = task.model()
    network, sets = task.build(model), task.sets(model, sample_split(task), limit=16)

    def run(method, seed):
        job = Job.make(
            task,
            method(),
            Options(seed=seed),
            sets,
            copy.deepcopy(network),
            functools.partial(task.build, model, seed),
            task.model_recipe(model),
        )
        return job.train(progress=False)

    return network, run


def _network():
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _Network()


def _Network():
    import torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.classifier = torch.nn.Linear(6, 16), torch.nn.Linear(16, 4)

        def forward(self, x):
            return self.classifier(self.body(x).tanh())

    return Network()


def _problem(n, seed):
    """n examples of a small learnable problem: 6 numbers, 4 classes."""
    import torch

    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return [{"x": row, "labels": int(row[:4].argmax())} for row in x]
