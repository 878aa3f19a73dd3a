"""`mubench.unlearn` and `mubench.evaluate` on models and data of one's own."""

import copy

import datasets
import pytest
import torch
import transformers

import mubench
from mubench.contracts import PROBLEM
from mubench.errors import MubenchError
from mubench.registry import load_method, methods


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def examples():
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    return [{"x": row, "labels": int(row[:3].argmax())} for row in x]


@pytest.mark.parametrize("method", [n for n in methods.names() if load_method(n).needs <= PROBLEM])
def test_every_method_on_a_plain_module(net, examples, method):
    before = copy.deepcopy(net.state_dict())
    done = mubench.unlearn(
        net,
        examples[:10],
        examples[10:50],
        method,
        fresh=Net,
        head="layers.2",
        batch_size=8,
        progress=False,
        validation=examples[50:],
    )
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert done.model(torch.zeros(2, 5)).shape == (2, 3) and not done.model.training
    assert (done.costs.steps == 0) == (method == "original" or load_method(method).schedule == "none")


@pytest.mark.parametrize("options", [{"epochs": 7}, {"protocol": "official"}, {"foo": 3}])
def test_a_method_that_is_made_already_takes_no_more_settings(net, examples, options):
    with pytest.raises(MubenchError, match="salun is given with its hyperparameters: set"):
        mubench.unlearn(net, examples[:10], examples[10:], load_method("salun", epochs=1), progress=False, **options)


def test_the_official_protocol_on_a_plain_module(net, examples):
    suite, official = (
        mubench.unlearn(net, examples[:10], examples[10:], "neggrad", protocol=protocol, epochs=1, progress=False).model
        for protocol in ("suite", "official")
    )
    assert any(not torch.equal(a, b) for a, b in zip(suite.parameters(), official.parameters(), strict=True))


@pytest.mark.parametrize("method", ["ul", "sga_tau", "scrub_r"])
def test_a_threshold_wants_held_out_examples(net, examples, method):
    with pytest.raises(MubenchError, match="pass validation="):
        mubench.unlearn(net, examples[:10], examples[10:], method, progress=False)


def test_in_place_changes_the_model_itself(net, examples):
    before = copy.deepcopy(net.state_dict())
    done = mubench.unlearn(net, examples[:10], examples[10:], "neggrad", lr=0.1, inplace=True, progress=False)
    assert done.model is net and any(not torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_ascent_raises_the_forget_loss_and_descent_lowers_the_retain_loss(net, examples):
    def loss(model, rows):
        x, y = torch.stack([r["x"] for r in rows]), torch.tensor([r["labels"] for r in rows])
        return torch.nn.functional.cross_entropy(model(x), y).item()

    up = mubench.unlearn(net, examples[:10], examples[10:], "neggrad", lr=1e-2, progress=False).model
    down = mubench.unlearn(net, examples[:10], examples[10:], "finetune", lr=1e-2, progress=False).model
    assert loss(up, examples[:10]) > loss(net, examples[:10]) and loss(down, examples[10:]) < loss(net, examples[10:])


def test_hugging_face_model_and_data_set():
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=4
    )
    rows = datasets.Dataset.from_dict(
        {"input_ids": [[i % 30, (3 * i) % 30, 1] for i in range(40)], "label": [i % 4 for i in range(40)]}
    )
    rows = rows.with_format("torch")
    for method in ("bad_t", "scrub", "retrain"):  # two of them need an untrained model: the model's class makes it
        done = mubench.unlearn(
            transformers.BertForSequenceClassification(config),
            rows.select(range(8)),
            rows.select(range(8, 40)),
            method,
            batch_size=8,
            progress=False,
        )
        assert done.costs.steps and all(p.isfinite().all() for p in done.model.parameters())


def test_own_loss_and_collate(net, examples):
    pairs = [(row["x"], row["labels"]) for row in examples]
    collate = lambda items: {"a": torch.stack([x for x, _ in items]), "labels": torch.tensor([y for _, y in items])}

    def loss(model, batch):
        logits = model(batch["a"])
        return torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none"), logits

    same = mubench.unlearn(net, pairs[:10], pairs[10:], "salun", collate=collate, loss=loss, lr=1e-2, progress=False)
    plain = mubench.unlearn(net, examples[:10], examples[10:], "salun", lr=1e-2, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(same.model.parameters(), plain.model.parameters(), strict=True))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(forget=[]), "forget set is empty"),
        (dict(retain=[]), "retain set is empty"),
        (dict(method="salum"), "did you mean 'salun'"),
        (dict(method="bad_t"), "pass fresh="),
        (dict(alpha=1), "unknown hyperparameter"),
        (dict(lr="fast"), "lr='fast'"),
        (dict(loss=lambda m, b: m(b["x"]).sum()), "one number per example"),
        (dict(collate=lambda items: items), "dict of tensors"),
        (dict(method="bad_t", loss=lambda m, b: m(b["x"]).square().mean(-1)), "needs logit"),
        (dict(precision="int3"), "int3"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(net, examples, change, message):
    arguments = {"forget": examples[:10], "retain": examples[10:], "progress": False} | change
    with pytest.raises(MubenchError, match=message) as raised:
        mubench.unlearn(
            net, arguments.pop("forget"), arguments.pop("retain"), arguments.pop("method", "salun"), **arguments
        )
    assert "\n" not in str(raised.value)


def test_evaluating_a_checkpoint_is_what_running_original_measures(tmp_path):
    result = mubench.run("fashion", "original", out=tmp_path, limit=100)
    assert (
        mubench.evaluate("fashion", mubench.load_task("fashion").originals_dir("resnet"), limit=100) == result.metrics
    )


def test_run_reads_what_is_done(tmp_path):
    first = mubench.run("fashion", "neggrad", out=tmp_path, limit=50)
    second = mubench.run("fashion", "neggrad", out=tmp_path, limit=50)
    assert first == second and mubench.score(next(tmp_path.rglob("result.json")).parent) == first.metrics
