"""Views that decode when asked are read by other processes, ahead of the model; nothing else changes."""

import multiprocessing
import os

import pytest
import torch

from mubench.errors import MubenchError
from mubench.examples import Examples
from mubench.models.behaviour import Behaviour
from mubench.registry import load_method
from mubench.spec import Budget
from mubench.train.context import Context
from mubench.train.engine import Engine
from mubench.train.loader import batches
from mubench.train.recipe import Recipe

CPU = torch.device("cpu")
COLUMNS = {"x": torch.arange(64.0).sin().view(16, 4), "labels": torch.arange(16) % 3}


class Decoded(Examples):
    """Rows that say which process cut them."""

    decodes = True

    def fetch(self, positions, without=()):
        return super().fetch(positions, without) | {"process": torch.full((len(positions),), os.getpid())}


class Damaged(Decoded):
    def fetch(self, positions, without=()):
        raise MubenchError("clip.avi is no video that can be decoded")


def asked(n=16, size=4):
    return [("", positions) for positions in torch.arange(n).split(size)]


def test_other_processes_give_the_same_batches_in_the_same_order():
    here = list(batches({"": Examples(COLUMNS)}, asked(), CPU))
    others = list(batches({"": Decoded(COLUMNS)}, asked(), CPU))
    assert all(os.getpid() not in batch.pop("process").tolist() for batch in others)
    assert [{k: v.tolist() for k, v in batch.items()} for batch in here] == [
        {k: v.tolist() for k, v in batch.items()} for batch in others
    ]


def test_rows_in_memory_are_cut_here():
    with_process = type("Plain", (Decoded,), {"decodes": False})(COLUMNS)
    assert {*next(batches({"": with_process}, asked(), CPU))["process"].tolist()} == {os.getpid()}


def read_alone(answer):
    answer.put({*next(batches({"": Decoded(COLUMNS)}, asked(), CPU))["process"].tolist()} == {os.getpid()})


def test_a_process_that_may_start_no_others_reads_by_itself():
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=read_alone, args=(answer,), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0 and answer.get()


def test_a_view_that_cannot_be_decoded_says_so():
    with pytest.raises(MubenchError, match="^clip.avi is no video that can be decoded$"):
        list(batches({"": Damaged(COLUMNS)}, asked(), CPU))


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.classifier = torch.nn.Linear(4, 3)

    def forward(self, x, process=None):
        return self.classifier(torch.dropout(x, 0.3, self.training))


class Classes(Behaviour):
    num_labels = 3


def trained(method, kind, budget=None):
    """The student after a method, and how it went."""
    method, view = load_method(method), kind(COLUMNS)
    sets = view.select(torch.arange(5)), view.select(torch.arange(5, 16))
    context = Context(Classes(), Network(), Network, *sets)
    costs = Engine(method, context, Recipe(lr=0.1, epochs=2, batch_size=4), budget, progress=False).run()
    return context.student.state_dict(), costs


@pytest.mark.parametrize("method", ["scrub", "salun", "neggrad_plus"])
def test_weights_are_the_same_bits(method):
    (plain, counted), (decoded, as_well) = trained(method, Examples), trained(method, Decoded)
    assert all(plain[name].equal(decoded[name]) for name in plain) and counted.examples == as_well.examples


def test_a_budget_that_ends_early_leaves_no_process():
    assert trained("finetune", Decoded, Budget(steps=1))[1].steps == 1
    assert not multiprocessing.active_children()
