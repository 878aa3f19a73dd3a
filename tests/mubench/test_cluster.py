"""A sweep on a Ray cluster of several nodes (raylets) on this machine: nothing is lost and nothing done twice, whoever dies."""
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from mubench.errors import MubenchError
from mubench.grid import reason, sweep
from mubench.results import Store, make_spec, score

pytest.importorskip("ray", reason="sweeps on a cluster need Ray: pip install 'mubench[ray]'")


@pytest.fixture
def cluster(monkeypatch):
    """A head that runs nothing; nodes of one CPU are added by the tests."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    checks = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_initial_delay_ms": 0}
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False,
                                                            "_system_config": checks})
    yield started
    started.shutdown()


def node(cluster):
    return cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)


def test_a_node_dies_in_the_middle_and_nothing_is_lost_or_done_twice(cluster, tmp_path):
    nodes, lines = [node(cluster), node(cluster)], []
    specs = [make_spec(task="fashion", method=method, seed=seed, limit=40) for seed in range(4) for method in ("original", "neggrad")]

    def report(line, **_):
        lines.append(line)
        if len(lines) == 2:
            cluster.remove_node(nodes[0], allow_graceful=False)

    assert sweep(specs, tmp_path, report=report, cluster={"address": cluster.address}) == (specs, [], [])
    said = Counter(line.partition(":")[0] for line in lines)
    assert said == Counter(f"{spec.folder.parent}, seed {spec.seed}" for spec in specs) and lines[-1].endswith("[8/8]")
    assert Store(tmp_path).results() == sorted(Store(tmp_path).path(spec) for spec in specs) and not Store(tmp_path).errors()
    for folder in Store(tmp_path).results():
        score(folder)
    assert not [*(tmp_path / ".locks").glob("ray-*")]  # the workers' folders are gone
    assert sweep(specs, tmp_path, cluster={"address": "127.0.0.1:1"}) == ([], specs, [])  # nothing to do asks for no cluster


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_no_cluster_at_an_address(tmp_path, address):
    with pytest.raises(MubenchError, match=f"no Ray cluster answers at {address}"):
        sweep([make_spec(task="fashion", method="original", limit=40)], tmp_path, cluster={"address": address})


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MubenchError, match=r"pip install 'mubench\[ray\]'"):
        sweep([make_spec(task="fashion", method="original", limit=40)], tmp_path, cluster={"address": "auto"})


def test_results_come_through_this_process_where_storage_is_not_shared_and_other_code_is_refused(cluster, tmp_path, monkeypatch):
    from mubench import cluster as module

    node(cluster)
    monkeypatch.setattr(module, "TOKEN", "../elsewhere")  # what a worker without the driver's disk does not see
    specs = [make_spec(task="fashion", method=method, limit=40) for method in ("original", "neggrad")]
    assert sweep(specs, tmp_path, cluster={"address": cluster.address}) == (specs, [], [])
    for spec in specs:
        score(Store(tmp_path).path(spec))
    monkeypatch.setattr(module, "code", lambda: "mubench 0.0.1 (code 01234567)")
    with pytest.raises(MubenchError, match=rf"{os.uname().nodename} has mubench .*, this machine has mubench 0.0.1"):
        sweep(specs, tmp_path / "other", cluster={"address": cluster.address})


@pytest.mark.parametrize("source, found", [("__version__ = '0.0.9'", r"mubench 0\.0\.9( \(code \w+\))?"), ("raise ModuleNotFoundError('No module named mubench')", "no mubench")],
                         ids=["another version", "no package"])
def test_a_node_with_another_mubench_is_refused(cluster, tmp_path, monkeypatch, source, found):
    """A real one: what its Python imports as mubench is another package, without this module."""
    (tmp_path / "mubench").mkdir()
    (tmp_path / "mubench" / "__init__.py").write_text(source)
    with monkeypatch.context() as there:
        there.setenv("PYTHONPATH", str(tmp_path))
        node(cluster)
    monkeypatch.chdir(tmp_path)  # Ray lets workers import from the driver's folder too
    with pytest.raises(MubenchError, match=rf"{os.uname().nodename} has {found}, this machine has mubench \d\S+ \(code \w+\): install the same"):
        sweep([make_spec(task="fashion", method="original", limit=40)], tmp_path / "out", cluster={"address": cluster.address})


def test_what_no_machine_has_is_said_and_not_waited_for(cluster, tmp_path, monkeypatch):
    from mubench import plan

    node(cluster)
    peak, specs = plan.peak, [make_spec(task="fashion", method="original", model=model, limit=40) for model in ("vit", "resnet")]
    monkeypatch.setattr(plan, "peak", lambda task, model, *more: 2**45 if model == "vit" else peak(task, model, *more))
    assert sweep(specs, tmp_path, cluster={"address": cluster.address}) == (specs[1:], [], specs[:1])
    assert reason(specs[0], tmp_path) == "it needs about 3.28e+04 GiB of main memory, no machine of the cluster has as much"
    for asked in ({"cpus": 64}, {"gpus": 1}):
        with pytest.raises(MubenchError, match=r"no machine of the cluster has \d+ CPUs and \d GPUs: ask for less"):
            sweep(specs, tmp_path / "other", cluster={"address": cluster.address, **asked})


def test_an_installed_package_and_a_checkout_are_the_same_code(tmp_path):
    """Whatever else lies in the folder: rooms side by side with the core, linked into it or copied there."""
    import mubench
    from mubench.cluster import code

    root = Path(mubench.__file__).parent
    shutil.copytree(root, tmp_path / "mubench", ignore=shutil.ignore_patterns("tasks", "methods", "leaderboard", "__pycache__"))
    for room in (mubench.tasks, mubench.methods):
        copied = tmp_path / "mubench" / room.__name__.rpartition(".")[2]
        shutil.copytree(next(iter(room.__path__)), copied, ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")])
    said = subprocess.run([sys.executable, "-c", "from mubench.cluster import code; import mubench; print(mubench.__file__, code(), sep='\\n')"],
                          env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == f"{tmp_path / 'mubench' / '__init__.py'}\n{code()}\n"


DRIVER = "from mubench.grid import sweep; sweep(specs, out, cluster={'address': address})"
APART = "from mubench import cluster; cluster.TOKEN = '../elsewhere'\n" + DRIVER


@pytest.mark.slow
@pytest.mark.parametrize("code", [DRIVER, APART], ids=["one folder", "folders apart"])
def test_killed_again_and_again_then_completed(cluster, tmp_path, background, code):
    """Twenty rounds: a worker, a node or the driver dies at a random moment; what is finished stays as it is, what is not is done."""
    def snapshot():
        return {file: (file.read_bytes(), file.stat().st_mtime_ns) for folder in Store(out).results() for file in folder.iterdir()}

    out, extra = tmp_path / "out", [node(cluster), node(cluster)][1]
    specs = [make_spec(task="fashion", method=method, seed=seed, limit=32) for seed in range(40) for method in ("original", "neggrad", "salun")]
    for _ in range(20):
        before, some = snapshot(), len(Store(out).results()) + random.randint(0, 3)
        driver, end = background(code, specs=specs, out=str(out), address=cluster.address), time.monotonic() + 300
        while driver.is_alive() and len(Store(out).results()) < some:
            assert time.monotonic() < end, (driver.folder / "err").read_text()
            time.sleep(0.05)
        time.sleep(random.uniform(0, 1))
        victim = random.choice(["worker", "node", "driver"])
        workers = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::Worker")]  # of this cluster, no other's
        if victim == "worker" and workers:
            random.choice(workers).kill()
        elif victim == "node":
            cluster.remove_node(extra, allow_graceful=False)
            extra = node(cluster)
        time.sleep(random.uniform(0, 2))
        driver.kill()
        driver.join()
        assert before.items() <= snapshot().items()
    before = snapshot()
    assert not sweep(specs, out, cluster={"address": cluster.address})[2]
    assert before.items() <= snapshot().items()
    assert Store(out).results() == sorted(Store(out).path(spec) for spec in specs) and not Store(out).errors()
    for folder in Store(out).results():
        score(folder)
