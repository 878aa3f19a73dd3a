"""Sophia's update, element by element, against the formula in plain loops."""

import math

import pytest
import torch

from mubench.train.sophia import Sophia

GRADIENTS = [[0.3, -2.0, 1e-3, 0.0, 1e-30], [-0.1, -2.5, 2e-3, 0.0, 0.0], [0.2, 3.0, -1e-3, 1.0, 0.0]]


def by_hand(start, lr, beta1, beta2, rho, bs, decay):
    """The weights after a step with each of the gradients."""
    theta, m, h = list(start), [0.0] * len(start), [0.0] * len(start)
    for gradient in GRADIENTS:
        for i, g in enumerate(gradient):
            m[i], h[i] = beta1 * m[i] + (1 - beta1) * g, beta2 * h[i] + (1 - beta2) * g * g
            size = abs(m[i]) / (rho * bs * h[i]) if h[i] else float(m[i] != 0)
            theta[i] = theta[i] * (1 - lr * decay) - lr * math.copysign(min(size, 1), m[i])
    return theta


@pytest.mark.parametrize("options", [{}, {"betas": (0.965, 0.99), "rho": 0.1, "bs": 8}, {"weight_decay": 0.1, "bs": 1}])
def test_equal_to_plain_loops(options):
    start = [0.5, -1.0, 2.0, 0.1, 0.0]
    theta, idle = torch.nn.Parameter(torch.tensor(start, dtype=torch.double)), torch.nn.Parameter(torch.ones(1))
    optimizer = Sophia([theta, idle], lr=0.01, **options)
    for gradient in GRADIENTS:
        theta.grad = torch.tensor(gradient, dtype=torch.double)
        optimizer.step()
    said = {"betas": (0.9, 0.95), "rho": 0.04, "bs": 5120, "weight_decay": 0.0} | options
    assert theta.tolist() == pytest.approx(
        by_hand(start, 0.01, *said["betas"], said["rho"], said["bs"], said["weight_decay"]), rel=1e-12
    )
    assert idle.item() == 1.0  # no gradient, no step, no decay


def test_momentum_is_averaged_once():
    theta = torch.nn.Parameter(torch.zeros(1))
    optimizer = Sophia([theta], lr=1.0)
    theta.grad = torch.ones(1)
    optimizer.step()
    assert optimizer.state[theta]["m"].item() == pytest.approx(0.1)  # 0.19 in SOUL's code


def test_a_step_is_never_longer_than_the_rate_and_finite_in_float32():
    theta = torch.nn.Parameter(torch.zeros(4))
    theta.grad = torch.tensor([0.0, 1e-30, 1e-4, 1e4])  # the second's square is 0
    Sophia([theta], lr=0.5).step()
    assert theta.tolist() == pytest.approx([0.0, -0.5, -0.5, -0.5 * 1e3 / (204.8 * 5e6)])


def test_it_lowers_a_loss():
    torch.manual_seed(0)
    x, net = torch.randn(64, 4), torch.nn.Linear(4, 3)
    y = (x @ torch.randn(4, 3)).argmax(-1)
    loss = lambda: torch.nn.functional.cross_entropy(net(x), y)
    optimizer, before = Sophia(net.parameters(), lr=0.05, bs=64), loss().item()
    for _ in range(100):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < before / 2
