"""Pictures with channels last: the same values, weights that lie as ever, nothing left in inference mode."""

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


def test_pictures_have_their_channels_last_and_nothing_else_changes():
    batch = {
        "x": torch.randn(5, 1, 9, 9),
        "y": torch.randn(5, 3, 9, 9),
        "labels": torch.arange(5),
        "t": torch.ones(5, 2),
    }
    laid = channels_last(batch, CPU)
    assert laid["x"].stride() == (81, 1, 9, 1) and laid["y"].stride() == (243, 1, 27, 3)
    assert all(laid[name].equal(values) for name, values in batch.items())
    assert laid["labels"] is batch["labels"] and laid["t"] is batch["t"]
    cuda = torch.device("cuda")
    assert channels_last(batch, cuda) is batch and channels_last(batch, cuda, "bf16")["y"].stride(1) == 1


def test_what_a_convolution_makes_of_them_is_the_same():
    layers = torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 6, 1), torch.nn.Conv2d(6, 2, 3)
    model, pictures = torch.nn.Sequential(*layers).double(), torch.randn(5, 1, 9, 9, dtype=torch.double)
    last = model(channels_last({"x": pictures}, CPU)["x"])
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, model(pictures), rtol=1e-12, atol=1e-12)
    last.sum().backward()
    assert all(p.grad.is_contiguous() and p.is_contiguous() for p in model.parameters())  # hooks may view them flat


@pytest.fixture(scope="module")
def fashion():
    task = load_task("fashion")
    rows = task.sets("resnet")["train"]
    return task, task.build("resnet", 0), {"forget": rows.select(slice(8)), "retain": rows.select(slice(8, 24))}


def test_a_model_is_trained_after_it_was_evaluated(fashion):
    task, model, sets = fashion
    model = copy.deepcopy(model)
    predict(task, model, sets)
    assert not any(p.is_inference() for p in model.state_dict().values())
    method = load_method("scrub", epochs=1, batch_size=8)
    context = Context(task, model, None, *sets.values())
    Engine(method, context, method.recipe(Recipe(lr=0.01, epochs=1, batch_size=8)), progress=False).run()
    assert not any(p.is_inference() for p in model.state_dict().values())


@pytest.mark.parametrize("name", ["influence", "ssd", "neggrad_plus", "l1_sparse"])
def test_hooks_find_weights_of_convolutions_as_ever(fashion, name):
    task, model, sets = fashion
    method = load_method(name, **{"batch_size": 8} if name != "ssd" else {})
    context = Context(task, copy.deepcopy(model), None, *sets.values())
    Engine(method, context, method.recipe(Recipe(lr=0.01, epochs=1, batch_size=8)), progress=False).run()
    assert all(p.is_contiguous() for p in context.student.parameters())


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
