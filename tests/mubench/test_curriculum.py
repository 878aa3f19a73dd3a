"""SuperLoss: the closed form, finite whatever comes, one state for each term."""

import math

import numpy as np
import pytest
import torch
from scipy.special import lambertw

from mubench.errors import MubenchError
from mubench.examples import Examples
from mubench.methods.base import Method, Term
from mubench.models.behaviour import Behaviour
from mubench.registry import load_method
from mubench.train.context import Context
from mubench.train.curriculum import SuperLoss, confidence, make_curriculum
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]
REST = {0.0: 1.0, -0.7: 2.047539475588782, -0.2: 1.1183255915896297, 0.3: 0.8767661866735631, 10.0: 0.26534493304844003}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype, rel", [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_the_closed_form(device, dtype, rel):
    x = torch.cat(
        [torch.linspace(-0.7, 3, 200, dtype=torch.double), torch.logspace(-12, 12, 200, dtype=torch.double)]
    ).to(device, dtype)
    sigma = confidence(x)
    assert sigma.dtype == dtype and sigma.device.type == device
    assert sigma.double().cpu().numpy() == pytest.approx(np.exp(-lambertw(x.double().cpu().numpy() / 2).real), rel=rel)
    assert confidence(torch.tensor([*REST], dtype=torch.double)).tolist() == pytest.approx([*REST.values()], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_around_and_below_the_branch_point(dtype):
    near = -2 / math.e + torch.tensor(
        [-1e300, -1.0, -1e-7, -1e-16, 0.0, 1e-16, 1e-12, 1e-9, 1e-7, 1e-4], dtype=torch.double
    )
    sigma = confidence(near.to(dtype))
    assert sigma.isfinite().all() and (sigma <= math.e * (1 + 1e-7)).all() and (sigma.diff() <= 0).all()
    assert sigma[:3].tolist() == pytest.approx([math.e] * 3)
    w = -confidence(near).log()  # W·exp(W) = x/2
    assert (w * w.exp()).tolist() == pytest.approx((near.clamp(min=-2 / math.e) / 2).tolist(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradient_are_finite_for_any_loss(dtype):
    losses = torch.tensor([0.0, 1e-30, 1.0, 50.0, 1e6, 1e30], dtype=dtype, requires_grad=True)
    value = SuperLoss(0.5, 1.0)(losses)
    value.sum().backward()
    assert value.isfinite().all() and losses.grad.isfinite().all()
    assert losses.grad.equal(confidence((losses.detach() - 1) / 0.5))  # σ is a constant


def test_the_weight_minimises_the_objective_it_comes_from():
    losses, lam, tau = torch.linspace(0.6, 4, 30, dtype=torch.double), 0.8, 1.1
    objective = lambda sigma: sigma * (losses - tau) + lam * sigma.log() ** 2
    sigma, value = confidence((losses - tau) / lam), SuperLoss(lam, tau)(losses)
    inner = (losses - tau) / lam > -2 / math.e
    assert torch.allclose(value, objective(sigma)) and inner.all()
    assert all((objective(sigma * factor) >= value).all() for factor in (0.99, 1.01))


def test_the_mean_is_of_earlier_steps_whatever_the_pieces():
    whole, pieces = SuperLoss(1.0), SuperLoss(1.0)
    first, second = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.5, 3.0, 4.0, 5.0])
    assert whole(first).equal(first)  # nothing is known yet: all count alike
    for piece in first.split(2):
        pieces(piece)
    for curriculum in (whole, pieces):
        curriculum.step()
    assert whole(second).equal(SuperLoss(1.0, 3.0)(second)) and torch.cat([*map(pieces, second.split(1))]).equal(
        whole(second)
    )
    whole.step()
    assert whole._sums[0][1] == 3 + 4 + 4  # looked at twice above
    pieces.step()
    assert pieces._sums[0].tolist() == [9 + 12.5, 3 + 4]


def test_each_term_has_its_own_mean():
    curriculum = SuperLoss(1.0)
    curriculum(torch.tensor([1.0]), 0), curriculum(torch.tensor([9.0]), 1)
    curriculum.step((0, 1))
    losses = torch.tensor([5.0])
    assert curriculum(losses, 0) == SuperLoss(1.0, 1.0)(losses) and curriculum(losses, 1) == SuperLoss(1.0, 9.0)(losses)


def test_what_a_process_without_examples_sees_does_not_count():
    curriculum = SuperLoss()
    curriculum.counting = False
    curriculum(torch.tensor([7.0]))
    curriculum.step(gather=lambda seen: seen + torch.tensor([[3.0, 2.0]]))  # the other process had two examples
    assert curriculum._sums[0].tolist() == [3.0, 2.0]


class Linear(torch.nn.Module):
    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.classifier = torch.nn.Linear(4, 3, dtype=torch.double)

    def forward(self, x):
        return self.classifier(x)


class Classes(Behaviour):
    num_labels = 3


def prepared(method, curriculum=None, **recipe):
    """An engine of 6 examples to forget and 10 to retain, ready to run."""
    columns = {"x": (torch.arange(64.0, dtype=torch.double) * 1.3).sin().view(16, 4), "labels": torch.arange(16) % 3}
    method = load_method(method) if isinstance(method, str) else method
    context = Context(
        Classes(), Linear(1), lambda: Linear(2), Examples(columns, range(6)), Examples(columns, range(6, 16))
    )
    recipe = Recipe(**dict(lr=0.05, epochs=3, batch_size=4, forget_batch_size=3, optimizer="sgd", clip=0.0) | recipe)
    return Engine(method, context, recipe, curriculum=curriculum, progress=False)


def weights(engine):
    engine.run()
    return torch.cat([p.detach().flatten() for p in engine.context.student.parameters()])


class Ascent(Method):
    name = "ascent"
    schedule = "joint"
    terms = Term("forget", "loss", "true", weight=-0.5), Term("retain", "loss", "true")


def test_the_engine_weighs_every_term_before_its_sum():
    engine = prepared(Ascent(), SuperLoss(0.7, "log_classes", 3), epochs=1, batch_size=10, forget_batch_size=6)
    expected = 0.0
    for view, weight in ((engine.context.forget, -0.5), (engine.context.retain, 1.0)):
        batch = view[torch.arange(len(view))]
        losses = (
            torch.nn.functional.cross_entropy(engine.context.student(batch["x"]), batch["labels"], reduction="none")
            .detach()
            .numpy()
        )
        x = np.maximum((losses - math.log(3)) / 0.7, -2 / math.e + 1e-12)
        sigma = np.exp(-lambertw(x / 2).real)
        expected += weight * (sigma * (losses - math.log(3)) + 0.7 * np.log(sigma) ** 2).mean()
    engine.run()
    assert engine.context.meter.costs.losses == pytest.approx([expected], rel=1e-6)


@pytest.mark.parametrize("method", ["finetune", "scrub", "bad_t", "salun", "neggrad_plus"])
def test_it_composes_with_methods_and_changes_them(method):
    plain, weak, strong = (weights(prepared(method, lam and SuperLoss(lam))) for lam in (None, 1e9, 0.05))
    assert strong.isfinite().all() and torch.allclose(plain, weak, atol=1e-5) and (plain - strong).abs().max() > 1e-4


def test_pieces_of_a_batch_change_no_weight():
    whole, pieces = (weights(prepared("finetune", SuperLoss(0.5), accumulate=n)) for n in (1, 2))
    assert torch.allclose(whole, pieces, atol=1e-12)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (("sl",), "curriculum 'sl': superloss"),
        (("superloss", 0), "lambda 0"),
        (("superloss", math.nan), "lambda nan"),
        (("superloss", 1.0, "median"), "tau 'median'"),
        (("superloss", 1.0, "log_classes"), "there are no classes"),
    ],
)
def test_what_makes_no_curriculum_is_refused(arguments, complaint):
    with pytest.raises(MubenchError, match=complaint):
        make_curriculum(*arguments)
    assert make_curriculum() is None
