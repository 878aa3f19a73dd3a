"""`mubench run` with 10,000 runs, half of them done: CPU seconds until the first is begun, and what it costs to say how
far the sweep is.

    python tests/benchmarks/sweep_start.py [RUNS]

Limits: 5 s beside `import mubench.runner` (PyTorch), which is the same for one run; 1 ms.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mubench.records.store import Store
from mubench.sweep import grid
from mubench.sweep.progress import Progress

METHODS, MODELS, RATIOS = "neggrad,rand_label,bad_t,scrub,salun", ["resnet", "vit"], ["1", "2", "5", "7", "10"]


def seconds_to_first_run(runs, out):
    seeds = [str(seed) for seed in range(runs // 50)]
    specs, _ = grid.expand("fashion", METHODS, MODELS, RATIOS, [*map(int, seeds)])
    for spec in specs[::2]:
        (Store(out).path(spec)).mkdir(parents=True)
        (Store(out).path(spec) / "result.json").touch()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mubench",
            "run",
            "fashion",
            METHODS,
            "--model",
            *MODELS,
            "--ratio",
            *RATIOS,
            "--seed",
            *seeds,
            "--out",
            str(out),
        ]
    )
    while not [*(Path(out) / ".locks").glob("*.lock")] and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it began a run"
    return cpu_seconds(process), specs


def cpu_seconds(process):
    """Of a process that is ended here unless it has: other load hardly changes them."""
    process.kill()
    usage = os.wait4(process.pid, 0)[2]
    return usage.ru_utime + usage.ru_stime


def main():
    with tempfile.TemporaryDirectory() as out:
        taken, specs = seconds_to_first_run(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, out)
    process = subprocess.Popen(
        [sys.executable, "-c", "import mubench.runner; print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    imports = cpu_seconds(process)
    progress = Progress(specs)
    progress.mark(specs[0])
    start = time.perf_counter()
    for _ in range(100):
        str(progress)
    each = (time.perf_counter() - start) / 100
    good = taken - imports <= 5 and each <= 1e-3
    print(
        f"{len(specs)} runs, half of them done: the first begins after {taken:.1f} s of CPU, {imports:.1f} s of it"
        f" imports; a line of progress: {1e3 * each:.3f} ms: {'pass' if good else 'FAIL'} (≤ 5 s beside imports, ≤"
        " 1 ms)"
    )
    sys.exit(not good)


if __name__ == "__main__":
    main()
