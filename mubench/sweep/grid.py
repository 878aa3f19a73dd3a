"""Many runs: expanded from lists, done one by one or by several workers, each run once whoever asks for it."""

import contextlib

from mubench import registry
from mubench.errors import MubenchError
from mubench.sweep.progress import Progress, span
from mubench.records.result import Store, read
from mubench.spec import Incompatible, make_spec
from mubench.sweep.workers import share_out, work

SUITES = ("mini", "paper")


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
    """Every `RunSpec` of tasks × models × ratios × seeds × methods, None standing for the default; the references
    (retrain, original) come first. Returns the specs and a sentence for each pair that cannot work."""
    specs, left_out = {}, []
    methods = sorted(expand_methods(methods), key=lambda m: (registry.methods.get(m).start != "fresh", bool(_terms(m))))
    for name in expand_tasks(tasks):
        task = registry.load_task(name)
        for model in list(task.models) if models == ["all"] else models or [None]:
            for ratio in ratios or [None]:
                for seed in seeds if seeds is not None else [None]:
                    for method in methods:
                        try:
                            spec = make_spec(task=name, model=model, method=method, ratio=ratio, seed=seed, **options)
                        except Incompatible as error:
                            left_out.append(str(error))
                        else:
                            specs[spec.id] = spec
    if not specs:
        raise MubenchError(left_out[0] if left_out else "nothing to run: no task or no method was named")
    return list(specs.values()), list(dict.fromkeys(left_out))


def sweep(specs, out="results", workers=1, force=False, report=print, cluster=None, **options):
    """Do all runs that ``out`` does not hold yet; returns (done now, there before, failed). A run that fails is
    recorded and the others go on; whoever is killed, a second call completes the rest. Several sweeps may share a
    folder. cluster: where Ray is and what a run needs there, as `mubench.sweep.cluster.sweep` takes them; options:
    ``save_model`` and ``eval_every``, as in `mubench.run`."""
    if workers < 1:
        raise MubenchError(f"workers={workers}: at least 1 process must do the runs")
    store = Store(out)
    since = store.clock()
    before, todo = [], []
    for spec in specs:
        (before if not force and store.done(spec, options.get("eval_every")) else todo).append(spec)
    progress = Progress(todo, len(before))
    if cluster and todo:
        from mubench.sweep import cluster as ray_cluster  # only those who have one need it

        ray_cluster.sweep(todo, store, since, force, options, progress, report, **cluster)
    elif workers > 1 and len(todo) > 1:
        share_out(todo, out, min(workers, len(todo)), since, force, options, progress)
    else:
        work(todo, out, since, force, options, progress, report)
    done, failed = [], []
    for spec in todo:
        (failed if store.failed(spec, since) or not store.done(spec) else done).append(spec)
    return done, before, failed


def forecast(specs, out):
    """How many runs are left and how long they take one after the other, by what the store holds of the same task,
    model, method and limit on this machine."""
    import statistics

    from mubench.records.machine import hardware

    store, here, unknown = Store(out), hardware()["machine"], []
    todo, taken, total = [spec for spec in specs if not store.done(spec)], {}, 0.0
    for spec in todo:
        kind = spec.task, spec.model, spec.method, spec.limit
        if kind not in taken:
            taken[kind] = []
            for path in sorted(store.path(spec).parent.parent.glob("*/*/result.json"))[:20]:
                with contextlib.suppress(MubenchError):  # what is damaged forecasts nothing; the board names it
                    r = read(path)
                    if r.environment.get("machine") == here and r.spec.get("limit") == spec.limit:
                        taken[kind].append(r.costs["unlearning_seconds"] + r.evaluation_seconds)
        if taken[kind]:
            total += statistics.median(taken[kind])
        else:
            unknown.append(spec)
    time = f"about {span(total)} one after the other" if len(unknown) < len(todo) else "time not known"
    more = f" ({len(unknown)} of them not known)" if 0 < len(unknown) < len(todo) else ""
    why = f": {out} holds no such run on this machine" if unknown and not more else ""
    return f"{len(specs)} runs, {len(specs) - len(todo)} done, {len(todo)} to do" + f", {time}{more}{why}" * bool(todo)


def _terms(method):
    return registry.load_method(method).terms


def _listed(names):
    names = [names] if isinstance(names, str) else names
    return [part for name in names for part in (name.split(",") if not isinstance(name, type) else [name]) if part]
