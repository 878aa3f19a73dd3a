"""Many runs: expanded from lists, done one by one or by several workers, each run once whoever asks for it."""
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import time

from mubench import registry
from mubench.errors import MubenchError
from mubench.results import Store, read
from mubench.spec import Incompatible, make_spec

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
    """Every `RunSpec` of tasks × models × ratios × seeds × methods, None standing for the default; the references (retrain, original) come
    first. Returns the specs and a sentence for each pair that cannot work."""
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


class Progress:
    """How far a sweep is, from memory: a byte for each run (left, done or failed), shared with its workers; no lock, so none dies with it."""

    LEFT, DONE, FAILED = range(3)

    def __init__(self, specs, before=0):
        self.rows, self.before, self.started = {spec.id: row for row, spec in enumerate(specs)}, before, time.time()
        self.states = multiprocessing.get_context("spawn").Array("b", len(specs), lock=False)

    def mark(self, spec, failed=False):
        self.states[self.rows[spec.id]] = self.FAILED if failed else self.DONE

    def __str__(self):
        states = bytes(self.states)
        left, failed = states.count(self.LEFT), states.count(self.FAILED)
        now = len(states) - left
        shown = [f"{self.before + now}/{self.before + len(states)}", *[f"{failed} failed"] * bool(failed)]
        return f"[{', '.join([*shown, *[f'~{span((time.time() - self.started) / now * left)} left'] * bool(left and now)])}]"


def span(seconds):
    """Seconds in words: ``40 s``, ``12 min``, ``3.5 h``, ``2.0 days``."""
    for unit, size in (("days", 86400), ("h", 3600)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def sweep(specs, out="results", workers=1, force=False, report=print, cluster=None, **options):
    """Do all runs that ``out`` does not hold yet; returns (done now, there before, failed). A run that fails is recorded and the
    others go on; whoever is killed, a second call completes the rest. Several sweeps may share a folder. cluster: where Ray is and
    what a run needs there, as `mubench.cluster.sweep` takes them; options: ``save_model`` and ``eval_every``, as in `mubench.run`."""
    if workers < 1:
        raise MubenchError(f"workers={workers}: at least 1 process must do the runs")
    store = Store(out)
    since = store.clock()
    before, todo = [], []
    for spec in specs:
        (before if not force and store.done(spec, options.get("eval_every")) else todo).append(spec)
    progress = Progress(todo, len(before))
    if cluster and todo:
        from mubench import cluster as ray_cluster

        ray_cluster.sweep(todo, store, since, force, options, progress, report, **cluster)
    elif workers > 1 and len(todo) > 1:
        _with_workers(todo, out, min(workers, len(todo)), since, force, options, progress)
    else:
        _work(todo, out, since, force, options, progress, report)
    done, failed = [], []
    for spec in todo:
        (failed if store.failed(spec, since) or not store.done(spec) else done).append(spec)
    return done, before, failed


def forecast(specs, out):
    """How many runs are left and how long they take one after the other, by what the store holds of the same task, model, method and limit
    on this machine."""
    import statistics

    from mubench.machine import hardware

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


def reason(spec, out):
    """Why a run failed."""
    path = Store(out).path(spec) / "error.json"
    return json.loads(path.read_text())["reason"] if path.is_file() else "no reason recorded: is the disk full?"


def _work(specs, out, since, force, options, progress, report=print, current=None, parent=None):
    """Do every run nobody else has done or is doing; wait for those that others are doing, in case they die."""
    from mubench.runner import run_spec

    store, waiting = Store(out), list(specs)
    while waiting:
        busy = []
        for spec in waiting:
            if parent and os.getppid() != parent:
                return  # the sweep was killed: its workers stop after the run they are in
            with _agreed_claim(store, spec, since, force, options) as claim:
                if claim == "busy":
                    busy.append(spec)
                elif claim == "done":
                    progress.mark(spec, store.failed(spec, since))
                else:
                    if current is not None:
                        current.value = spec.id.encode()
                    try:
                        run_spec(spec, store, progress=parent is None, **options)
                        line, failed = summary(read(store.path(spec))), False
                    except Exception as error:
                        if together() and not isinstance(error, MubenchError):
                            os.write(2, f"mubench: {spec.folder.parent}, seed {spec.seed}: {error!r}\n".encode())
                            os._exit(1)  # the others may be waiting for this process: the launcher ends them, and the command goes on from here
                        failed = True
                        line = f"failed: {str(error) if isinstance(error, MubenchError) else repr(error)}"
                    if current is not None:
                        current.value = b""
                    progress.mark(spec, failed)
                    if _rank() == 0:
                        report(f"{spec.folder.parent}, seed {spec.seed}: {line} {progress}", flush=True)
        waiting = busy
        if waiting:
            time.sleep(0.3)


def _with_workers(specs, out, workers, since, force, options, progress):
    """Workers are processes with a share of the cores each; one that dies is replaced and its run recorded as failed. This process imports no
    PyTorch while all goes well: they would wait for it."""
    context, store, by_id = multiprocessing.get_context("spawn"), Store(out), {spec.id: spec for spec in specs}

    def start():
        current = context.Array("c", 16, lock=False)  # a lock would be held for ever by a worker that died with it
        process = context.Process(target=_worker, args=(specs, out, since, force, options, progress, workers, current, os.getpid()))
        process.start()
        return process, current

    running = [start() for _ in range(workers)]
    try:
        while running:
            multiprocessing.connection.wait([process.sentinel for process, _ in running])
            for process, current in [pair for pair in running if not pair[0].is_alive()]:
                running.remove((process, current))
                spec = by_id.get(current.value.decode())
                if process.exitcode == 130:
                    raise KeyboardInterrupt
                if process.exitcode and spec is not None:
                    if not store.done(spec):
                        from mubench import plan

                        store.write_error(spec, plan.exhausted(spec, f"the worker process died with exit code {process.exitcode}"))
                    progress.mark(spec, failed=not store.done(spec))
                    running.append(start())
                elif process.exitcode:
                    raise MubenchError(f"a worker could not start (exit code {process.exitcode}): run with --workers 1 to see why")
    finally:
        for process, _ in running:
            process.terminate()
        for process, _ in running:
            process.join()


def _worker(specs, out, since, force, options, progress, workers, current, parent):
    import sys

    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    try:
        _work(specs, out, since, force, options, progress, current=current, parent=parent)
    except KeyboardInterrupt:
        sys.exit(130)


@contextlib.contextmanager
def _agreed_claim(store, spec, since, force, options):
    """``mine``, ``busy`` or ``done``: decided by the first of several cooperating processes, the same for all of them."""
    with contextlib.ExitStack() as stack:
        claim = "done"
        if _rank() == 0 and not settled(store, spec, since, force, options):
            claim = "mine" if stack.enter_context(store.claim(spec)) else "busy"
            claim = "done" if claim == "mine" and settled(store, spec, since, force, options) else claim  # finished by another while we looked
        if together():
            from accelerate.utils import broadcast_object_list

            from mubench.engine import make_accelerator

            accelerator = make_accelerator(spec.precision)
            claim = broadcast_object_list([claim])[0]
        yield claim
        if together():
            accelerator.wait_for_everyone()  # nobody looks for the result before it is written


def together():
    """Whether several processes work on the same run."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def settled(store, spec, since, force, options):
    """Whether a sweep that began at ``since`` has nothing left to do for a run."""
    path = store.path(spec) / "result.json"
    return store.failed(spec, since) or store.done(spec, options.get("eval_every")) and (not force or path.stat().st_mtime >= since)


def _rank():
    return int(os.environ.get("RANK", 0))


def summary(result):
    show = {"test": "test_score", "forget": "forget_score", "retain": "retain_score", "MIA AUC": "mia_loss_auc"}
    values = [f"{label} {100 * result.metrics[name]:.1f}" for label, name in show.items() if result.metrics.get(name) is not None]
    return ", ".join([*values, f"{result.seconds:.1f} s"])


def _terms(method):
    return registry.load_method(method).terms


def _listed(names):
    names = [names] if isinstance(names, str) else names
    return [part for name in names for part in (name.split(",") if not isinstance(name, type) else [name]) if part]
