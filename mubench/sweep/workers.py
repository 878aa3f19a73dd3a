"""A sweep on this machine: in this process, by workers that are processes, or by processes that share each run."""

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import sys
import time

from mubench.errors import MubenchError
from mubench.importing import importing
from mubench.records.result import read
from mubench.sweep.progress import line, rank, summary, together

POLL = 0.3  # seconds between two looks at runs that others are doing


def work(sweep, report=print, current=None, parent=None):
    """Do every run of a `Sweep` that nobody else has done or is doing.

    Those that others are doing are waited for, in case they die.

    report: what prints a line.
    current: of a worker, the shared text that says which run it is in.
    parent: of a worker, the process that started it; when that is gone, the worker stops after the run it is in.
    """
    with importing():
        from mubench.runner import run_spec  # it takes seconds: not while a run is claimed

    run = functools.partial(run_spec, store=sweep.store, progress=parent is None, **sweep.options)
    waiting = list(sweep.todo)
    while waiting:
        busy = []
        for spec in waiting:
            if parent and os.getppid() != parent:
                return
            with _agreed_claim(sweep, spec) as claim:
                if claim == "busy":
                    busy.append(spec)
                elif claim == "done":
                    sweep.progress.mark(spec, sweep.failed(spec))
                else:
                    _do(sweep, spec, run, report, current)
        waiting = busy
        if waiting:
            time.sleep(POLL)


def _do(sweep, spec, run, report, current):
    """Do one run, ``run`` being what does it, and say what came of it. A failure is recorded and stops nobody else."""
    if current is not None:
        current.value = spec.id.encode()
    try:
        run(spec)
        text, failed = summary(read(sweep.store.path(spec))), False
    except Exception as error:
        foreseen = isinstance(error, MubenchError)
        if together() and not foreseen:
            # the others may be waiting for this process: the launcher ends them, and the command goes on from here
            os.write(2, f"mubench: {spec.folder.parent}, seed {spec.seed}: {error!r}\n".encode())
            os._exit(1)
        text, failed = f"failed: {str(error) if foreseen else repr(error)}", True
    if current is not None:
        current.value = b""
    sweep.progress.mark(spec, failed)
    if rank() == 0:
        report(line(spec, text, sweep.progress), flush=True)


def share_out(sweep, workers):
    """Have a number of processes do the runs of a `Sweep`, each with its share of the cores.

    One that dies is replaced, and its run recorded as failed. This process imports no PyTorch while all goes well: the
    workers would wait for it.
    """
    running = [_start(sweep, workers) for _ in range(workers)]
    try:
        while running:
            multiprocessing.connection.wait([process.sentinel for process, _ in running])
            for process, current in [pair for pair in running if not pair[0].is_alive()]:
                running.remove((process, current))
                if process.exitcode == 130:
                    raise KeyboardInterrupt
                if process.exitcode:
                    _bury(sweep, process.exitcode, current.value.decode())
                    running.append(_start(sweep, workers))
    finally:
        for process, _ in running:
            process.terminate()
        for process, _ in running:
            process.join()


def _start(sweep, workers):
    """A new worker: its process, and the shared text that says which run it is in."""
    context = multiprocessing.get_context("spawn")
    current = context.Array("c", 16, lock=False)  # a lock would be held for ever by a worker that died with it
    process = context.Process(target=_worker, args=(sweep, workers, current, os.getpid()))
    process.start()
    return process, current


def _bury(sweep, exitcode, run):
    """Record that a worker died in the middle of a run (its id); raises where it was in none."""
    spec = next((spec for spec in sweep.todo if spec.id == run), None)
    if spec is None:
        raise MubenchError(f"a worker could not start (exit code {exitcode}): run with --workers 1 to see why")
    if not sweep.store.done(spec):
        from mubench.sweep import plan

        sweep.store.write_error(spec, plan.exhausted(spec, f"the worker process died with exit code {exitcode}"))
    sweep.progress.mark(spec, failed=not sweep.store.done(spec))


def _worker(sweep, workers, current, parent):
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    try:
        work(sweep, current=current, parent=parent)
    except KeyboardInterrupt:
        sys.exit(130)


@contextlib.contextmanager
def _agreed_claim(sweep, spec):
    """``ours``, ``busy`` or ``done``: decided by the first of several cooperating processes, the same for all."""
    with contextlib.ExitStack() as stack:
        claim = "done"
        if rank() == 0 and not sweep.settled(spec):
            if not stack.enter_context(sweep.store.claim(spec)):
                claim = "busy"
            elif not sweep.settled(spec):  # else another finished it while we looked
                claim = "ours"
        if together():
            from accelerate.utils import broadcast_object_list

            from mubench.train.distributed import make_accelerator

            accelerator = make_accelerator(spec.precision)
            claim = broadcast_object_list([claim])[0]
        yield claim
        if together():
            accelerator.wait_for_everyone()  # nobody looks for the result before it is written
