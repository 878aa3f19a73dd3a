"""Runs one after the other in one process against a sweep of the same runs by two workers, local and on two nodes of a
Ray cluster; tables are left out.

    python tests/benchmarks/sweep_efficiency.py [SEEDS [ROUNDS]]      of 5 runs each; 8 seeds, 40 runs: 10 minutes

Efficiency is (time of one process) / (2 × time of two workers), the start of all processes included, of the cluster's
nodes not. It is told

* of the clock;
* of the clock of a free machine: without the time in which workers were ready but others had the cores (Linux tells
  it), and with the CPU seconds of the trainings as unit, which grow for both where caches and cores are shared;
* of CPU seconds, in that unit: there workers that wait cost nothing, only what is done in addition counts.

Beside them: when the first run trained, and how long each worker slept. Rounds alternate; the limit, 0.9 of the second,
is judged by their median.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from _paired import judged

from mubench.job import original
from mubench.records.result import RESULT, read
from mubench.records.store import Store
from mubench.registry import load_task

LIMIT = 0.9
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
SWEEP = """
import json, sys
from mubench.sweep import grid
seeds, out, how = json.loads(sys.argv[1])
specs, _ = grid.expand("fashion", "retrain,finetune,rand_label,neggrad_plus,scrub", seeds=[*range(seeds)])
done, _, failed = grid.sweep(specs, out, report=lambda *_, **__: None, **how)
sys.exit(bool(failed))
"""


class Meter(threading.Thread):
    """What the processes below this one take while it is open, within a look of the truth: ``seconds`` on the clock,
    CPU seconds ``cpu``, and of the busiest ``workers`` the seconds that each waited for a core (``queued``) and
    ``slept``.
    """

    def __init__(self, workers):
        super().__init__()
        self.workers, self.first, self.last, self.over = workers, {}, {}, threading.Event()

    def look(self):
        for process in psutil.Process().children(recursive=True):
            try:
                cpu = sum(process.cpu_times()[:2])
                ran, queued = (
                    int(part) / 1e9 for part in Path(f"/proc/{process.pid}/schedstat").read_text().split()[:2]
                )
            except (psutil.NoSuchProcess, OSError):
                continue
            self.last[process] = cpu, queued, time.time() - process.create_time() - ran - queued
            self.first.setdefault(process, self.last[process] if self.ident is None else (0, 0, 0))

    def run(self):
        while not self.over.wait(0.3):
            self.look()

    def __enter__(self):
        self.look()
        self.began = time.time()
        self.start()
        return self

    def __exit__(self, *_):
        self.seconds = time.time() - self.began
        self.over.set()
        self.join()
        taken = [[b - a for a, b in zip(self.first[p], self.last[p], strict=True)] for p in self.last]
        self.cpu = sum(cpu for cpu, *_ in taken)
        busiest = sorted(taken)[-self.workers :]
        self.queued, self.slept = [queued for _, queued, _ in busiest], [slept for *_, slept in busiest]
        self.free = self.seconds - min(self.queued)


def trained_from(folder):
    """When the run in a folder began to train."""
    result = read(folder)
    return (folder / RESULT).stat().st_mtime - result.costs["unlearning_seconds"] - result.evaluation_seconds


def measure(seeds, **how):
    """A `Meter` of a sweep; ``start_seconds`` until its first run trained, CPU seconds ``trained`` of all trainings."""
    with tempfile.TemporaryDirectory() as out:
        with Meter(2 if how else 1) as meter:
            subprocess.run([sys.executable, "-c", SWEEP, json.dumps([seeds, out, how])], check=True)
        folders = Store(out).results()
        meter.start_seconds = min(map(trained_from, folders)) - meter.began
        meter.trained = sum(read(folder).seconds for folder in folders)
    return meter


def efficiency(one, two):
    unit = two.trained / one.trained
    return {
        "clock": one.seconds / (2 * two.seconds),
        "free": unit * one.free / (2 * two.free),
        "cpu": unit * one.cpu / two.cpu,
    }


def show(name, meter):
    listed = lambda values: " and ".join(f"{value:.1f}" for value in values)
    print(
        f"{name}: {meter.seconds:.0f} s, on a free machine {meter.free:.0f}; {meter.cpu:.0f} CPU s, of them"
        f" {meter.trained:.0f} trainings, the first after {meter.start_seconds:.1f} s; workers slept"
        f" {listed(meter.slept)} s",
        flush=True,
    )


def main():
    from ray.cluster_utils import Cluster

    os.environ.update(ONE_THREAD)
    seeds, rounds = [*map(int, sys.argv[1:]), *(8, 1)[len(sys.argv) - 1 :]]
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False},
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    address = {"address": cluster.address, "cpus": 1, "gpus": 0}
    ways, found = {"2 workers": {"workers": 2}, "2 nodes of a Ray cluster": {"cluster": address}}, {}
    try:
        for seed in range(seeds):  # what is prepared once
            original(load_task("fashion"), "resnet", seed=seed)
        measure(1, workers=2)
        for _ in range(rounds):
            one = measure(seeds)
            show(f"{5 * seeds} runs in one process", one)
            for name, how in ways.items():
                two = measure(seeds, **how)
                show(name, two)
                found.setdefault(name, []).append(efficiency(one, two))
    finally:
        cluster.shutdown()
    for name, each in found.items():
        middle = {what: statistics.median(e[what] for e in each) for what in each[0]}
        print(
            f"{name}: efficiency on the clock {middle['clock']:.2f}, on that of a free machine {middle['free']:.2f}"
            f" (≥ {LIMIT}: {judged([e['free'] for e in each], LIMIT)}), in CPU seconds {middle['cpu']:.2f}"
        )
    sys.exit(any(statistics.median(e["free"] for e in each) < LIMIT for each in found.values()))


if __name__ == "__main__":
    main()
