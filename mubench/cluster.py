"""A sweep on a Ray cluster: this process hands out the runs and puts every result in place; workers run them.

A worker lives long and keeps to a task and a model while there are runs of them, so they share data and original. It writes into a folder
of its own, under the results where it sees them (shared storage), else on its own disk, from where the files are sent. Only this process
moves results to their place, so a worker that is late or lost leaves no half result and no second one.
"""
import contextlib
import hashlib
import os
import shutil
import socket
import sys
import uuid
from collections import Counter
from pathlib import Path

from mubench import grid
from mubench.errors import MubenchError
from mubench.results import ERROR, RESULT, Store, read

RETRIES, PROCESS = 2, 2**30  # of a run whose worker died; bytes of Python, PyTorch and the data
TOKEN = "token"  # a file that tells a worker that it sees the results' folder


def connect(address):
    """Ray, connected to the cluster at ``auto`` or HOST:PORT."""
    try:
        import ray
    except ImportError:
        raise MubenchError("--ray needs Ray: pip install 'mubench[ray]'") from None
    remedy = "give HOST:PORT as `ray start --head` shows it, or auto on a node of the cluster"
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    try:
        if address != "auto":  # Ray itself would end the process after a minute
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        raise MubenchError(f"no Ray cluster answers at {address} ({' '.join(str(error).split())[:100]}): {remedy}") from None
    return ray


def code():
    """What must be the same on all machines: the version, and the beginning of the hash of all code of the package."""
    import mubench
    from mubench import methods, tasks

    rooms = (mubench, "*.py"), (mubench, "metrics/*.py"), (tasks, "**/*.py"), (methods, "*.py")  # the same whether installed or a checkout
    files = [(package.__name__ + "/" + path.relative_to(root).as_posix(), path) for package, pattern in rooms for root in package.__path__
             for path in sorted(Path(root).glob(pattern))]
    digest = hashlib.sha256(b"".join(name.encode() + path.read_bytes() for name, path in files)).hexdigest()
    return f"mubench {mubench.__version__} (code {digest[:8]})"


class Worker:
    """What runs on the cluster; sent there as code, so that a machine without mubench can say so."""

    def __init__(self, environment, staging, token, threads):
        import os
        import pathlib
        import tempfile

        os.environ.update(environment)  # before anything is imported that reads it
        self.shared = (pathlib.Path(staging).parent / token).is_file()
        self.root, self.threads = staging if self.shared else tempfile.mkdtemp(prefix="mubench"), threads

    def hello(self):
        """The machine's name and its `code`."""
        import socket

        try:
            import mubench
            from mubench.cluster import code
        except ImportError:
            return socket.gethostname(), f"mubench {mubench.__version__}" if "mubench" in locals() else "no mubench"
        return socket.gethostname(), code()

    def run(self, spec, name, retrain, options):
        """(folder of the result or error, its files unless they are on shared storage), or a sentence where neither could be written."""
        from mubench.cluster import perform

        return perform(spec, name, retrain, options, self.root, self.shared, self.threads)


def perform(spec, name, retrain, options, root, shared, threads):
    import torch

    from mubench.runner import retrain_of, try_run

    torch.set_num_threads(threads)
    store = Store(root)
    try:
        if spec.id != name:
            return f"{spec.task} or {spec.method} is another file on {socket.gethostname()}"
        if retrain and not store.done(retrain_of(spec)):  # the run's budget
            store.path(retrain_of(spec)).mkdir(parents=True, exist_ok=True)
            (store.path(retrain_of(spec)) / RESULT).write_text(retrain)
        try_run(spec, store, progress=False, **options)
    except Exception as error:  # recorded, unless there is no room for the record
        if not (store.path(spec) / ERROR).is_file():
            return str(error) if isinstance(error, MubenchError) else f"{type(error).__name__}: {error}"
    folder = store.path(spec)
    if shared:
        return str(folder), None
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if spec.id != retrain_of(spec).id:
        shutil.rmtree(folder)
    return str(folder), files


def sweep(todo, store, since, force, options, progress, report, address, cpus=1, gpus=0):
    """Hand out all runs of ``todo``; returns when none is left."""
    from mubench import plan
    from mubench.registry import load_method
    from mubench.runner import retrain_of

    ray, mine = connect(address), code()
    staging = store.root.resolve() / ".locks" / f"ray-{uuid.uuid4().hex}"
    environment = {n: v for n, v in os.environ.items() if n.startswith("MUBENCH_") or n.endswith("_OFFLINE")}
    groups, memory, left, tries = {}, {}, {spec.id for spec in todo}, Counter()
    for spec in todo:
        groups.setdefault((spec.task, spec.model), []).append(spec)
    for group, specs in groups.items():
        kinds = {(s.method, str(s.params)): s for s in specs}.values()
        known = plan.peak(*group, [load_method(s.method, **s.params) for s in kinds], specs[0].adapt)
        memory[group] = None if known is None else int(known)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # `Worker` is sent as code: its methods too, not the name of this module
    remote, of, doing = ray.remote(Worker), {}, {}  # worker → (task, model); reference → (worker, run, its claim)

    def start(group):
        asked = memory[group] + PROCESS if memory[group] and not gpus else None
        worker = remote.options(num_cpus=cpus, num_gpus=gpus, memory=asked, max_restarts=0).remote(environment, str(staging / uuid.uuid4().hex), TOKEN,
            max(1, int(cpus)))
        of[worker] = group
        doing[worker.hello.remote()] = worker, None, None

    def fits(**asked):
        return any(all(node["Resources"].get(n, 0) >= v for n, v in asked.items()) for node in ray.nodes() if node["Alive"])

    def slots():
        need = {n: v for n, v in {"CPU": cpus, "GPU": gpus}.items() if v}
        return max(1, sum(int(min(node["Resources"].get(n, 0) // v for n, v in need.items())) for node in ray.nodes() if node["Alive"]))

    def next_run(group):
        """The first run of a group whose budget is known and that no other sweep is doing, claimed."""
        for spec in groups[group]:
            retrain = retrain_of(spec)
            if retrain.id in left and retrain.id != spec.id:
                continue
            claims = contextlib.ExitStack()
            if not claims.enter_context(store.claim(spec)):
                claims.close()
                continue
            groups[group].remove(spec)
            if not grid.settled(store, spec, since, force, options):
                return spec, claims
            claims.close()
            left.discard(spec.id)
            progress.mark(spec, store.failed(spec, since))
            return next_run(group)

    def give(worker):
        """The next run for a worker, of its task and model if there is one."""
        found = next_run(of[worker])
        if not found:
            ray.kill(worker)
            del of[worker]
            return
        spec, claims = found
        retrain = store.path(retrain_of(spec)) / RESULT
        text = retrain.read_text() if spec.id != retrain_of(spec).id and retrain.is_file() else None
        doing[worker.run.remote(spec, spec.id, text, options)] = worker, spec, claims

    def finish(spec, answer=None, why=None):
        try:
            if why or isinstance(answer, str):
                store.write_error(spec, why or answer)
            else:
                folder, files = answer
                for name, content in (files or {}).items():
                    path = staging / "sent" / spec.id / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                store.adopt(spec, staging / "sent" / spec.id if files else Path(folder))
            failed = store.failed(spec, since)
            line = f"failed: {grid.reason(spec, store.root)}" if failed else grid.summary(read(store.path(spec)))
        except (MubenchError, OSError) as error:  # no room even for the record
            failed, line = True, f"failed: {why or error}"
        left.discard(spec.id)
        progress.mark(spec, failed)
        report(f"{spec.folder.parent}, seed {spec.seed}: {line} {progress}", flush=True)

    try:
        if not fits(CPU=cpus, GPU=gpus):
            raise MubenchError(f"no machine of the cluster has {cpus:g} CPUs and {gpus:g} GPUs: ask for less with --cpus-per-run, --gpus-per-run")
        for group in [group for group in groups if memory[group] and not gpus and not fits(memory=memory[group] + PROCESS)]:
            for spec in groups.pop(group):
                finish(spec, why=f"it needs about {(memory[group] + PROCESS) / 2**30:.3g} GiB of main memory, no machine of the cluster has as much")
        staging.mkdir(parents=True)
        (staging / "token").touch()
        while left:
            while len(of) < slots():
                free = [g for g in groups if len(groups[g]) > sum(of[w] == g for w in of)]
                if not free:
                    break
                start(max(free, key=lambda g: len(groups[g]) / (1 + sum(of[w] == g for w in of))))
            if not of:  # what is left is being done by other sweeps, or waits for them
                for group in [g for g in groups if groups[g]]:
                    start(group)
                    break
            for reference in ray.wait([*doing], timeout=5)[0]:
                worker, spec, claims = doing.pop(reference)
                with claims or contextlib.nullcontext():
                    try:
                        answer = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        of.pop(worker, None)
                        dead = spec.id if spec else "start"
                        tries[dead] += 1
                        why = f"its worker died {tries[dead]} times, the last time: {' '.join(str(error).split())[:300]}"
                        if spec and tries[dead] > RETRIES:
                            known = memory[spec.task, spec.model]
                            finish(spec, why=why + (f" (the run needs about {known / 2**30:.2g} GiB)" if known else ""))
                        elif spec:
                            groups[spec.task, spec.model].insert(0, spec)
                        elif tries[dead] > 10:
                            raise MubenchError(f"no worker can start on the cluster: {why}") from None
                        continue
                    if spec:
                        finish(spec, answer)
                        tries["start"] = 0
                    elif answer[1] != mine:
                        raise MubenchError(f"{answer[0]} has {answer[1]}, this machine has {mine}: install the same on all machines of the cluster")
                give(worker)
    finally:
        for _, _, claims in doing.values():
            if claims:
                claims.close()
        ray.shutdown()
        shutil.rmtree(staging, ignore_errors=True)
