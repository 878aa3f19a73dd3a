"""What a sweep would do, said before it does it: the runs, the time and the memory they need."""

import concurrent.futures
import multiprocessing
import os
import signal

from mubench.records.store import Store
from mubench.sweep import grid


def foretell(specs, out, sizes=(24, 40, 80)):
    """What to say of the runs of a sweep; nothing is allocated, downloaded or trained.

    specs: the runs, `RunSpec` each.
    out: the folder of results.
    sizes: of GPUs that the runs are fitted to, in GiB.

    Yields texts: a line for each run, then how long all take, then for each task and model what they need of a GPU.
    """
    store, groups = Store(out), {}
    for spec in specs:
        groups.setdefault((spec.task, spec.model), []).append(spec)
        yield f"{spec.id}  {'done' if store.done(spec) else 'to do'}  {spec.folder.parent}  seed {spec.seed}"
    # in a process of its own, as libraries read when they are imported that they shall stay offline
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn, initializer=_offline) as process:
        yield f"\n{process.submit(grid.forecast, specs, out).result()}"
        for runs in groups.values():
            yield f"\n{process.submit(_describe, runs, sizes).result()}"


def _offline():
    os.environ["HF_HUB_OFFLINE"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is this process's parent's to answer


def _describe(runs, sizes):
    """What runs of one task and model need of a GPU."""
    from mubench.sweep import plan

    first = runs[0]
    return plan.memory_table(first.task, first.model, [spec.make_method() for spec in runs], sizes, first.adapt)
