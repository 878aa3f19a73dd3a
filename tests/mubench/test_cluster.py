"""A sweep on a Ray cluster of several nodes (raylets) on this machine: nothing is lost and nothing done twice, whoever
dies.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from mubench.errors import MubenchError
from mubench.records.store import Store
from mubench.spec import make_spec
from mubench.sweep import cluster as module
from mubench.sweep.grid import sweep
from mubench.sweep.progress import reason
from sweeps import (
    LIMIT,
    NEEDS,
    check_full_disk,
    check_whole,
    small_disk,
    snapshot,
    spec,
    until,
    until_some_are_done,
    write_plugin,
)

pytest.importorskip("ray", reason="sweeps on a cluster need Ray: pip install 'mubench[ray]'")
MEMORY = 80 * 2**20  # of a node's shared objects, the least that Ray takes


@pytest.fixture(scope="module")
def cluster():
    """A head that runs nothing and two nodes of one CPU; tests add what they take away. Its address is
    ``cluster.address``.
    """
    from ray.cluster_utils import Cluster

    checks = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_initial_delay_ms": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": MEMORY,
                "include_dashboard": False,
                "_system_config": checks,
            },
        )
        node(started), node(started)
        yield started
        started.shutdown()


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    return write_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(params=["one folder", pytest.param("folders apart", marks=pytest.mark.slow)])
def token(request, monkeypatch):
    """The file by which workers tell whether they see the driver's disk."""
    if request.param == "folders apart":
        monkeypatch.setattr(module, "TOKEN", "../elsewhere")
    return module.TOKEN


def node(cluster, cpus=1):
    return cluster.add_node(num_cpus=cpus, object_store_memory=MEMORY)


def workers():
    """Of this cluster, no other's."""
    return [
        process for process in psutil.Process().children(recursive=True) if process.name().startswith("ray::Worker")
    ]


def check_nothing_left(out):
    assert not [*(out / ".locks").glob("ray-*")]
    until(lambda: not workers(), seconds=20)


# -- where is the cluster? ---------------------------------------------------------------------------------------------


def test_auto_where_no_cluster_is(tmp_path):
    if any(process.name() == "gcs_server" for process in psutil.process_iter()):
        pytest.skip("a Ray cluster runs on this machine")
    with pytest.raises(
        MubenchError,
        match=r"no Ray cluster answers at auto \(ConnectionError: Could not find any running Ray instance\.",
    ):
        sweep([spec("original")], tmp_path, cluster={"address": "auto"})


def test_what_is_no_address_is_refused(cli, tmp_path):
    done = cli("run", "fashion", "original", "--limit", LIMIT, "--out", tmp_path, "--ray", "nonsense")
    assert done.code == 1 and done.err.startswith("mubench: --ray 'nonsense': give HOST:PORT as `ray start --head`")


@pytest.mark.parametrize("how", ["127.0.0.1:1", "RAY_ADDRESS"])
def test_no_cluster_at_an_address(cli, tmp_path, monkeypatch, how):
    if how == "RAY_ADDRESS":
        monkeypatch.setenv(how, "127.0.0.1:1")
    done = cli(
        "run",
        "fashion",
        "original",
        "--limit",
        LIMIT,
        "--out",
        tmp_path,
        "--ray",
        "auto" if how == "RAY_ADDRESS" else how,
    )
    assert done.code == 1 and done.err.startswith("mubench: no Ray cluster answers at ") and done.err.count("\n") == 1


@pytest.mark.parametrize("how", ["address", pytest.param("what `ray start` has left", marks=pytest.mark.slow)])
def test_something_else_or_nothing_at_an_address(tmp_path, monkeypatch, how):
    monkeypatch.setattr(module, "ANSWER", 3)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = there = f"127.0.0.1:{mute.getsockname()[1]}"
        if how != "address":
            if any(process.name() == "gcs_server" for process in psutil.process_iter()):
                pytest.skip("a Ray cluster runs on this machine: auto is that one")
            (tmp_path / "ray").mkdir()
            (tmp_path / "ray" / "ray_current_cluster").write_text(there)
            monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
            address = "auto"
        start = time.monotonic()
        with pytest.raises(
            MubenchError, match=f"no Ray cluster answers at {address} .nothing heard for 3 seconds.: give HOST:PORT"
        ):
            sweep([spec("original")], tmp_path / "out", cluster={"address": address})
        assert time.monotonic() - start < 15


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MubenchError, match=r"pip install 'mubench\[ray\]'"):
        sweep([spec("original")], tmp_path, cluster={"address": "auto"})


# -- all is well -------------------------------------------------------------------------------------------------------


def test_results_come_through_this_process_where_storage_is_not_shared_and_other_code_is_refused(
    cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "TOKEN", "../elsewhere")  # what a worker without the driver's disk does not see
    specs = [spec("original"), spec("neggrad")]
    assert sweep(specs, tmp_path, cluster={"address": cluster.address}) == (specs, [], [])
    check_whole(tmp_path, specs)
    assert sweep(specs, tmp_path, cluster={"address": "127.0.0.1:1"}) == (
        [],
        specs,
        [],
    )  # nothing to do asks for no cluster
    monkeypatch.setattr(module, "code", lambda: "mubench 0.0.1 (code 01234567)")
    with pytest.raises(MubenchError, match=rf"{os.uname().nodename} has mubench .*, this machine has mubench 0.0.1"):
        sweep(specs, tmp_path / "other", cluster={"address": cluster.address})
    check_nothing_left(tmp_path / "other")


@pytest.mark.parametrize(
    "source, found",
    [
        ("__version__ = '0.0.9'", r"mubench 0\.0\.9( \(code \w+\))?"),
        ("raise ModuleNotFoundError('No module named mubench')", "no mubench"),
    ],
    ids=["another version", "no package"],
)
def test_a_node_with_another_mubench_is_refused(cluster, tmp_path, monkeypatch, source, found):
    """A real one: what its Python imports as mubench is another package, without this module."""
    (tmp_path / "mubench").mkdir()
    (tmp_path / "mubench" / "__init__.py").write_text(source)
    with monkeypatch.context() as there:
        there.setenv("PYTHONPATH", str(tmp_path))
        other = node(cluster, 3)  # the only one with as many
    monkeypatch.chdir(tmp_path)  # Ray lets workers import from the driver's folder too
    try:
        with pytest.raises(
            MubenchError,
            match=rf"{os.uname().nodename} has {found}, this machine has mubench \d\S+ \(code \w+\): install the same",
        ):
            sweep([spec("original")], tmp_path / "out", cluster={"address": cluster.address, "cpus": 3})
    finally:
        cluster.remove_node(other)


def test_an_installed_package_and_a_checkout_are_the_same_code(tmp_path):
    """Whatever else lies in the folder: rooms side by side with the core, linked into it or copied there."""
    import mubench
    from mubench.sweep.cluster import code

    root = Path(mubench.__file__).parent
    shutil.copytree(
        root, tmp_path / "mubench", ignore=shutil.ignore_patterns("tasks", "methods", "leaderboard", "__pycache__")
    )
    for room in (mubench.tasks, mubench.methods):
        copied = tmp_path / "mubench" / room.__name__.rpartition(".")[2]
        shutil.copytree(
            next(iter(room.__path__)),
            copied,
            ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")],
        )
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "from mubench.sweep.cluster import code; import mubench; print(mubench.__file__, code(), sep='\\n')",
        ],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said == f"{tmp_path / 'mubench' / '__init__.py'}\n{code()}\n"


# -- something is too little -------------------------------------------------------------------------------------------


def test_what_no_machine_has_is_said_and_not_waited_for(cluster, tmp_path, monkeypatch):
    from mubench.sweep import plan

    peak, specs = (
        plan.peak,
        [make_spec(task="fashion", method="original", model=model, limit=LIMIT) for model in ("vit", "resnet")],
    )
    monkeypatch.setattr(plan, "peak", lambda task, model, *more: 2**45 if model == "vit" else peak(task, model, *more))
    assert sweep(specs, tmp_path, cluster={"address": cluster.address}) == (specs[1:], [], specs[:1])
    assert (
        reason(specs[0], tmp_path)
        == "it needs about 3.28e+04 GiB of main memory, no machine of the cluster has as much"
    )
    for asked in ({"cpus": 64}, {"gpus": 1}):
        with pytest.raises(MubenchError, match=r"no machine of the cluster has \d+ CPUs and \d GPUs: ask for less"):
            sweep(specs, tmp_path / "other", cluster={"address": cluster.address, **asked})


@pytest.mark.slow
def test_tasks_that_compete_for_memory(cluster, tmp_path, monkeypatch):
    """Four runs find CPUs at once, two find memory: the others wait, and nobody waits for ever."""
    import ray

    ray.init(cluster.address, logging_level="ERROR")
    memory = min(there["Resources"]["memory"] for there in ray.nodes() if "memory" in there["Resources"])
    ray.shutdown()
    monkeypatch.setattr(module, "PROCESS", int(0.6 * memory))
    specs = [
        make_spec(task="fashion", method="original", model=model, seed=seed, limit=LIMIT)
        for model in ("vit", "resnet")
        for seed in range(4)
    ]
    assert sweep(specs, tmp_path, cluster={"address": cluster.address, "cpus": 0.5}) == (specs, [], [])
    check_whole(tmp_path, specs)


@pytest.mark.slow
def test_out_of_memory_is_recorded_with_the_estimate(cluster, tmp_path, plugin):
    specs = [spec(f"{plugin}:TooLarge", of=of) for of in ("gpu", "python")] + [spec("original")]
    assert sweep(specs, tmp_path, cluster={"address": cluster.address}) == (specs[2:], [], specs[:2])
    errors = ("OutOfMemoryError: CUDA says so", "MemoryError: ")
    for large, error in zip(specs[:2], errors, strict=True):
        assert re.fullmatch(error + NEEDS, reason(large, tmp_path), re.DOTALL)


def test_a_full_disk_fails_the_run_and_not_the_sweep(cluster, tmp_path, token):
    with small_disk(tmp_path / "out") as out:
        check_full_disk(out, cluster={"address": cluster.address})


# -- somebody dies -----------------------------------------------------------------------------------------------------


def test_a_node_dies_in_the_middle_and_nothing_is_lost_or_done_twice(cluster, tmp_path):
    third, lines = node(cluster), []
    specs = [spec(method, seed) for seed in range(4) for method in ("original", "neggrad")]

    def report(line, **_):
        lines.append(line)
        if len(lines) == 2:
            cluster.remove_node(third, allow_graceful=False)

    assert sweep(specs, tmp_path, report=report, cluster={"address": cluster.address}) == (specs, [], [])
    said = Counter(line.partition(":")[0] for line in lines)
    assert said == Counter(f"{one.folder.parent}, seed {one.seed}" for one in specs) and lines[-1].endswith("[8/8]")
    check_whole(tmp_path, specs)
    check_nothing_left(tmp_path)


@pytest.mark.slow
def test_the_last_node_with_room_dies(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOM", 2)
    large, specs = node(cluster, 3), [spec("original"), spec("neggrad")]

    def report(*_, **__):
        cluster.remove_node(large, allow_graceful=False)

    with pytest.raises(
        MubenchError, match="the cluster has lost all machines with room for a run: the same command goes on"
    ):
        sweep(specs, tmp_path, report=report, cluster={"address": cluster.address, "cpus": 3})
    check_whole(tmp_path, specs[:1])
    check_nothing_left(tmp_path)


def test_a_run_that_kills_its_worker_fails_and_the_others_go_on(cluster, tmp_path, plugin, monkeypatch):
    monkeypatch.setattr(module, "RETRIES", 1)
    deadly, others = spec(f"{plugin}:Killed"), [spec("original"), spec("neggrad")]
    assert sweep([deadly, *others], tmp_path, cluster={"address": cluster.address}) == (others, [], [deadly])
    assert re.fullmatch(f"its worker died 2 times, the last time: .*{NEEDS}", reason(deadly, tmp_path))
    assert Store(tmp_path).results() == sorted(Store(tmp_path).path(one) for one in others)


@pytest.mark.parametrize(
    "death", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)], ids=["Ctrl-C", "killed"]
)
def test_the_same_command_goes_on_after_its_end(cluster, tmp_path, plugin, background, cli, death):
    log, out = tmp_path / "log", tmp_path / "out"
    words = [
        "run",
        "fashion",
        f"{plugin}:Sleeps",
        "--limit",
        str(LIMIT),
        "--set",
        f"log={log}",
        "--out",
        str(out),
        "--ray",
        cluster.address,
    ]
    sweep([spec("original")], out)
    before, driver = snapshot(out), background("from mubench.cli import main; main(words)", words=words)
    until(log.exists)
    os.killpg(driver.pid, death)
    driver.join(60)
    assert snapshot(out) == before
    if death == signal.SIGINT:
        said = (driver.folder / "err").read_text().strip()
        assert (driver.exitcode, said) == (
            130,
            "mubench: interrupted; what was finished is kept, the same command goes on from there",
        )
        check_nothing_left(out)
    else:
        assert [*(out / ".locks").glob("ray-*")]  # what the next sweep finds
    done = cli(*words)  # now it does not sleep
    assert done.code == 0 and "1 done, 0 there before, 0 failed" in done.out
    assert before.items() <= snapshot(out).items() and len(Store(out).results()) == 2
    check_nothing_left(out)


DRIVER = """
from mubench.sweep import cluster, grid
cluster.TOKEN = token
grid.sweep(specs, out, cluster={"address": address})
"""


@pytest.mark.parametrize("rounds, seeds", [pytest.param(20, 40, marks=pytest.mark.slow)])
def test_killed_again_and_again_then_completed(cluster, tmp_path, background, token, rounds, seeds):
    """In every round a worker, a node or the driver dies at a random moment; what is finished stays as it is, what is
    not is done.
    """
    out, extra = tmp_path / "out", node(cluster)
    specs = [spec(method, seed) for seed in range(seeds) for method in ("original", "neggrad", "salun")]
    for _ in range(rounds):
        before, some = snapshot(out), len(Store(out).results()) + random.randint(0, 3)
        driver = background(DRIVER, specs=specs, out=str(out), address=cluster.address, token=token)
        until_some_are_done(driver, out, some, seconds=300)
        time.sleep(random.uniform(0, 1))
        victim = random.choice(["worker", "node", "driver"])
        if victim == "worker" and (there := workers()):
            random.choice(there).kill()
        elif victim == "node":
            cluster.remove_node(extra, allow_graceful=False)
            extra = node(cluster)
        time.sleep(random.uniform(0, 2))
        driver.kill()
        driver.join()
        assert before.items() <= snapshot(out).items()
    cluster.remove_node(extra)
    before = snapshot(out)
    done, there, failed = sweep(specs, out, cluster={"address": cluster.address})
    assert sorted([*done, *there], key=specs.index) == specs and not failed
    assert before.items() <= snapshot(out).items()
    check_whole(out, specs)
    check_nothing_left(out)
