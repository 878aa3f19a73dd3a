"""How long a command line takes before it does what it was asked for.

    python tests/benchmarks/startup.py [ROUNDS]

First `mubench --help` and listings beside `python -c pass`; limit: 0.3 s more (the median of 9 differences). Then, of
every mini task, a whole `mubench run TASK neggrad` whose data are prepared, in CPU seconds of the process and what it
starts: at the moment its evaluation begins, and at its end; beside them in the same rounds `import torch` and the
import of the model's class from its library. Limits: 5 s and 6 s where importing the class takes 4.6 s, that is 1.09
and 1.30 of it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from mubench.registry import load_task, tasks

ROUNDS = 5
WATCHED = """
import resource, sys
from mubench.cli import main
from mubench.measure.probes.evaluate import Evaluate
ran = Evaluate.run

def run(self, job):
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(f"\\nEVALUATION {usage.ru_utime + usage.ru_stime}", flush=True)
    yield from ran(self, job)

Evaluate.run = run
main(sys.argv[1:])
"""


def seconds(*words):
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def cpu_seconds(code, *words):
    """CPU seconds of Python code in a process of its own, and what it prints."""
    command = [sys.executable, "-c", code, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    out = process.stdout.read()
    usage = os.wait4(process.pid, 0)[2]
    return usage.ru_utime + usage.ru_stime, out


def one_round(name, architecture, folder):
    """CPU seconds of the two imports, of a run until it evaluates, and of all of it."""
    imported = f"from {'diffusers' if 'UNet' in architecture else 'transformers'} import {architecture}"
    (torch, _), (cls, _) = cpu_seconds("import torch"), cpu_seconds(imported)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        whole, printed = cpu_seconds(WATCHED, "run", name, "neggrad", "--out", out)
    (begins,) = (float(line.split()[1]) for line in printed.splitlines() if line.startswith("EVALUATION"))
    return torch, cls, begins, whole


def show(name, rounds):
    """A line on a task; returns whether it keeps the limits."""
    torch, cls, begins, whole = ([part[i] for part in rounds] for i in range(4))
    ratios = [[mine / theirs for mine, theirs in zip(part, cls, strict=True)] for part in (begins, whole)]
    median = statistics.median
    print(
        f"{name:18} torch {median(torch):5.2f}  class {median(cls):5.2f}  evaluation begins {median(begins):5.2f}"
        f"  whole run {median(whole):5.2f}  of the class's import: "
        + ", ".join(f"{median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios)
    )
    return median(ratios[0]) <= 1.09 and median(ratios[1]) <= 1.30


def main():
    good = True
    for words in (["--help"], ["ls", "methods"], ["ls", "tasks"], ["ls", "metrics"]):
        more = statistics.median(seconds("-m", "mubench", *words) - seconds("-c", "pass") for _ in range(9))
        print(f"mubench {' '.join(words)}: {more:.3f} s more than `python -c pass`, limit 0.3")
        good &= more <= 0.3
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    mini = [load_task(name) for name in tasks.names() if tasks.get(name).tier == "mini"]
    with tempfile.TemporaryDirectory() as folder:
        rounds = {}
        for turn in range(count + 1):  # the first prepares the data
            for task in mini:
                found = one_round(task.name, task.models[task.model()].architecture, folder)
                rounds.setdefault(task.name, []).extend([found] * bool(turn))
    for name, found in rounds.items():
        good &= show(name, found)
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
