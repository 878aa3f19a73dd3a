"""What runs on the machines of a Ray cluster: a worker, and which code it has."""

import contextlib
import hashlib
import importlib
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

from mubench import registry
from mubench.errors import MubenchError
from mubench.records.store import ERROR, Store


def code():
    """What must be the same on all machines: the version, and the beginning of the hash of all code that runs there."""
    import mubench

    tasks, methods = (importlib.import_module(room.group) for room in (registry.tasks, registry.methods))
    files = [
        (f"{package.__name__}/{path.relative_to(root).as_posix()}", path)
        for package in (mubench, tasks, methods)
        for root in [Path(package.__file__).parent]
        for path in sorted(root.glob("**/*.py"))
        if package is not mubench or path.relative_to(root).parts[0] not in ("tasks", "methods", "leaderboard")
    ]  # the same whether installed or a checkout
    digest = hashlib.sha256(b"".join(name.encode() + path.read_bytes() for name, path in files)).hexdigest()
    return f"mubench {mubench.__version__} (code {digest[:8]})"


class Worker:
    """What does runs on the cluster; sent there as code, so that a machine without mubench can say so.

    environment: variables, set before anything is imported that reads them.
    folder: where to write what runs leave.
    token: a file beside that folder; where it is not seen, the disk is another one.
    threads: of PyTorch.
    """

    def __init__(self, environment, folder, token, threads):
        import os

        os.environ.update(environment)
        shared = os.path.isfile(os.path.join(os.path.dirname(folder), token))
        self.root, self.threads = folder if shared else None, threads

    def hello(self):
        """The machine's name and its `code`."""
        import socket

        try:
            import mubench
            from mubench.sweep.remote import code
        except ImportError:
            return socket.gethostname(), f"mubench {mubench.__version__}" if "mubench" in locals() else "no mubench"
        return socket.gethostname(), code()

    def run(self, *run):
        """`perform` a run."""
        from mubench.sweep.remote import perform

        return perform(self.root, self.threads, *run)


def perform(root, threads, spec, name, options):
    """Do a run, in a process of its own.

    root: the folder to write to (None: a temporary one, from where the files are sent).
    threads: of PyTorch.
    spec, name: the run and its id, as the driver has it.
    options: as in `mubench.runner.run_spec`.

    Returns (folder of the result or error, its files or None where they lie in ``root``), or a sentence where neither
    could be written.
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
        if root:
            return str(folder), None
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return str(folder), files
