"""What tests of sweeps share: methods that misbehave, a disk that is soon full, and a close look at what is left
behind.
"""

import contextlib
import subprocess
import time

import pytest

from mubench.records.predictions import score
from mubench.records.store import Store
from mubench.spec import make_spec

PLUGIN = '''
import os, pathlib, signal, time
import torch
from mubench.methods.base import Method, Term


class Raises(Method):
    """Fails before its first step, unless it is told of a file that does not exist."""
    if_there: str = "/"

    def prepare(self, context):
        if pathlib.Path(self.if_there).exists():
            raise ValueError("broken on purpose")


class NoNumber(Method):
    """A loss that is NaN."""
    schedule = "forget_only"
    terms = (Term("forget", "loss", "true", weight=float("nan")),)


class Killed(Method):
    """Dies as if out of memory."""
    def prepare(self, context):
        os.kill(os.getpid(), signal.SIGKILL)


class TooLarge(Method):
    """Asks for more memory than any machine has, of PyTorch or of Python; or is told so by a GPU."""
    of: str = "torch"

    def prepare(self, context):
        if self.of == "gpu":
            raise torch.OutOfMemoryError("CUDA says so")
        torch.empty(2**50) if self.of == "torch" else bytearray(2**60)


class Exits(Method):
    """Dies as a library that gives up."""
    def prepare(self, context):
        os._exit(9)


class Counts(Method):
    """Leaves a line for every time it really runs."""
    log: str = ""

    def finish(self, context):
        time.sleep(0.2)
        with open(self.log, "a") as file:
            file.write(f"{context.seed}\\n")


class Sleeps(Method):
    """Says that it is there, then takes its time, the first time."""
    log: str = ""

    def prepare(self, context):
        if not pathlib.Path(self.log).exists():
            pathlib.Path(self.log).touch()
            time.sleep(120)
'''
LIMIT = 32
NEEDS = r" \(out of memory\? The model alone needs about 0\.\d+ GiB by the estimate\)"  # of any run of these tests


def write_plugin(folder):
    """Methods that misbehave, as a file there."""
    path = folder / "odd.py"
    path.write_text(PLUGIN)
    return path


@contextlib.contextmanager
def small_disk(folder):
    """Mounts a file system of half a MiB there: a result with the weights of fashion's resnet fits, with those of its
    vit does not.
    """
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def check_full_disk(out, **options):
    """What a sweep does when one run's weights are too much for the disk: it says so, goes on, and nothing half-written
    stays.
    """
    from mubench.sweep.grid import sweep
    from mubench.sweep.progress import reason

    large, *others = specs = [
        make_spec(task="fashion", method="original", model=model, limit=LIMIT) for model in ("vit", "resnet")
    ]
    assert sweep(specs, out, save_model=True, **options) == (others, [], [large])
    assert reason(large, out).startswith("cannot write ") and reason(large, out).endswith(
        ": the disk is full: free some space (nothing finished was lost)"
    )
    assert Store(out).results() == [Store(out).path(spec) for spec in others]
    assert [path.name for path in Store(out).path(large).iterdir()] == ["error.json"]
    assert not [path for path in out.rglob(".*") if path.name != ".locks"] and not [
        path for path in (out / ".locks").iterdir() if path.is_dir()
    ]


def spec(method, seed=0, **params):
    return make_spec(task="fashion", method=str(method), seed=seed, limit=LIMIT, params=params)


def snapshot(out):
    """Path → bytes and time of everything a reader sees of finished runs."""
    return {
        file: (file.read_bytes(), file.stat().st_mtime_ns)
        for folder in Store(out).results()
        for file in folder.iterdir()
    }


def check_whole(out, specs):
    """Each run has exactly one result, every one of them true, and nothing lies around."""
    assert Store(out).results() == sorted(Store(out).path(spec) for spec in specs)
    for folder in Store(out).results():
        score(folder)
    left_over = [path for path in out.rglob(".*") if path.name != ".locks"]
    assert not left_over and not Store(out).errors()


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def until_some_are_done(process, out, some, seconds=120):
    """Wait until a sweep has so many results, or its process has ended."""
    until(lambda: not process.is_alive() or len(Store(out).results()) >= some, seconds)
