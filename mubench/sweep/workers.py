"""A sweep on this machine: in this process, by workers that are processes, or by processes that share each run."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import time

from mubench.errors import MubenchError
from mubench.sweep.progress import rank, settled, summary, together
from mubench.records.result import Store, read


def work(specs, out, since, force, options, progress, report=print, current=None, parent=None):
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
                            # the others may be waiting for this process: the launcher ends them,
                            # and the command goes on from here
                            os._exit(1)
                        failed = True
                        line = f"failed: {str(error) if isinstance(error, MubenchError) else repr(error)}"
                    if current is not None:
                        current.value = b""
                    progress.mark(spec, failed)
                    if rank() == 0:
                        report(f"{spec.folder.parent}, seed {spec.seed}: {line} {progress}", flush=True)
        waiting = busy
        if waiting:
            time.sleep(0.3)


def share_out(specs, out, workers, since, force, options, progress):
    """Workers are processes with a share of the cores each; one that dies is replaced and its run recorded as failed.
    This process imports no
    PyTorch while all goes well: they would wait for it."""
    context, store, by_id = multiprocessing.get_context("spawn"), Store(out), {spec.id: spec for spec in specs}

    def start():
        current = context.Array("c", 16, lock=False)  # a lock would be held for ever by a worker that died with it
        process = context.Process(
            target=_worker, args=(specs, out, since, force, options, progress, workers, current, os.getpid())
        )
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
                        from mubench.sweep import plan

                        store.write_error(
                            spec, plan.exhausted(spec, f"the worker process died with exit code {process.exitcode}")
                        )
                    progress.mark(spec, failed=not store.done(spec))
                    running.append(start())
                elif process.exitcode:
                    raise MubenchError(
                        f"a worker could not start (exit code {process.exitcode}): run with --workers 1 to see why"
                    )
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
        work(specs, out, since, force, options, progress, current=current, parent=parent)
    except KeyboardInterrupt:
        sys.exit(130)


@contextlib.contextmanager
def _agreed_claim(store, spec, since, force, options):
    """``mine``, ``busy`` or ``done``: decided by the first of several cooperating processes, the same for all of
    them.
    """
    with contextlib.ExitStack() as stack:
        claim = "done"
        if rank() == 0 and not settled(store, spec, since, force, options):
            claim = "mine" if stack.enter_context(store.claim(spec)) else "busy"
            claim = (
                "done" if claim == "mine" and settled(store, spec, since, force, options) else claim
            )  # finished by another while we looked
        if together():
            from accelerate.utils import broadcast_object_list

            from mubench.train.distributed import make_accelerator

            accelerator = make_accelerator(spec.precision)
            claim = broadcast_object_list([claim])[0]
        yield claim
        if together():
            accelerator.wait_for_everyone()  # nobody looks for the result before it is written
