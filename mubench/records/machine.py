"""What a run ran on: the processor, memory, library versions, and how fast they are at a fixed piece of work."""

import functools
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "transformers", "datasets", "diffusers", "accelerate", "peft", "scikit-learn", "numpy")
ALIKE = ("machine", "device", "threads", "processes", "python", *LIBRARIES)  # the same where times may be compared


@functools.cache
def hardware():
    """What this machine is.

    device: cpu or cuda.
    machine: the processor's model and, of a CPU, its cores.
    memory_bytes: of that device; None where it is not known.
    """
    import torch

    if torch.cuda.is_available():
        return {
            "device": "cuda",
            "machine": torch.cuda.get_device_name(),
            "memory_bytes": torch.cuda.get_device_properties(0).total_memory,
        }
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    return {"device": "cpu", "machine": f"{_processor()}, {os.cpu_count()} cores", "memory_bytes": memory}


def _processor():
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace", encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return " ".join(line.partition(":")[2].split())
    if sys.platform == "darwin":
        return (
            subprocess.run(
                ["sysctl", "-n", "machdep.cpu.brand_string"],
                capture_output=True,
                text=True,
                check=False,
                encoding="utf-8",
            ).stdout.strip()
            or platform.machine()
        )
    return platform.processor() or platform.machine()


@functools.cache
def calibration():
    """CPU seconds of a fixed piece of work on one thread, products and convolutions; measured once a process.

    It is about half a second on a laptop, found from a fifth of that.
    """
    import torch

    from mubench.train.distributed import threads

    random = torch.Generator().manual_seed(0)
    a, pictures, weights = (
        torch.randn(shape, generator=random) for shape in ((256, 256), (16, 16, 28, 28), (16, 16, 3, 3))
    )
    with threads(1), torch.no_grad():
        for turn in range(51):
            if turn <= 1:  # the first one also sets things up
                start = time.process_time()
            a = (a @ a).softmax(-1)
            torch.nn.functional.conv2d(pictures, weights, padding=1).relu_()
        return 5 * (time.process_time() - start)


def environment(accelerator):
    """Hardware, calibration, versions and git state, as recorded in every result."""
    import torch

    return {
        **_versions(),
        "system": platform.system(),
        **hardware(),
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "calibration_seconds": round(calibration(), 4),
        "precision": accelerator.mixed_precision,
        **_git(),
    }


@functools.cache
def _versions():
    return {"python": platform.python_version(), **{name: version(name) for name in ("mubench", *LIBRARIES)}}


@functools.cache
def _git():
    """The state of the checkout that this process runs, as it is first asked for."""
    git = functools.partial(
        subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    try:  # a package installed inside somebody else's checkout is not tracked there
        tracked = git(["git", "ls-files", "--error-unmatch", Path(__file__).name]).returncode == 0
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip() if tracked else None
        # without locks: a run that is killed here would leave one in the checkout, and git would refuse to commit
        dirty = bool(git(["git", "--no-optional-locks", "status", "--porcelain"]).stdout.strip()) if tracked else None
    except OSError:
        commit = dirty = None
    return {"git_commit": commit, "git_dirty": dirty}
