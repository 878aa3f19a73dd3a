"""What every room's tests share: one thread, no network, a cache of their own, and the command line, in this process or
in another.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from hub import Hub
from mubench.cache import cache_dir
from mubench.cli import main
from mubench.models import originals
from mubench.registry import load_task
from mubench.sweep import dry_run
from preloaded import Preloaded, command

# Before torch is imported anywhere; processes started by tests inherit it.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

IN_BACKGROUND = """
import os, signal, sys
os.setsid()
signal.signal(signal.SIGINT, signal.default_int_handler)
for stream, path in ((1, folder + "/out"), (2, folder + "/err")):
    os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
exec(code)
"""
SEEDS = 41  # of which fashion's resnet has an original at hand: training one takes a quarter of a minute


@pytest.fixture(scope="session", autouse=True)
def _cache():
    """A cache of the tests' own: what the user's holds, and for every seed a stand-in for the original, the shipped one
    under another card.
    """
    theirs, mine = cache_dir(), Path(tempfile.mkdtemp(prefix="mubench-cache-"))
    for name in ("archives", "prepared"):
        (theirs / name).mkdir(parents=True, exist_ok=True)
        (mine / name).symlink_to(theirs / name)
    before = os.environ.get("MUBENCH_CACHE")
    os.environ["MUBENCH_CACHE"] = str(mine)
    task = load_task("fashion")
    shipped = task.originals_dir("resnet")
    card = json.loads((shipped / originals.CARD).read_text())
    for seed in range(1, SEEDS):
        folder = originals.trained_dir(task, "resnet", seed)
        folder.mkdir(parents=True)
        for name in (originals.WEIGHTS, "config.json"):
            (folder / name).symlink_to(shipped / name)
        (folder / originals.CARD).write_text(json.dumps(card | {"seed": seed}))
    yield mine
    os.environ.pop("MUBENCH_CACHE") if before is None else os.environ.update(MUBENCH_CACHE=before)
    shutil.rmtree(mine)


@dataclass(frozen=True)
class Done:
    """What came of a command line."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys):
    """Runs a command line in this process."""

    def run(*words):
        capsys.readouterr()
        code, last = 0, ""
        try:
            main([str(word) for word in words])
        except SystemExit as stop:  # what Python does with it at the end of a process
            code, last = (1, f"{stop.code}\n") if isinstance(stop.code, str) else (stop.code or 0, "")
        out, err = capsys.readouterr()
        return Done(code, out, err + last)

    return run


@pytest.fixture
def mubench():
    """Runs a command line in a process of its own."""

    def run(*words, **options):
        command = [sys.executable, "-m", "mubench", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def hub(tmp_path):
    """A `Hub` over the empty folder ``tmp_path``/hub."""
    with Hub(tmp_path / "hub") as running:
        yield running


@pytest.fixture(scope="session")
def server():
    """Processes forked from one that has imported all libraries start at once, and never inherit this one's state."""
    return Preloaded()


@pytest.fixture
def forked(server, tmp_path):
    """Runs a command line in a process of its own whose libraries are imported already: not for what they read as they
    are imported (a hub's address), nor for how Python starts.
    """

    def run(*words, cwd=".", env=None):
        output, errors = (tmp_path / f"forked.{kind}" for kind in ("out", "err"))
        process = server.Process(command, ([*map(str, words)], cwd, output, errors), env)
        process.start()
        process.join(300)
        return Done(process.exitcode, output.read_text(), errors.read_text())

    return run


@pytest.fixture
def foretold(server, monkeypatch):
    """A dry run forecasts in a process whose libraries are imported already."""
    monkeypatch.setattr(dry_run, "multiprocessing", SimpleNamespace(get_context=lambda _: server))


@pytest.fixture
def background(server, tmp_path):
    """Starts Python code as a process group of its own, its output in ``folder``/out and err; what is left is
    killed.
    """
    started = []

    def start(code, **names):
        folder = tmp_path / f"process{len(started)}"
        folder.mkdir()
        process = server.Process(exec, (IN_BACKGROUND, {"code": code, "folder": str(folder), **names}))
        process.start()
        process.folder = folder
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
