"""A sweep on a Ray cluster: this process hands out the runs and puts every result in place; workers run them.

A worker lives long and keeps to a task and a model while there are runs of them, so they share data and original. It
writes into a folder of its own, under the results where it sees them (shared storage), else on its own disk, from where
the files are sent. Only this process moves results to their place, so a worker that is late or lost leaves no half
result and no second one.
"""

import contextlib
import hashlib
import importlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from mubench import registry
from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.sweep.progress import reason, settled, summary
from mubench.records.result import ERROR, Store, read

RETRIES, PROCESS = 2, 2**30  # of a run whose worker died; bytes of Python, PyTorch and the data
ANSWER, ROOM = (
    20,
    120,
)  # seconds: until a cluster answers; until it has a machine again, after the loss of the last with room for a run
TOKEN = "token"  # a file that tells a worker that it sees the results' folder


def connect(address):
    """Ray, connected to the cluster at ``auto`` or HOST:PORT."""
    try:
        import ray
    except ImportError:
        raise MubenchError("--ray needs Ray: pip install 'mubench[ray]'") from None
    address = os.environ.get("RAY_ADDRESS") or address if address == "auto" else address
    try:
        if address != "auto":
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        # for what does not answer, Ray itself would wait minutes and then end this process
        subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address],
            capture_output=True,
            text=True,
            check=True,
            timeout=ANSWER,
        )
        ray.init(address, log_to_driver=False, logging_level="ERROR")
        return ray
    except subprocess.TimeoutExpired:
        why = f"nothing heard for {ANSWER} seconds"
    except (OSError, ValueError, OverflowError, RuntimeError, subprocess.CalledProcessError) as error:
        why = " ".join((getattr(error, "stderr", "") or str(error)).strip().rpartition("\n")[2].split())[:100]
    raise MubenchError(
        f"no Ray cluster answers at {address} ({why}): give HOST:PORT as `ray start --head` shows it, or auto on a node"
        " of the cluster"
    )


def code():
    """What must be the same on all machines: the version, and the beginning of the hash of all code that runs there."""
    import mubench

    tasks, methods = (importlib.import_module(known.group) for known in (registry.tasks, registry.methods))
    files = [
        (f"{package.__name__}/{path.relative_to(root).as_posix()}", path)
        for package in (mubench, tasks, methods)
        for root in map(Path, package.__path__)
        for path in sorted(root.glob("**/*.py"))
        if package is not mubench or path.relative_to(root).parts[0] not in ("tasks", "methods", "leaderboard")
    ]  # the same whether installed or a checkout
    digest = hashlib.sha256(b"".join(name.encode() + path.read_bytes() for name, path in files)).hexdigest()
    return f"mubench {mubench.__version__} (code {digest[:8]})"


class Worker:
    """What runs on the cluster; sent there as code, so that a machine without mubench can say so."""

    def __init__(self, environment, folder, token, threads):
        import os

        os.environ.update(environment)  # before anything is imported that reads it
        self.root, self.threads = (
            folder if os.path.isfile(os.path.join(os.path.dirname(folder), token)) else None,
            threads,
        )

    def hello(self):
        """The machine's name and its `code`."""
        import socket

        try:
            import mubench
            from mubench.sweep.cluster import code
        except ImportError:
            return socket.gethostname(), f"mubench {mubench.__version__}" if "mubench" in locals() else "no mubench"
        return socket.gethostname(), code()

    def run(self, *run):
        from mubench.sweep.cluster import perform

        return perform(self.root, self.threads, *run)


def perform(root, threads, spec, name, options):
    """(folder of the result or error, its files unless they are on shared storage), or a sentence where neither could
    be written.
    """
    import torch

    from mubench.runner import run_spec

    torch.set_num_threads(threads)
    with contextlib.ExitStack() as stack:
        store = Store(root or stack.enter_context(TemporaryDirectory(prefix="mubench")))
        folder = store.path(spec)
        try:
            if spec.id != name:
                return f"{spec.task} or {spec.method} is another file on {socket.gethostname()}"
            run_spec(spec, store, progress=False, **options)
        except Exception as error:  # recorded, unless there is no room for the record
            if not (folder / ERROR).is_file():
                return str(error) if isinstance(error, MubenchError) else f"{type(error).__name__}: {error}"
        return str(folder), (
            None
            if root
            else {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        )


@contextlib.contextmanager
def staging(store):
    """A folder for the workers, beside the results: gone with the sweep, or, if that is killed, with the next one."""
    name = f"ray-{uuid.uuid4().hex}"
    folder = store.root.resolve() / ".locks" / name
    with store.hold(name):
        for lock in folder.parent.glob("ray-*.lock"):
            with store.hold(lock.stem) as dead:
                if dead:
                    rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)
        try:
            with whole(folder / "token"):
                pass
            yield folder
        finally:
            rmtree(folder, ignore_errors=True)
            folder.with_suffix(".lock").unlink(missing_ok=True)


def sweep(todo, store, since, force, options, progress, report, address, cpus=1, gpus=0):
    """Hand out all runs of ``todo``; returns when none is left."""
    from mubench.sweep import plan

    ray = connect(address)
    ray.cloudpickle.register_pickle_by_value(
        sys.modules[__name__]
    )  # `Worker` is sent as code: its methods too, not the name of this module
    environment = {n: v for n, v in os.environ.items() if n.startswith("MUBENCH_") or n.endswith("_OFFLINE")}
    here, remote, of, doing = (
        code(),
        ray.remote(Worker),
        {},
        {},
    )  # worker → (task, model); reference → (worker, run if it has one, its claim)
    left, tries = {spec.id for spec in todo}, Counter()
    groups, needs, seen = {}, {}, time.monotonic()  # when there was last room for a run
    for spec in todo:
        groups.setdefault((spec.task, spec.model), []).append(spec)
    for group, specs in groups.items():
        kinds = {(s.method, str(s.params)): s for s in specs}.values()
        known = None if gpus else plan.peak(*group, [s.make_method() for s in kinds], specs[0].adapt)
        needs[group] = {"CPU": cpus, "GPU": gpus, "memory": int(known) + PROCESS if known else 0}

    def room(need):
        """How many workers the machines have room for when they do nothing else."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(
            int(min([node.get(name, 0) // much for name, much in need.items() if much] or [1])) for node in nodes
        )

    def next_run(group):
        """The first run of a group that no other sweep is doing, claimed."""
        for spec in list(groups[group]):
            claims = contextlib.ExitStack()
            if claims.enter_context(store.claim(spec)):
                if not settled(store, spec, since, force, options):
                    return spec, claims
                groups[group].remove(spec)
                left.discard(spec.id)
                progress.mark(spec, store.failed(spec, since))
            claims.close()

    def wanted(group):
        """Whether one more worker of a group would find a run to do. It may have to wait for its place: of those there
        are never many.
        """
        workers, coming = (
            Counter(of[worker] for worker in some)[group]
            for some in (of, [w for w, spec, _ in doing.values() if not spec])
        )
        if (
            2 * coming > workers
            or coming >= len(groups[group])
            or workers >= room(needs[group])
            or not (found := next_run(group))
        ):
            return False
        found[1].close()
        return True

    def start(group):
        worker = remote.options(
            num_cpus=cpus, num_gpus=gpus, memory=needs[group]["memory"] or None, max_restarts=0
        ).remote(environment, str(folder / uuid.uuid4().hex), TOKEN, max(1, int(cpus)))
        of[worker] = group
        doing[worker.hello.remote()] = worker, None, None

    def stop(worker):
        ray.kill(worker)
        del of[worker]

    def give(worker):
        """The next run for a worker: of its task and model if there is one, else of those that need no more, least
        worked on.
        """
        mine, busy = of[worker], Counter(of.values())
        for group in sorted(groups, key=lambda group: (group != mine, busy[group])):
            if needs[group]["memory"] <= needs[mine]["memory"] and (found := next_run(group)):
                spec, claims = found
                groups[group].remove(spec)
                of[worker] = group
                doing[worker.run.remote(spec, spec.id, options)] = worker, spec, claims
                return
        stop(worker)

    def place(spec, at, files):
        """Put what a worker has written, or sent, in its place, whole."""
        at = folder / "sent" / spec.id if files else Path(at)
        try:
            for name, content in (files or {}).items():
                with whole(at / name) as path:
                    path.write_bytes(content)
            store.adopt(spec, at)
        finally:
            rmtree(at, ignore_errors=True)

    def finish(spec, answer):
        """answer: what `place` needs, or a sentence: why the run failed."""
        why = answer if isinstance(answer, str) else None
        try:
            if not why:
                place(spec, *answer)
        except (MubenchError, OSError) as error:
            why = str(error)
        if why:
            with contextlib.suppress(MubenchError, OSError):  # no room even for that
                store.write_error(spec, why)
        elif store.failed(spec, since):
            why = reason(spec, store.root)
        left.discard(spec.id)
        progress.mark(spec, bool(why))
        report(
            f"{spec.folder.parent}, seed {spec.seed}: {f'failed: {why}' if why else summary(read(store.path(spec)))}"
            f" {progress}",
            flush=True,
        )

    def lost(worker, spec, error):
        stop(worker)
        tries[spec and spec.id] += 1
        why = f"its worker died {tries[spec and spec.id]} times, the last time: {' '.join(str(error).split())[:300]}"
        if spec and tries[spec.id] > RETRIES:
            finish(spec, plan.exhausted(spec, why))
        elif spec:
            groups[spec.task, spec.model].insert(0, spec)
        elif tries[None] > 10:
            raise MubenchError(f"no worker can start on the cluster: {why}")

    with staging(store) as folder:
        try:
            if not room({"CPU": cpus, "GPU": gpus}):
                raise MubenchError(
                    f"no machine of the cluster has {cpus:g} CPUs and {gpus:g} GPUs: ask for less with --cpus-per-run,"
                    " --gpus-per-run"
                )
            for group in [group for group in groups if not room(needs[group])]:
                for spec in groups.pop(group):
                    finish(
                        spec,
                        f"it needs about {needs[group]['memory'] / 2**30:.3g} GiB of main memory, no machine of the"
                        " cluster has as much",
                    )
            while left:
                for group in sorted(groups, key=lambda group: -len(groups[group])):
                    while wanted(group):
                        start(group)
                if any(spec for _, spec, _ in doing.values()) or any(
                    room(needs[group]) for group in groups if groups[group]
                ):
                    seen = time.monotonic()
                elif time.monotonic() - seen > ROOM:
                    raise MubenchError(
                        "the cluster has lost all machines with room for a run: the same command goes on when there is"
                        " one again"
                    )
                if not doing:  # others do what is left
                    time.sleep(1)
                for reference in ray.wait([*doing], timeout=5)[0] if doing else ():
                    worker, spec, claims = doing.pop(reference)
                    with claims or contextlib.nullcontext():
                        try:
                            answer = ray.get(reference)
                        except ray.exceptions.RayError as error:
                            lost(worker, spec, error)
                            continue
                        if spec:
                            finish(spec, answer)
                            tries[None] = 0
                        elif answer[1] != here:
                            raise MubenchError(
                                f"{answer[0]} has {answer[1]}, this machine has {here}: install the same on all"
                                " machines of the cluster"
                            )
                    give(worker)
        finally:
            for worker in of:
                ray.kill(worker)
            if doing:
                ray.wait([*doing], num_returns=len(doing), timeout=10)  # until they are dead and nobody writes any more
            for _, _, claims in doing.values():
                if claims:
                    claims.close()
            ray.shutdown()
