"""Runs one after the other in one process against a sweep of the same runs with two workers, local and on two nodes of
a Ray cluster.

    python tests/benchmarks/sweep_efficiency.py [SEEDS]      of 5 runs each; 8 seeds, 40 runs, take a quarter of an hour

Efficiency is (time of one process) / (2 × time of two workers), on the clock and in CPU seconds; the start of all
processes counts, of the cluster's nodes it does not. Limit: 0.9 on the clock of a machine with two cores that does
nothing else: other work takes more from two processes than from one. In CPU seconds, which other work hardly changes,
only what workers do in addition counts, not that they wait.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time

import psutil

METHODS, LIMIT = "retrain,finetune,rand_label,neggrad_plus,scrub", 0.9
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


class Meter:
    """Seconds on the clock and, of all processes below this one, CPU seconds (within one look of the truth)."""

    def __enter__(self):
        self.start, self.known, self.over = time.perf_counter(), {}, threading.Event()
        self.look()
        self.before = self.cpu()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def look(self):
        for process in psutil.Process().children(recursive=True):
            try:
                self.known[process] = sum(process.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue

    def cpu(self):
        return sum(self.known.values())

    def watch(self):
        while not self.over.wait(1):
            self.look()

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.start
        self.over.set()
        self.thread.join()
        self.look()
        self.cpu_seconds = self.cpu() - self.before


def measure(seeds, *how):
    with tempfile.TemporaryDirectory() as out, Meter() as meter:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "mubench",
                "run",
                "fashion",
                METHODS,
                "--seed",
                *map(str, range(seeds)),
                "--out",
                out,
                *how,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return meter


def main():
    from ray.cluster_utils import Cluster

    os.environ.update(ONE_THREAD)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False},
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    good, one = True, measure(seeds)
    print(f"{5 * seeds} runs in one process: {one.seconds:.0f} s, {one.cpu_seconds:.0f} of them of the CPU", flush=True)
    try:
        for name, how in (("2 workers", ["--workers", "2"]), ("2 nodes of a Ray cluster", ["--ray", cluster.address])):
            two = measure(seeds, *how)
            efficiency = one.seconds / (2 * two.seconds)
            good &= efficiency >= LIMIT
            print(
                f"{name}: {two.seconds:.0f} s, efficiency {efficiency:.2f}: {'pass' if efficiency >= LIMIT else 'FAIL'}"
                f" (≥ {LIMIT}); {two.cpu_seconds:.0f} CPU seconds, efficiency {one.cpu_seconds / two.cpu_seconds:.2f}",
                flush=True,
            )
    finally:
        cluster.shutdown()
    sys.exit(not good)


if __name__ == "__main__":
    main()
