"""Causal models read prompt and answer in one piece: what they say is what they say of texts padded apart."""

import pytest
import torch

from mubench.errors import MubenchError
from mubench.models.behaviour import forward
from mubench.registry import load_task

TASK = load_task("people")
LAYERS = {"llama": "model.layers.0", "gpt2": "transformer.h.0"}
MODELS = pytest.mark.parametrize("model", LAYERS)
EXACT = dict(rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module", params=LAYERS)
def case(request):
    """A model in float64, a view, and a batch of texts of which the longest has neither the longest prompt nor the
    longest answer.
    """
    network = TASK.build(request.param).double().eval()
    view = TASK.prepared(request.param, "train")
    prompts, answers = view.columns["attention_mask"].sum(1), (view.columns["labels"] != -100).sum(1)
    rows = torch.cat([torch.arange(9), prompts.argmax()[None], answers.argmax()[None], answers.argmin()[None]])
    return request.param, network, view, rows


def apart(network, columns, layer):
    """What the model says of prompts padded on the left and answers padded on the right, by hand: loss [B], logits
    [B, L, V], states before the head and behind a layer [B, L, H]; and how many positions it reads.
    """
    prompt, seen, labels = (columns[name].long() for name in ("input_ids", "attention_mask", "labels"))
    start, end = int((seen.sum(0) == 0).sum()), int((labels >= 0).sum(1).max())
    prompt, seen, labels = prompt[:, start:], seen[:, start:], labels[:, :end]
    seen = torch.cat([seen, (labels >= 0)[:, :-1].long()], 1)
    kept = {}
    hooks = [
        network.get_submodule(layer).register_forward_hook(
            lambda _, args, out: kept.update(inner=out[0] if isinstance(out, tuple) else out)
        ),
        network.lm_head.register_forward_pre_hook(lambda _, args: kept.update(last=args[0])),
    ]
    logits = network(
        input_ids=torch.cat([prompt, labels[:, :-1].clamp(min=0)], 1),
        attention_mask=seen,
        position_ids=(seen.cumsum(1) - 1).clamp(min=0),
    ).logits[:, -end:]
    for hook in hooks:
        hook.remove()
    counts = labels >= 0
    each = -logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    loss = torch.stack([row[here].mean() for row, here in zip(each, counts, strict=True)])
    return loss, logits[counts], kept["last"][:, -end:], kept["inner"][:, -end:], counts, seen.numel()


def test_everything_that_counts_is_the_same_and_fewer_positions_are_read(case):
    model, network, view, rows = case
    batch = view[rows]
    loss, logits, last, inner, counts, positions = apart(
        network, {name: column[rows] for name, column in view.columns.items()}, LAYERS[model]
    )
    given = forward(TASK, network, batch, features=True, layers=[LAYERS[model]])
    out, states = given[None], given[LAYERS[model]]
    mean = torch.stack([row[here].mean(0) for row, here in zip(last, counts, strict=True)])
    mask = out.mask[:, : counts.shape[1]]
    assert mask.equal(counts) and not out.mask[:, counts.shape[1] :].any() and out.mask.equal(states.mask)
    assert out.logits.shape[:2] == out.mask.shape == states.features.shape[:2] == batch["labels"].shape
    torch.testing.assert_close(out.loss.double(), loss, rtol=1e-5, atol=1e-6)  # logits are compared in float32
    torch.testing.assert_close(out.logits[out.mask], logits.float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(out.features, mean.float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(states.features[states.mask], inner[counts].float(), rtol=1e-6, atol=1e-6)
    assert batch["input_ids"].numel() < 0.8 * positions


def test_a_step_is_the_same(case, monkeypatch):
    """Gradients of all weights, in float64."""
    model, network, view, rows = case
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    found = []
    for loss in (
        lambda: TASK.forward(network, view[rows]).loss,
        lambda: apart(network, {n: column[rows] for n, column in view.columns.items()}, LAYERS[model])[0],
    ):
        network.zero_grad()
        losses = loss()
        losses.mean().backward()
        found.append((losses.detach(), {name: p.grad.clone() for name, p in network.named_parameters()}))
    torch.testing.assert_close(*(losses for losses, _ in found), **EXACT)
    for name in found[0][1]:
        torch.testing.assert_close(*(gradients[name] for _, gradients in found), **EXACT)


def test_an_example_is_what_it_is_alone(case):
    """Whatever the others, and in a part of the batch, which stays as wide."""
    _, network, view, rows = case
    with torch.no_grad():
        batch = view[rows]
        loss = TASK.forward(network, batch).loss
        for i, row in enumerate(rows):
            torch.testing.assert_close(TASK.forward(network, view[row[None]]).loss[0], loss[i], rtol=1e-6, atol=1e-6)
        some = TASK.take(batch, torch.tensor([3, 11]))
        torch.testing.assert_close(TASK.forward(network, some).loss, loss[[3, 11]], rtol=1e-6, atol=1e-6)


def test_other_answers_find_room(case):
    """Of each row the shortest example's answer, then the longest's: the batch gets narrower and wider."""
    _, network, view, rows = case
    batch = view[rows]
    short, long = (batch["labels"][[i]].expand(len(rows), -1) for i in (-1, -2))
    for answers in (short, long, batch["labels"]):
        changed = TASK.answered(batch, slice(None), answers)
        with torch.no_grad():
            losses = TASK.forward(network, changed).loss
            for i in range(len(rows)):
                ids = batch["input_ids"][i][batch["attention_mask"][i] > 0]
                answer = answers[i][answers[i] >= 0]
                whole, silent = torch.cat([ids, answer])[None], torch.full_like(ids, -100)
                alone = network(input_ids=whole, labels=torch.cat([silent, answer])[None]).loss
                torch.testing.assert_close(losses[i].double(), alone.double(), rtol=1e-5, atol=1e-6)
        widths = [(b["attention_mask"].sum(1) + (b["labels"] >= 0).sum(1)).max() - 1 for b in (batch, changed)]
        assert all(0 <= b["input_ids"].shape[1] - w < 4 for b, w in zip((batch, changed), widths, strict=True))
    back = TASK.answered(TASK.answered(batch, slice(None), long), slice(None), batch["labels"])
    assert all(back[name][..., : batch[name].shape[-1]].equal(batch[name]) for name in ("input_ids", "attention_mask"))


def test_answers_without_room_have_no_loss_rather_than_a_wrong_one(case):
    _, network, view, rows = case
    batch = view[rows[-1:]]
    forced = batch | {"labels": torch.full((1, 24), 5)}
    assert TASK.forward(network, forced).loss.isnan().all()


def test_a_completion_is_what_it_is_alone(case):
    _, network, view, rows = case
    batch = view[rows]
    with torch.no_grad():
        said = TASK.complete(network, batch, 2, 6)
        alone = [TASK.complete(network, view[row[None]], 2, 6)[0] for row in rows]
    for one, every in zip(alone, said, strict=True):
        assert every[: len(one)].equal(one) and not every[len(one) :].any()


def test_the_head_sees_answers_alone(case):
    """A head has a vocabulary for each position: prompts are not multiplied by it."""
    _, network, view, rows = case
    seen, batch = [], view[rows]
    hook = network.lm_head.register_forward_hook(lambda _, args, out: seen.append(out.shape[:2]))
    TASK.forward(network, batch)
    hook.remove()
    assert seen == [batch["labels"].shape] and not network.lm_head._forward_pre_hooks
    with pytest.raises(MubenchError, match="has no module 'lm_head'"):
        TASK.forward(Headless(network), batch)


class Headless(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.config, self.body = network.config, torch.nn.Linear(1, 1)


@MODELS
def test_gradients_of_single_examples_are_taken_at_once(model):
    """What vmap runs is what a backward pass for each gives."""
    import functools

    from mubench.train import gradients
    from mubench.train.context import Context

    sets = TASK.sets(model, TASK.split(5))
    some = sets["forget"].select(slice(6))
    made = Context(TASK, TASK.build(model), functools.partial(TASK.build, model), some, sets["retain"])
    (batch, found), *_ = gradients.gradients(made, some)
    for i in range(6):
        made.student.zero_grad()
        TASK.forward(made.student, some[torch.tensor([i])]).loss.mean().backward()
        for name, p in made.student.named_parameters():
            torch.testing.assert_close(found[name][i], p.grad, rtol=1e-3, atol=1e-5)
