"""A sweep on a Ray cluster: this process hands out the runs and puts every result in place; workers run them.

A worker lives long and keeps to a task and a model while there are runs of them, so they share data and original. It
writes into a folder of its own, under the results where it sees them (shared storage), else on its own disk, from where
the files are sent. Only this process moves results to their place, so a worker that is late or lost leaves no half
result and no second one.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.records.result import read
from mubench.records.store import LOCKS
from mubench.sweep import plan, remote
from mubench.sweep.progress import line, reason, summary
from mubench.sweep.remote import Worker, code

RETRIES = 2  # of a run whose worker died
STARTS = 10  # deaths of workers without a run in a row, after which the sweep is given up
PROCESS = 2**30  # bytes of Python, PyTorch and the data
ANSWER = 20  # seconds until a cluster answers
ROOM = 120  # seconds until it has a machine again, after the loss of the last with room for a run
TOKEN = "token"  # a file that tells a worker that it sees the results' folder


def hand_out(sweep, report, address, cpus=1, gpus=0):
    """Have a cluster do all runs of a `Sweep`; returns when none is left.

    report: what prints a line.
    address: of the cluster, ``auto`` or HOST:PORT.
    cpus, gpus: what a run needs.
    """
    with ThreadPoolExecutor(1) as aside:  # it imports PyTorch while the cluster is asked
        memory = aside.submit(estimates, [] if gpus else sweep.todo)
        ray = connect(address)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(staging(sweep.store))
        stack.callback(ray.shutdown)
        ray.cloudpickle.register_pickle_by_value(remote)  # `Worker` is sent as code: its methods, not their names
        stack.callback(ray.cloudpickle.unregister_pickle_by_value, remote)
        driver = Driver(sweep, report, ray, folder, cpus, gpus, memory.result())
        stack.callback(driver.stop)
        driver.run()


def estimates(specs):
    """(task, model) → bytes of main memory that one of its runs holds; None where that is not known."""
    groups = {}
    for spec in specs:
        groups.setdefault((spec.task, spec.model), {})[spec.method, str(spec.params)] = spec
    return {
        group: plan.peak(*group, [spec.make_method() for spec in kinds.values()], next(iter(kinds.values())).adapt)
        for group, kinds in groups.items()
    }


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
        command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
        subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=ANSWER, encoding="utf-8", errors="replace"
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


@contextlib.contextmanager
def staging(store):
    """A folder for the workers, beside the results: gone with the sweep, or, if that is killed, with the next one."""
    name = f"ray-{uuid.uuid4().hex}"
    folder = store.root.resolve() / LOCKS / name
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


class Call(NamedTuple):
    """What a worker was asked, and has not answered yet.

    spec: the run it does (None: it says hello).
    claim: what holds that run for this process.
    """

    worker: object
    spec: object = None
    claim: contextlib.ExitStack | None = None


class Driver:
    """Hands out the runs of a `Sweep` to workers, and puts in place what they leave.

    memory: `estimates`, where main memory is asked for.
    groups: (task, model) → its runs that no worker has.
    needs: (task, model) → what one of its workers needs, name of a resource → amount.
    left: ids of the runs that are not settled.
    workers: worker → the (task, model) it works on.
    calls: Ray's reference of an answer → the `Call`.
    deaths: id of a run, or None for workers without one → how many workers died.
    roomy: the last time there was room for a run, or one under way.
    """

    def __init__(self, sweep, report, ray, folder, cpus, gpus, memory):
        self.sweep, self.report, self.ray, self.folder, self.cpus, self.gpus = sweep, report, ray, folder, cpus, gpus
        self.actor, self.code = ray.remote(Worker), code()
        self.environment = {n: v for n, v in os.environ.items() if n.startswith("MUBENCH_") or n.endswith("_OFFLINE")}
        self.groups = {}
        for spec in sweep.todo:
            self.groups.setdefault((spec.task, spec.model), []).append(spec)
        self.needs = {group: self._need(memory.get(group)) for group in self.groups}
        self.left = {spec.id for spec in sweep.todo}
        self.workers, self.calls, self.deaths, self.roomy = {}, {}, Counter(), time.monotonic()

    def _need(self, memory):
        """What a worker needs; ``memory``: main memory, where no GPU is asked for and it is known."""
        return {"CPU": self.cpus, "GPU": self.gpus, "memory": int(memory) + PROCESS if memory else 0}

    # -- the sweep

    def run(self):
        """Do all runs."""
        self._refuse_what_no_machine_has()
        while self.left:
            for group in sorted(self.groups, key=lambda group: -len(self.groups[group])):
                while self._wanted(group):
                    self._start(group)
            self._check_room()
            if self.calls:
                for reference in self.ray.wait([*self.calls], timeout=5)[0]:
                    self._answered(reference)
            else:  # others do what is left
                time.sleep(1)

    def stop(self):
        """End all workers, and let go of what they did."""
        for worker in self.workers:
            self.ray.kill(worker)
        if self.calls:  # until they are dead and nobody writes any more
            self.ray.wait([*self.calls], num_returns=len(self.calls), timeout=10)
        for call in self.calls.values():
            if call.claim:
                call.claim.close()

    def _refuse_what_no_machine_has(self):
        if not self._room({"CPU": self.cpus, "GPU": self.gpus}):
            raise MubenchError(
                f"no machine of the cluster has {self.cpus:g} CPUs and {self.gpus:g} GPUs: ask for less with"
                " --cpus-per-run, --gpus-per-run"
            )
        for group in [group for group in self.groups if not self._room(self.needs[group])]:
            for spec in self.groups.pop(group):
                self._fail(
                    spec,
                    f"it needs about {self.needs[group]['memory'] / 2**30:.3g} GiB of main memory, no machine of the"
                    " cluster has as much",
                )

    def _room(self, need):
        """How many workers with such a need the machines have room for when they do nothing else."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        places = ([node.get(name, 0) // amount for name, amount in need.items() if amount] for node in nodes)
        return sum(int(min(of_each or [1])) for of_each in places)

    def _check_room(self):
        """Raise where the cluster has had no room for a run for too long."""
        under_way = any(call.spec for call in self.calls.values())
        if under_way or any(self._room(self.needs[group]) for group, specs in self.groups.items() if specs):
            self.roomy = time.monotonic()
        elif time.monotonic() - self.roomy > ROOM:
            raise MubenchError(
                "the cluster has lost all machines with room for a run: the same command goes on when there is one"
                " again"
            )

    # -- workers

    def _wanted(self, group):
        """Whether one more worker of a group would find a run to do.

        It may have to wait for its place: of those there are never many.
        """
        workers = Counter(self.workers.values())[group]
        starting = sum(self.workers[call.worker] == group for call in self.calls.values() if not call.spec)
        if 2 * starting > workers or starting >= len(self.groups[group]) or workers >= self._room(self.needs[group]):
            return False
        if not (claimed := self._next_run(group)):
            return False
        claimed[1].close()
        return True

    def _start(self, group):
        """A new worker for a group; it says hello first."""
        resources = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "memory": self.needs[group]["memory"] or None,
            "max_restarts": 0,
        }
        folder, threads = str(self.folder / uuid.uuid4().hex), max(1, int(self.cpus))
        worker = self.actor.options(**resources).remote(self.environment, folder, TOKEN, threads)
        self.workers[worker] = group
        self.calls[worker.hello.remote()] = Call(worker)

    def _end(self, worker):
        self.ray.kill(worker)
        del self.workers[worker]

    def _give(self, worker):
        """The next run for a worker, or its end where there is none.

        A run of its task and model if there is one, else of those that need no more memory, least worked on.
        """
        own, busy = self.workers[worker], Counter(self.workers.values())
        for group in sorted(self.groups, key=lambda group: (group != own, busy[group])):
            if self.needs[group]["memory"] > self.needs[own]["memory"]:
                continue
            if claimed := self._next_run(group):
                spec, claim = claimed
                self.groups[group].remove(spec)
                self.workers[worker] = group
                self.calls[worker.run.remote(spec, spec.id, self.sweep.options)] = Call(worker, spec, claim)
                return
        self._end(worker)

    def _next_run(self, group):
        """The first run of a group that no other sweep is doing, and its claim; None where there is none."""
        for spec in list(self.groups[group]):
            claim = contextlib.ExitStack()
            if claim.enter_context(self.sweep.store.claim(spec)):
                if not self.sweep.settled(spec):
                    return spec, claim
                self.groups[group].remove(spec)
                self.left.discard(spec.id)
                self.sweep.progress.mark(spec, self.sweep.failed(spec))
            claim.close()
        return None

    # -- answers

    def _answered(self, reference):
        """Take what a worker answers, and give it the next run."""
        call = self.calls.pop(reference)
        with call.claim or contextlib.nullcontext():
            try:
                answer = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                self._died(call, error)
                return
            if not call.spec and answer[1] != self.code:
                raise MubenchError(
                    f"{answer[0]} has {answer[1]}, this machine has {self.code}: install the same on all machines of"
                    " the cluster"
                )
            self._give(call.worker)  # first: it does not wait until this run is in place
            if call.spec:
                self._finish(call.spec, answer)
                self.deaths[None] = 0

    def _died(self, call, error):
        """A worker is gone: its run is done again, or failed if that was the last try."""
        self._end(call.worker)
        spec, run = call.spec, call.spec and call.spec.id
        self.deaths[run] += 1
        why = f"its worker died {self.deaths[run]} times, the last time: {' '.join(str(error).split())[:300]}"
        if spec and self.deaths[run] > RETRIES:
            self._fail(spec, plan.exhausted(spec, why))
        elif spec:
            self.groups[spec.task, spec.model].insert(0, spec)
        elif self.deaths[run] > STARTS:
            raise MubenchError(f"no worker can start on the cluster: {why}")

    def _finish(self, spec, answer):
        """Put in place what `remote.perform` answered, a sentence being the reason why the run failed."""
        if isinstance(answer, str):
            return self._fail(spec, answer)
        try:
            self._place(spec, *answer)
        except (MubenchError, OSError) as error:
            return self._fail(spec, str(error))
        store = self.sweep.store
        return self._over(spec, reason(spec, store.root) if self.sweep.failed(spec) else None)

    def _fail(self, spec, why):
        """Record that a run failed."""
        with contextlib.suppress(MubenchError, OSError):  # no room even for that
            self.sweep.store.write_error(spec, why)
        self._over(spec, why)

    def _over(self, spec, why):
        """A run is settled; ``why`` it failed, or None."""
        self.left.discard(spec.id)
        self.sweep.progress.mark(spec, bool(why))
        text = f"failed: {why}" if why else summary(read(self.sweep.store.path(spec)))
        self.report(line(spec, text, self.sweep.progress), flush=True)

    def _place(self, spec, folder, files):
        """Put what a worker has written, or sent (name → bytes), in its place, whole."""
        folder = self.folder / "sent" / spec.id if files else Path(folder)
        try:
            for name, content in (files or {}).items():
                with whole(folder / name) as path:
                    path.write_bytes(content)
            self.sweep.store.adopt(spec, folder)
        finally:
            rmtree(folder, ignore_errors=True)
