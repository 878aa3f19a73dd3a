"""Convolutions with channels last: the same values, weights that lie as before, nothing left in inference mode."""

import copy

import pytest
import torch

from mubench.measure.predict import predict
from mubench.models.layout import channels_last
from mubench.registry import load_method, load_task
from mubench.train.context import Context
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe

CPU = torch.device("cpu")


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 6, 1), torch.nn.Conv2d(6, 2, 3)
        return torch.nn.Sequential(*layers)


def strides(model):
    return [p.stride() for p in model.parameters()]


def test_the_weights_lie_last_inside_and_as_before_outside():
    model = network()
    before, values = strides(model), [p.detach().clone() for p in model.parameters()]
    with channels_last(model, CPU):
        assert [m.weight.stride() for m in model if hasattr(m, "weight")] == [
            (9, 1, 3, 1),
            (4, 1, 4, 4),
            (54, 1, 18, 6),
        ]
        inside = strides(model)
        with channels_last(model, CPU):
            assert strides(model) == inside
        assert strides(model) == inside  # the inner block has changed nothing
    assert strides(model) == before and all(map(torch.equal, values, model.parameters()))


def test_the_outputs_are_the_same():
    model, pictures = network().double(), torch.randn(5, 1, 9, 9, dtype=torch.double)
    plain = model(pictures)
    with channels_last(model, CPU):
        assert model(pictures).is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(model(pictures), plain, rtol=1e-12, atol=1e-12)


def test_in_float32_a_gpu_keeps_the_layout():
    model = network()
    before = strides(model)
    with channels_last(model, torch.device("cuda")):
        assert strides(model) == before
    with channels_last(model, torch.device("cuda"), "bf16"):
        assert strides(model) != before


@pytest.fixture(scope="module")
def fashion():
    task = load_task("fashion")
    rows = task.sets("resnet")["train"]
    return task, task.build("resnet", 0), {"forget": rows.select(slice(8)), "retain": rows.select(slice(8, 24))}


def test_a_model_is_trained_after_it_was_evaluated(fashion):
    task, model, sets = fashion
    model = copy.deepcopy(model)
    before = strides(model)
    predict(task, model, sets)
    assert strides(model) == before and not any(p.is_inference() for p in model.state_dict().values())
    method = load_method("scrub", epochs=1, batch_size=8)
    context = Context(task, model, None, *sets.values())
    Engine(method, context, method.recipe(Recipe(lr=0.01, epochs=1, batch_size=8)), progress=False).run()
    assert strides(model) == before and not any(p.is_inference() for p in model.state_dict().values())


def test_looking_at_a_run_does_not_change_it(fashion):
    task, model, sets = fashion
    states = []
    for every in (None, 1):
        own, method = copy.deepcopy(model), load_method("neggrad_plus", epochs=1, batch_size=8)
        context = Context(task, own, None, *sets.values())
        look = (lambda context: predict(task, context.student, sets)) if every else None
        recipe = method.recipe(Recipe(lr=0.01, epochs=1, batch_size=8))
        Engine(method, context, recipe, progress=False, observe=look, every=every).run()
        states.append(own.state_dict())
    assert all(states[0][name].equal(states[1][name]) for name in states[0])
