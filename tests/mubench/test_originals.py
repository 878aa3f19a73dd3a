"""Originals: which epoch's weights are kept, and that the test set has no say in it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import datasets
import pytest
import torch
from transformers import PretrainedConfig, PreTrainedModel

from mubench import job, registry
from mubench.errors import MubenchError
from mubench.job import original, train_original
from mubench.measure.predict import validator
from mubench.models import originals
from mubench.runner import run
from mubench.tasks.base import Model, Task
from mubench.train.costs import Meter
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe


class TinyConfig(PretrainedConfig):
    model_type = "tiny"


class Tiny(PreTrainedModel):
    """Class 1 where a bias, trained upwards from 0 by about ``lr`` an epoch, is above x."""

    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.bias = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))  # counts training batches: buffers go with the weights
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, x):
        self.seen += self.training
        return torch.stack([torch.zeros_like(x), self.bias - x], -1)


class Bias(Task):
    """One training batch per epoch, always pulling upwards. The bias is about 1 to 5 after the epochs: validation is
    right where it lies between 2.5 and 3.5 (epoch 3), test above 4.5 (epoch 5), the first four training rows below 1.5
    (epoch 1)."""

    labels = ("below", "above")
    recipe = Recipe(
        lr=1.0, epochs=5, batch_size=100, optimizer="sgd", momentum=0.0, weight_decay=0.0, clip=0.0, keep_best=True
    )
    models = {"tiny": Model("Tiny")}

    def model_class(self, model):
        return Tiny

    def read(self):
        rows = lambda x, label: datasets.Dataset.from_dict({"x": x, "label": label})
        return datasets.DatasetDict(
            train=rows([1e4] * 40, [1] * 40), validation=rows([2.5, 3.5], [1, 0]), test=rows([4.5] * 5, [1] * 5)
        )

    def prepare(self, dataset, model):
        return {"x": torch.tensor(dataset["x"]), "labels": torch.tensor(dataset["label"])}


@pytest.fixture
def task(tmp_path, monkeypatch):
    """The task, whose test rows raise when they are read while an engine runs."""
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    Bias.name, running, run_engine = "bias", [], Engine.run

    @contextmanager
    def marked():
        running.append(True)
        yield running.pop()

    def run(engine):
        with marked():
            return run_engine(engine)

    def collate(self, batch, model):
        if running and (batch["x"] == 4.5).any():
            raise AssertionError("a test row was read while training")
        return batch

    monkeypatch.setattr(Engine, "run", run)
    monkeypatch.setattr(Bias, "collate", collate)
    return Bias()


def trained(task, **changes):
    """The card of an original trained with a recipe that differs, its bias and its count of batches."""
    task.recipe = Recipe(**(vars(Bias.recipe) | changes))
    card = train_original(task, "tiny", progress=False)
    network = originals.load(task, "tiny")[0]
    return card, network.bias.item(), network.seen.item()


def test_the_epoch_best_on_validation_is_kept_and_test_rows_are_never_read(task):
    card, bias, batches = trained(task)
    assert card["validation"] == [0.5, 0.5, 1.0, 0.5, 0.5] and card["scores"]["validation"] == 1.0
    assert (2.5 < bias < 3.5) and batches == 3
    assert card["scores"]["test"] == 0.0  # by test scores the last epoch would have been chosen
    assert (bias, batches) == trained(task, keep_best=False, epochs=3)[1:]


def test_by_default_the_last_epoch_is_kept_and_nothing_is_validated(task):
    card, bias, batches = trained(task, keep_best=False)
    assert bias > 4.5 and batches == 5 and card["scores"]["test"] == 1.0 and "validation" not in card


def test_of_equals_the_first_is_kept(task):
    assert trained(task, epochs=2)[2] == 1


def test_retraining_keeps_the_best_epoch_too_and_other_methods_do_not(task, tmp_path, monkeypatch):
    train_original(task, "tiny", progress=False)
    monkeypatch.setitem(registry.tasks.modules, "bias", __name__)
    retrained = run("bias", "retrain", out=tmp_path / "results")
    assert (
        retrained.costs["validation"] == [0.5, 0.5, 1.0, 0.5, 0.5]
        and retrained.metrics["test_score"] == 0
        and retrained.method["recipe"]["keep_best"]
    )
    finetuned = run("bias", "finetune", out=tmp_path / "results")
    assert finetuned.costs["validation"] == [] and not finetuned.method["recipe"]["keep_best"]


def test_validation_costs_no_training_time(task, monkeypatch):
    clock = [0.0]
    for name in ("perf_counter", "process_time"):
        monkeypatch.setattr(f"mubench.train.costs.time.{name}", lambda: clock[0])
    meter = Meter(torch.device("cpu"))
    with meter:
        clock[0] += 2
        with meter.paused():
            clock[0] += 100
        clock[0] += 3
        assert meter.seconds() == meter.cpu_seconds() == 5
    assert meter.costs.unlearning_seconds == meter.costs.cpu_seconds == 5


def test_an_engine_with_nothing_to_choose_by_says_so(task):
    with pytest.raises(MubenchError, match="keep_best=True needs a validation set"):
        Engine(None, None, Bias.recipe)


def test_a_validator_needs_one_set_only(task):
    sets = task.sets("tiny", task.split(5))
    assert validator(task, {"validation": sets["validation"]})(task.build("tiny")) == 0.5


# -- originals of further seeds ----------------------------------------------------------------------------------------


def test_the_original_of_a_seed_is_trained_on_first_need_and_kept(task, capfd):
    train_original(task, "tiny", progress=False)
    facts = [original(task, "tiny", seed=1)[1] for _ in range(2)]
    assert (
        facts[0] == facts[1]
        and facts[0]["card"]["seed"] == 1
        and facts[0]["source"] == str(originals.trained_dir(task, "tiny", 1))
    )
    said = capfd.readouterr().err
    assert (
        said.count("training the original tiny of bias for seed 1") == 1
        and f"`{originals.how_to_train(task, 'tiny', 1)}`" in said
    )
    assert originals.load(task, "tiny")[1]["card"]["seed"] == 0


def test_an_original_that_was_being_trained_is_there_whole_or_not_at_all(task, monkeypatch):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tiny, "save_pretrained", killed)
        with pytest.raises(KeyboardInterrupt):
            original(task, "tiny", seed=1)
    assert not [*originals.trained_dir(task, "tiny", 1).parent.glob("*tiny-1-*[!k]")]
    assert original(task, "tiny", seed=1)[1]["card"]["seed"] == 1


def test_an_original_of_other_rows_is_refused(task):
    original(task, "tiny", seed=1)
    path = originals.trained_dir(task, "tiny", 1) / originals.CARD
    path.write_text(path.read_text().replace(task.split().data, "0" * 64))
    with pytest.raises(MubenchError, match="is another than its place says .data "):
        original(task, "tiny", seed=1)


@pytest.mark.parametrize(
    "change",
    [lambda path: path.unlink(), lambda path: path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))],
)
def test_an_original_that_is_not_what_its_place_says_is_refused(task, change):
    original(task, "tiny", seed=1)
    change(originals.trained_dir(task, "tiny", 1) / originals.CARD)
    with pytest.raises(MubenchError, match="is another than its place says .*--seed 1 --train` makes it anew"):
        original(task, "tiny", seed=1)


def test_several_processes_of_one_run_do_not_train_it_as_they_begin(task, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MubenchError, match="`mubench original .*:Bias --model tiny --seed 1 --train` first"):
        original(task, "tiny", seed=1)


def test_workers_that_need_the_same_one_train_it_once(task, monkeypatch):
    trained, train = [], job.train_original
    monkeypatch.setattr(job, "train_original", lambda *args, **options: trained.append(args) or train(*args, **options))
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: original(task, "tiny", seed=1)[1]["source"], range(3)))
    assert len({*folders}) == 1 and len(trained) == 1


def test_threads_that_make_and_read_tied_models_leave_them_tied():
    people = registry.tasks.get("people")()
    make = lambda i: people.build("gpt2") if i % 2 else originals.load(people, "gpt2")[0]
    with ThreadPoolExecutor(4) as pool:
        models = [*pool.map(make, range(24)), people.build("gpt2")]
    assert all(model.lm_head.weight is model.transformer.wte.weight for model in models)
