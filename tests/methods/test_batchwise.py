"""Losses that couple the examples of a batch say so; every other gives an example one value in any company."""

import functools

import pytest
import torch

from effects import trained, values
from mubench import contracts, registry
from mubench.errors import MubenchError
from mubench.examples import Wrapped
from mubench.methods.base import Method, Term
from mubench.models.behaviour import Custom
from mubench.registry import load_method
from mubench.train.recipe import Recipe

VARIANTS = [
    *((name, {}) for name in registry.methods.modules if load_method(name).terms),
    ("salun", {"labels": "prompt"}),
    ("npo", {"retain": "kl"}),
    ("boundary_shrink", {"units": "normalised", "step": 0.5}),
]
COMPANIES = ([0, 1, 2, 3], [0], [0, 3], [2, 0, 1], [1, 2], [3])  # which examples are in a batch
RECIPE = Recipe(lr=0.01, epochs=1, batch_size=8)


@functools.cache
def small(place):
    """(task, () → network, sets, facts) of a mini task, or of the small problem of `contracts` (None)."""
    if place is None:
        sets = {name: Wrapped(contracts._problem(n, s), None) for name, n, s in (("forget", 12, 0), ("retain", 24, 1))}
        task = Custom(None, 4, "classifier")
        task.probe(contracts._network(), sets["forget"])
        return task, contracts._network, sets | {"validation": sets["retain"]}, None
    task = registry.load_task(place)
    model = task.model()
    return task, functools.partial(task.build, model), task.sets(model, task.split(5), limit=16), model


def place_of(method):
    if method.needs <= contracts.PROBLEM:
        return None
    tasks = map(registry.load_task, registry.tasks.names())
    return next(task.name for task in tasks if task.tier == "mini" and method.needs <= set(task.provides))


def coupled(method):
    """Number of each term → whether an example's value depends on its companions, in eval mode, by the same draws."""
    task, build, sets, model = small(place_of(method))

    def find(context):
        context.student.eval()
        found = {}
        for number, term in enumerate(method.terms):
            view = getattr(context, term.on)
            batch = context.batch(view, torch.arange(4), "companions")
            seen = {}
            for company in COMPANIES:
                part = {name: column[company] for name, column in batch.items()}
                with torch.enable_grad():
                    given = values(term, context, context.task, part).detach()
                for example, value in zip(company, given, strict=True):
                    seen.setdefault(example, []).append(value)
            found[number] = not all(torch.allclose(torch.stack(v), v[0], rtol=1e-3, atol=1e-5) for v in seen.values())
        return found

    facts = {"validation": sets.get("validation"), "model_name": model}
    return trained(find, method, task, build(), build, (sets["forget"], sets["retain"]), RECIPE, **facts)


@pytest.mark.parametrize("name, passed", VARIANTS)
def test_a_term_is_declared_batchwise_where_it_couples_examples(name, passed):
    method = load_method(name, **passed)
    assert coupled(method) == {number: term.batchwise for number, term in enumerate(method.terms)}
    assert method.batchwise == any(term.batchwise for term in method.terms)


def test_batchwise_are_those_two():
    assert [name for name in registry.methods.modules if load_method(name).batchwise] == ["laf", "multi_delete"]


def centred(context, batch, student, teacher):
    return student.loss - student.loss.mean()


@pytest.mark.parametrize("declared", [True, False])
def test_a_wrong_declaration_is_noticed(declared):
    """A toy of one term that couples examples and one that does not: what is found does not depend on what it says."""
    terms = tuple(Term("forget", "loss", "true", how=how, batchwise=declared) for how in (centred, None))
    facts = {"terms": terms, "schedule": "forget_only", "name": "toy", "lr": 0.01}
    assert coupled(type("Toy", (Method,), facts)()) == {0: True, 1: False}


@pytest.mark.parametrize("wrong", [1, "yes", None])
def test_a_mistyped_declaration_is_refused(wrong):
    with pytest.raises(MubenchError, match="^batchwise=.*: give True or False"):
        Term("forget", "loss", "true", batchwise=wrong)
