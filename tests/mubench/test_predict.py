"""Evaluation takes examples of similar length together, whatever the order of the rows; nothing else changes."""

import pytest
import torch

from mubench.examples import Examples, View
from mubench.measure import predict as predicting
from mubench.measure.predict import _share, predict
from mubench.registry import load_task
from mubench.tasks.contract.caching import cached_method
from mubench.train.loader import by_length


def test_the_longest_come_first_and_the_way_back_is_known():
    lengths = torch.tensor([3, 9, 3, 7, 9])
    view = Examples({"x": torch.arange(5)}, lengths=lengths)
    assert by_length(view).tolist() == [1, 4, 3, 0, 2]
    assert lengths[by_length(view)][by_length(view).argsort()].equal(lengths)
    assert by_length(view.select([4, 3, 0])).tolist() == [0, 1, 2] and view.select([3, 0]).lengths.tolist() == [7, 3]
    assert (view + view.select([1])).lengths.tolist() == [3, 9, 3, 7, 9, 9]
    other = Examples({"x": torch.arange(2)}, lengths=torch.tensor([1, 2]))
    assert (view + other).lengths.tolist() == [3, 9, 3, 7, 9, 1, 2]
    unknown = Examples({"x": torch.arange(2)})
    assert (view + unknown).lengths is None and by_length(View(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["movie_snippets", "people", "messenger"])
def test_lengths_are_of_what_a_model_reads(name):
    """As a batch of one alone has them."""
    task = load_task(name)
    view = task.sets(task.model(), task.split(5))["test"].select(slice(20))
    for row, length in zip(torch.arange(20), view.lengths, strict=True):
        batch = view[row[None]]
        read = batch["attention_mask"].sum() + ((batch["labels"] >= 0).sum() if batch["labels"].ndim == 2 else 0)
        assert read == length


def test_processes_get_as_many_examples_and_as_long_ones():
    task = load_task("movie_snippets")
    view = Examples({"x": torch.arange(1000)}, lengths=torch.randint(100, (1000,)))
    shares = [_share(task, view, rank, 4) for rank in range(4)]
    assert torch.cat([torch.cat(share) for share in shares]).sort().values.equal(torch.arange(1000))
    assert [sum(map(len, share)) for share in shares] == [250] * 4
    totals = [view.lengths[torch.cat(share)].sum() for share in shares]
    assert max(totals) - min(totals) < 100


@pytest.mark.parametrize(("name", "model"), [("movie_snippets", "bert"), ("people", "llama"), ("messenger", "t5")])
def test_rows_come_out_in_order_with_the_values_they_have_alone(name, model, monkeypatch):
    """What padding changes are last bits: 2e-5 of what is stored in float32, before it is rounded."""
    monkeypatch.setattr(predicting, "rounded", lambda values: values.numpy())
    task = load_task(name)
    task.evaluation_batch = 16
    view = task.sets(model, task.split(5))["test"].select(slice(48))
    network, read, usual = task.build(model).train(), [], task.predict
    task.predict = lambda network, batch: read.append(batch["attention_mask"].shape) or usual(network, batch)
    frame = predict(task, network, {"test": view})
    assert frame["index"].tolist() == sorted(view.rows.tolist()) and network.training
    assert [rows for rows, _ in read] == [16] * 3 and read[0][1] > read[2][1]
    network.eval(), vars(task).pop("predict")
    with torch.no_grad():
        alone = [task.predict(network, view[position[None]]) for position in view.rows.argsort()]
    for column in alone[0]:
        values = [one[column][0] for one in alone]
        if isinstance(values[0], str):
            assert values == frame[column].tolist()
        else:
            found = torch.stack([torch.as_tensor(value) for value in frame[column]])
            torch.testing.assert_close(found.double(), torch.stack(values).double(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "model"),
    [("people", "gpt2"), ("movie_snippets", "bert"), ("digit_pictures", "unet"), ("fashion", "resnet")],
)
def test_a_model_trains_after_it_was_looked_at(name, model):
    """Evaluation leaves nothing behind that a backward pass cannot use, in the model, in the task or in the world."""
    task = load_task(name)  # new: nothing is kept of earlier tests
    sets, network = task.sets(model, task.split(5)), task.build(model)
    predict(task, network, {"forget": sets["forget"].select(slice(2))})
    batch = task.drawn(sets["forget"][torch.arange(2)], 0)
    task.forward(network.train(), batch).loss.mean().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    if "text" in task.provides:
        task.forward(network, task.refuse(batch, slice(None))).loss.mean().backward()


def test_what_a_task_keeps_can_be_trained_with_wherever_it_was_made():
    class Kept:
        @cached_method
        def table(self):
            return torch.ones(3)

    kept = Kept()
    with torch.inference_mode():
        assert not kept.table().is_inference() and torch.ones(3).is_inference()
    (torch.nn.Parameter(torch.ones(3)) * kept.table()).sum().backward()
