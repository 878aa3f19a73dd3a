"""Two processes on a CPU give the scores of one: the batch size is that of all processes together."""
import socket
import subprocess
import sys

import pytest

from mubench.results import Store, read


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Method → (result of one process, result of two)."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", str(port)]
    for words, folder in (([], folders[0]), (launch, folders[1])):
        subprocess.run([sys.executable, *words, "-m", "mubench", "run", "fashion", "finetune,bad_t,salun", "--model", "vit",
                        "--limit", "150", "--out", str(folder)], check=True, capture_output=True, timeout=300)
    results = [{r.method["name"]: r for r in map(read, Store(folder).results())} for folder in folders]
    return {name: (results[0][name], results[1][name]) for name in results[0]}


@pytest.mark.parametrize("method", ["finetune", "bad_t", "salun"])
def test_two_processes_score_as_one(runs, method):
    one, two = runs[method]
    assert (one.environment["processes"], two.environment["processes"]) == (1, 2)
    assert one.costs["steps"] == two.costs["steps"] and one.costs["examples"] == two.costs["examples"]
    assert one.costs["losses"] == pytest.approx(two.costs["losses"], rel=1e-3)
    for name in ("test_score", "forget_score", "retain_score"):
        assert one.metrics[name] == pytest.approx(two.metrics[name], abs=0.0201)  # three of 150 examples
    assert one.metrics["mia_loss_auc"] == pytest.approx(two.metrics["mia_loss_auc"], abs=0.01)
    assert one.metrics["zrf"] == pytest.approx(two.metrics["zrf"], abs=0.005)
