"""Many runs: expanded from lists, done one by one or by several workers, each run once whoever asks for it."""

import contextlib
import itertools
import statistics

from mubench import registry
from mubench.errors import MubenchError
from mubench.records.result import RESULT, read
from mubench.records.store import Store
from mubench.spec import Incompatible, make_spec
from mubench.sweep.progress import Progress, Sweep, probes_of, span
from mubench.sweep.workers import share_out, work

SUITES = ("mini", "paper")
ALIKE = 20  # records of the same kind that a forecast looks at


def expand_tasks(names):
    """Task references from names, comma-separated lists and the suites ``mini``, ``paper`` and ``all``."""
    found = []
    for name in _listed(names):
        if name in (*SUITES, "all"):
            found += [t for t in registry.tasks.names() if name == "all" or registry.tasks.get(t).tier == name]
        else:
            registry.tasks.get(name)
            found.append(name)
    return list(dict.fromkeys(found))


def expand_methods(names):
    """Method references from names, comma-separated lists and ``all``."""
    found = [m for name in _listed(names) for m in (registry.methods.names() if name == "all" else [name])]
    for name in found:
        registry.methods.get(name)
    return list(dict.fromkeys(found))


def expand(tasks, methods, models=None, ratios=None, seeds=None, **options):
    """Every `RunSpec` of tasks × models × ratios × seeds × methods; the references (retrain, original) come first.

    tasks, methods: as in `expand_tasks` and `expand_methods`.
    models: names; ``["all"]``: all of each task (None: its first).
    ratios, seeds: lists (None: the default).
    options: the other fields of `RunSpec`, the same for all runs.

    Returns the specs and a sentence for each pair that cannot work. Raises `MubenchError` where nothing is left.
    """
    specs, left_out = {}, []
    methods = sorted(expand_methods(methods), key=lambda m: (registry.methods.get(m).start != "fresh", bool(_terms(m))))
    for task in expand_tasks(tasks):
        some = list(registry.load_task(task).models) if models == ["all"] else models or [None]
        seeds_or_default = [None] if seeds is None else seeds
        for model, ratio, seed, method in itertools.product(some, ratios or [None], seeds_or_default, methods):
            try:
                spec = make_spec(task=task, model=model, method=method, ratio=ratio, seed=seed, **options)
            except Incompatible as error:
                left_out.append(str(error))
            else:
                specs[spec.id] = spec
    if not specs:
        raise MubenchError(left_out[0] if left_out else "nothing to run: no task or no method was named")
    return list(specs.values()), list(dict.fromkeys(left_out))


def sweep(specs, out="results", workers=1, force=False, report=print, cluster=None, **options):
    """Do all runs that a folder does not hold yet.

    A run that fails is recorded and the others go on; whoever is killed, a second call completes the rest. Several
    sweeps may share a folder.

    specs: the runs, `RunSpec` each.
    out: the folder of results.
    workers: processes on this machine.
    force: do again what is done.
    report: what prints a line.
    cluster: where Ray is and what a run needs there, ``address``, ``cpus`` and ``gpus`` (None: this machine).
    options: ``save_model``, ``eval_every`` and ``attack``, as in `mubench.run`.

    Returns (done now, there before, failed).
    """
    if workers < 1:
        raise MubenchError(f"workers={workers}: at least 1 process must do the runs")
    store = Store(out, replace=force)
    attack = probes_of(options)
    since = store.clock()
    before, todo = [], []
    asked = options.get("eval_every"), attack, options.get("save_model")
    for spec in specs:
        (before if not force and store.done(spec, *asked) else todo).append(spec)
    this = Sweep(todo, store, since, force, options, Progress(todo, len(before)))
    if cluster and todo:
        from mubench.sweep.cluster import hand_out  # only those who have one need it

        hand_out(this, report, **cluster)
    elif workers > 1 and len(todo) > 1:
        share_out(this, min(workers, len(todo)))
    else:
        work(this, report)
    done, failed = [], []
    for spec in todo:
        (failed if this.failed(spec) or not store.done(spec) else done).append(spec)
    return done, before, failed


def forecast(specs, out):
    """How many runs are left and how long they take one after the other, as text.

    The times are those that the folder of results ``out`` holds of the same task, model, method and limit on this
    machine.
    """
    store = Store(out)
    todo, medians = [spec for spec in specs if not store.done(spec)], {}
    for spec in todo:
        if (kind := _kind(spec)) not in medians:
            taken = _seconds_taken(store, spec)
            medians[kind] = statistics.median(taken) if taken else None
    times = [medians[_kind(spec)] for spec in todo]
    unknown = times.count(None)
    text = f"{len(specs)} runs, {len(specs) - len(todo)} done, {len(todo)} to do"
    if not todo:
        return text
    if unknown == len(todo):
        return f"{text}, time not known: {out} holds no such run on this machine"
    total = sum(seconds for seconds in times if seconds is not None)
    return f"{text}, about {span(total)} one after the other" + f" ({unknown} of them not known)" * bool(unknown)


def _kind(spec):
    return spec.task, spec.model, spec.method, spec.limit


def _seconds_taken(store, spec):
    """What runs like this one, of any ratio and seed, took on this machine: seconds of each, evaluation included."""
    from mubench.records.machine import hardware

    here, seconds = hardware()["machine"], []
    for path in sorted(store.path(spec).parent.parent.glob(f"*/*/{RESULT}"))[:ALIKE]:
        with contextlib.suppress(MubenchError):  # what is damaged forecasts nothing; the board names it
            result = read(path)
            if result.environment.get("machine") == here and result.spec.get("limit") == spec.limit:
                seconds.append(result.costs["unlearning_seconds"] + result.evaluation_seconds)
    return seconds


def _terms(method):
    return registry.load_method(method).terms


def _listed(names):
    names = [names] if isinstance(names, str) else names
    return [part for name in names for part in ([name] if isinstance(name, type) else name.split(",")) if part]
