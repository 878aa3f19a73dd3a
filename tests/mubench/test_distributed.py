"""Processes that share a run, on a CPU: the scores and weights of one, whether each holds the model or a shard of
it.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import processes
from mubench.errors import MubenchError
from mubench.models import networks, originals
from mubench.records.result import read
from mubench.records.store import Store
from mubench.registry import load_task
from mubench.train.distributed import make_accelerator

SCRIPT = str(Path(processes.__file__))
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    """How the cases are run → (their store, what was printed); each way is started once, ``one`` in this process."""
    stores = {}

    def started(way):
        if way not in stores:
            folder = tmp_path_factory.mktemp(way)
            stores[way] = Store(folder), processes.run(folder) if way == "one" else shared(folder, way == "fsdp")
        return stores[way]

    return started


def shared(folder, shard):
    """Run the cases on two processes; returns what was printed."""
    words = [sys.executable, *TORCHRUN, SCRIPT, str(folder), *["--shard"] * shard]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def start():
    return weights(originals.load(load_task("fashion"), "vit", None)[0])


def weights(network):
    return torch.cat([t.flatten() for _, t in sorted(network.state_dict().items())])


def unlearned(store, spec, like):
    return weights(networks.read(like, store.path(spec) / "model")[0])


@pytest.mark.parametrize("way", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", processes.CASES)
def test_two_processes_are_one(launch, start, way, case):
    """Both sum the same gradients in another order. Rounding (1e-7 in float32) is enlarged by AdamW where a gradient is
    near 0: hence a bound on how far apart the weights end, relative to how far they moved. SGD, by which adapters are
    trained here, does not enlarge it. bf16 rounds to 4e-3, and the mask's threshold may let other weights through."""
    spec, like = processes.spec(case), type(originals.load(load_task("fashion"), "vit", None)[0])
    one, two = (read(launch(w)[0].path(spec)) for w in ("one", way))
    apart = {"scale": 1e-3, "adapters": 1e-3, "bf16": 0.1}.get(case, 0.01)
    losses = {"bf16": 1e-2}.get(case, 1e-5)
    score = {"bf16": 0.0209}.get(case, 0)  # one of 48 examples
    assert (one.environment["processes"], two.environment["processes"]) == (1, 2)
    assert one.costs["steps"] == two.costs["steps"] > 0 and one.costs["examples"] == two.costs["examples"]
    assert one.costs["losses"] == pytest.approx(two.costs["losses"], rel=losses)
    a, b = (unlearned(launch(w)[0], spec, like) for w in ("one", way))
    assert (a - b).norm() <= apart * (a - start).norm() and not a.equal(start)
    for name in ("test_score", "forget_score", "retain_score"):
        assert one.metrics[name] == pytest.approx(two.metrics[name], abs=score + 1e-9)
    assert [p["step"] for p in one.curve] == [p["step"] for p in two.curve] and bool(one.curve) == (
        "observed" in processes.CASES[case]
    )
    for p, q in zip(one.curve, two.curve, strict=True):
        assert p["retain_score"] == pytest.approx(q["retain_score"], abs=1e-9)


@pytest.mark.parametrize("way", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_masked_weights_stay_bit_equal(launch, start, way):
    spec, like = processes.spec("mask"), type(originals.load(load_task("fashion"), "vit", None)[0])
    still = (unlearned(launch(way)[0], spec, like) == start).double().mean()
    assert 0.499 < still < 0.51  # half of the weights, and a few whose gradient is 0


@pytest.mark.slow
def test_what_cannot_be_sharded_is_refused_in_one_sentence(launch):
    assert "this run cannot be sharded: l1_sparse reads or changes weights while it trains" in launch("fsdp")[1]


@pytest.mark.parametrize("other", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_other_ways_of_sharding_are_refused(monkeypatch, other):
    monkeypatch.setenv(f"ACCELERATE_USE_{other}", "true")
    with pytest.raises(
        MubenchError,
        match=f"not shared out by the launcher's {other}: start it with --multi_gpu, and with mubench's --shard",
    ):
        make_accelerator()


BREAKS = """
import os, sys
from mubench.sweep import grid
from mubench.train.loop import Loop
from mubench.spec import make_spec
step = Loop.step
def broken(loop, *args):
    if os.environ["RANK"] == "1" and loop.context.step == 1:
        raise MemoryError("no memory left")
    return step(loop, *args)
Loop.step = broken
spec = make_spec(task="fashion", method="finetune", model="vit", limit=48, params={"batch_size": 16})
grid.sweep([spec], sys.argv[1])
"""


def test_a_process_that_fails_ends_the_others(tmp_path):
    """One is out of memory, the other waits for its gradients."""
    (tmp_path / "breaks.py").write_text(BREAKS)
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *TORCHRUN, "breaks.py", "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as launched:
        try:
            said = launched.communicate(timeout=120)[1]
        finally:
            if launched.poll() is None:
                os.killpg(launched.pid, signal.SIGKILL)
    assert launched.returncode and time.monotonic() - begun < 120 and "MemoryError('no memory left')" in said
