"""Tasks of the paper tier on their samples: data in the published format, tiny models of the very same classes, whole
runs.
"""

import functools
import tempfile

import pytest
import torch

from mubench import registry
from mubench.contracts import check_behaviour, check_runs, one_per_schedule
from mubench.registry import load_task
from mubench.tasks.base import rows_checksum

PAPER = [name for name in registry.tasks.names() if registry.tasks.get(name).tier == "paper"]


@pytest.fixture(scope="module")
def sample():
    """Task name → its sample, made once."""
    with tempfile.TemporaryDirectory() as folder:

        @functools.lru_cache
        def make(name):
            return load_task(name).sample(tempfile.mkdtemp(dir=folder))

        yield make


@pytest.mark.parametrize("name", PAPER)
def test_contract_of_task(name, sample):
    task = load_task(name)
    assert len(list(check_behaviour(sample(name)))) == 1 + len(task.unit_kinds) + len(task.models)


def models():
    """(task, model) of all; of models of one architecture the first, as the others' samples are of the same size."""
    for name in PAPER:
        declared, seen = load_task(name).models, set()
        for model in declared:
            again = declared[model].architecture in seen
            seen.add(declared[model].architecture)
            yield pytest.param(name, model, marks=[pytest.mark.slow] * again)


@pytest.mark.parametrize("name, model", models())
def test_methods_unlearn_from_loading_to_the_result(name, model, sample):
    methods = one_per_schedule(load_task(name))
    methods = methods[:2] if model == load_task(name).model() else methods[:1]
    assert len(list(check_runs(name, sample(name), model, methods))) == len(methods)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_a_method_of_each_schedule_unlearns(name, sample):
    methods, model = one_per_schedule(load_task(name)), load_task(name).model()
    assert len(list(check_runs(name, sample(name), model, methods))) == len(methods)


@pytest.mark.parametrize("name", PAPER)
def test_a_sample_is_the_same_every_time(name, sample, tmp_path, monkeypatch):
    first, again = sample(name).data, type(sample(name))()
    monkeypatch.setattr(type(again), "data_dir", tmp_path)
    again.write_sample(tmp_path)
    checksums = (
        {part: rows_checksum(rows, again.keyed) for part, rows in data.items()} for data in (again.data, first)
    )
    assert next(checksums) == next(checksums)


@pytest.mark.parametrize("name", PAPER)
def test_tiny_models_are_of_the_very_same_classes(name, sample):
    assert {model: type(sample(name).build(model)).__name__ for model in sample(name).models} == (
        {model: declared.architecture for model, declared in load_task(name).models.items()}
    )


@pytest.mark.parametrize(
    "name, model",
    [("imdb", "roberta_base"), ("imdb", "electra_base"), ("imdb", "bert_base"), ("cifar100", "resnet_18")],
)
def test_the_representation_is_one_vector_whatever_the_head(name, model, sample):
    task = sample(name)
    batch = task.prepared(model, "test")[torch.arange(3)]
    network = task.build(model).eval()
    wide = batch | {n: torch.nn.functional.pad(batch[n], (0, 8)) for n in ("input_ids", "attention_mask") if n in batch}
    with torch.no_grad():
        out, padded = (task.forward(network, b, features=True) for b in (batch, wide))
    assert out.features.shape == padded.features.shape == (3, 16) and torch.allclose(
        out.features, padded.features, atol=1e-5
    )


def test_pictures_are_brought_to_what_the_pretrained_model_saw(sample):
    task = sample("cifar100")
    (row,) = task.prepared("mobilenet_v2", "test").columns["pixels"][:1]
    seen = task.prepared("mobilenet_v2", "test")[torch.arange(1)]["pixel_values"][0]
    assert seen.shape == (3, 40, 40) and task.inputs("mobilenet_v2")["mean"] == (0.5, 0.5, 0.5)
    assert torch.allclose(seen.mean((1, 2)), (row.float().mean((1, 2)) / 255 - 0.5) / 0.5, atol=0.02)


def test_a_pretrained_model_gets_a_head_of_its_task_drawn_by_the_seed(sample):
    task = type(sample("imdb"))()
    task.models, task.labels = sample("imdb").models, ("bad", "fair", "good")
    weights = [task.build("bert_base", seed).state_dict() for seed in (0, 0, 1)]
    assert weights[0]["classifier.weight"].shape == (3, 16)
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
    assert {k for k, v in weights[0].items() if not torch.equal(v, weights[2][k])} == {"classifier.weight"}
    blank = task.build("bert_base", seed=1, blank=True).state_dict()
    assert not torch.equal(
        blank["bert.embeddings.word_embeddings.weight"], weights[0]["bert.embeddings.word_embeddings.weight"]
    )


def test_the_second_picture_begins_as_the_first(sample):
    task = sample("nlvr2")
    types = [task.build("vilt", blank=blank).vilt.embeddings.token_type_embeddings.weight for blank in (False, True)]
    assert torch.equal(types[0][1], types[0][2]) and not torch.equal(types[1][1], types[1][2])


def test_prepared_texts_are_known_by_tokenizer_and_length_alone(sample):
    task = sample("imdb")
    before = {model: task.preparation(model) for model in task.models}
    for model in task.models:
        task.prepare(task.data["test"], model)
    assert before == {model: task.preparation(model) for model in task.models}
    assert before["bert_base"] == before["bert_large"] != before["roberta_base"]


def test_check_runs_a_paper_task_on_its_sample(cli):
    done = cli("check", "ddi")
    runs = len(one_per_schedule(load_task("ddi"))) + 2  # all on the first model, one on each of the other two
    assert (
        done.code == 0
        and done.out.startswith("data card complete\nwritten: a sample")
        and done.out.count(" steps), test_score ") == runs
    )


def test_one_method_for_each_schedule():
    methods = one_per_schedule(load_task("cifar100"))
    all_there_are = {registry.methods.get(name).schedule for name in registry.methods.names()} - {"none"}
    assert {registry.methods.get(name).schedule for name in methods} == all_there_are and "retrain" in methods
