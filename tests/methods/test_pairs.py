"""Every pair of a method and a mini task that their declarations allow, for a few steps; every other is refused."""

import pytest

from mubench import registry
from mubench.listing import pairs
from mubench.records.result import read
from mubench.records.store import Store
from mubench.runner import run_spec
from mubench.spec import Incompatible, make_spec

PAIRS = pairs()
MINI = [name for name in registry.tasks.names() if registry.tasks.get(name).tier == "mini"]
OFFICIAL = {
    name: next(task for task in tasks if not registry.tasks.get(task).archives)
    for name, tasks in PAIRS.items()
    if registry.methods.get(name).official is not None
}
OFFICIAL["boundary_shrink"] = "fashion"  # of pictures


def run(tmp_path, **spec):
    result = read(run_spec(make_spec(limit=24, max_steps=2, **spec), Store(tmp_path), progress=False))
    assert result.metrics["forget_score"] is not None and result.metrics["retain_score"] is not None
    return result


@pytest.mark.slow
@pytest.mark.parametrize("method, task", [(m, t) for m, tasks in PAIRS.items() for t in tasks])
def test_an_allowed_pair_runs(method, task, tmp_path):
    run(tmp_path, task=task, method=method)


@pytest.mark.slow
@pytest.mark.parametrize("method, task", OFFICIAL.items())
def test_the_official_protocol_runs(method, task, tmp_path):
    found = run(tmp_path, task=task, method=method, protocol="official").method["hyperparameters"]
    for name, value in registry.methods.get(method).official.items():
        assert found[name] == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("method, task", [(m, t) for m, tasks in PAIRS.items() for t in MINI if t not in tasks])
def test_another_pair_is_refused(method, task):
    with pytest.raises(Incompatible, match=f"{method} cannot work on {task}: it needs"):
        make_spec(task=task, method=method)


def test_every_method_works_somewhere_and_every_task_has_the_common_ones():
    assert all(PAIRS.values())
    common = {"original", "retrain", "finetune", "neggrad", "neggrad_plus", "rand_label", "bad_t", "scrub", "salun"}
    assert all(common <= {m for m, tasks in PAIRS.items() if t in tasks} for t in MINI)
