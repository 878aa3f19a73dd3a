"""Golden weights: numbers do not move without a new integer, of the engine (`mubench.spec.ENGINE`) or of the method
(`version`).

    python tests/mubench/test_golden_weights.py      records what the code gives now, under the integers it has now

A small classifier in float64 forgets; its weights are hashed after rounding to 1e-6, far above what another processor's
order of summation makes of float64, far below what a change of the method does.
"""

import functools
import hashlib
import json
from pathlib import Path

import pytest
import torch

import mubench
from mubench import registry
from mubench.contracts import PROBLEM
from mubench.methods.base import SCHEDULES
from mubench.spec import ENGINE

FILE = Path(__file__).with_name("golden_weights.json")
NAMES = [name for name in registry.methods.names() if registry.load_method(name).needs <= PROBLEM]


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body, self.norm, self.classifier = (
                torch.nn.Linear(6, 8),
                torch.nn.BatchNorm1d(8),
                torch.nn.Linear(8, 4),
            )
        self.double()

    def forward(self, x):
        return self.classifier(self.norm(self.body(x)).tanh())


def examples(n, seed):
    x = torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return [{"x": row, "labels": int(row[:4].argmax())} for row in x]


def weights(method, **options):
    done = mubench.unlearn(
        Network(),
        examples(12, 0),
        examples(24, 1),
        method,
        validation=examples(12, 2),
        fresh=Network,
        head="classifier",
        batch_size=8,
        seed=3,
        progress=False,
        **options,
    )
    return done.model.state_dict()


def digest(state):
    rounded = {name: (tensor.double() * 1e6).round().long() for name, tensor in sorted(state.items())}
    return hashlib.sha256(
        b"".join(name.encode() + tensor.numpy().tobytes() for name, tensor in rounded.items())
    ).hexdigest()


@functools.cache
def now(name):
    method = registry.load_method(name)
    return {"schedule": method.schedule, "engine": ENGINE, "version": method.version, "weights": digest(weights(name))}


GOLDEN = json.loads(FILE.read_text()) if FILE.exists() else {}


@pytest.mark.parametrize("name", NAMES)
def test_weights_move_only_with_an_integer(name):
    golden, found = GOLDEN[name], now(name)
    if {key: golden[key] for key in ("engine", "version")} == {key: found[key] for key in ("engine", "version")}:
        assert golden["weights"] == found["weights"], (
            f"{name} gives other weights: raise ENGINE or its version, then run {Path(__file__).name}"
        )
    assert golden == found, f"record what the new integers stand for: python {Path(__file__).name}"


def test_there_is_one_for_every_schedule_and_method():
    assert set(GOLDEN) == {*NAMES} and {golden["schedule"] for golden in GOLDEN.values()} == {*SCHEDULES}


def test_a_small_change_moves_them():
    assert digest(weights("neggrad", lr_factor=0.0301)) != now("neggrad")["weights"] == digest(weights("neggrad"))


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: now(name) for name in NAMES}, indent=1) + "\n")
