"""A sweep on a Ray cluster of several nodes (raylets) on this machine: nothing is lost and nothing done twice, whoever dies."""
import os
import sys
from collections import Counter

import pytest

from mubench.errors import MubenchError
from mubench.grid import sweep
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
