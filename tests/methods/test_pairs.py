"""Every pair of a method and a mini task that their declarations allow, for a few steps; every other is refused."""
import pytest

from mubench import registry, results
from mubench.listing import pairs
from mubench.runner import run_spec

PAIRS = pairs()
MINI = [name for name in registry.tasks.names() if registry.tasks.get(name).tier == "mini"]


@pytest.mark.slow
@pytest.mark.parametrize("method, task", [(m, t) for m, tasks in PAIRS.items() for t in tasks])
def test_an_allowed_pair_runs(method, task, tmp_path):
    spec = results.make_spec(task=task, method=method, limit=24, max_steps=2)
    result = results.read(run_spec(spec, results.Store(tmp_path), progress=False))
    assert result.metrics["forget_score"] is not None and result.metrics["retain_score"] is not None


@pytest.mark.parametrize("method, task", [(m, t) for m, tasks in PAIRS.items() for t in MINI if t not in tasks])
def test_another_pair_is_refused(method, task):
    with pytest.raises(results.Incompatible, match=f"{method} cannot work on {task}: it needs"):
        results.make_spec(task=task, method=method)


def test_every_method_works_somewhere_and_every_task_has_the_common_ones():
    assert all(PAIRS.values())
    common = {"original", "retrain", "finetune", "neggrad", "neggrad_plus", "rand_label", "bad_t", "scrub", "salun"}
    assert all(common <= {m for m, tasks in PAIRS.items() if t in tasks} for t in MINI)
