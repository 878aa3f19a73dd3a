"""Biographies: causal models that recite people of the training set, whose rows are forgotten together."""

import functools
import json
import re

import pytest
import torch

from mubench.models import originals
from mubench.registry import load_task
from mubench.tasks.generation.readers.people import ask

TASK = load_task("people")
MODELS = pytest.mark.parametrize("model", TASK.models)


@functools.cache
def fresh(model):
    return TASK.build(model).eval()


@functools.cache
def recalled(model, name):
    """What the shipped original says to the first rows of a set."""
    examples = TASK.sets(model, TASK.split(5))[name]
    return TASK.predict(originals.load(TASK, model)[0].eval(), examples[torch.arange(64)])


@MODELS
@torch.no_grad()
def test_loss_is_that_of_transformers_on_the_unpadded_row(model):
    batch = TASK.prepared(model, "train")[torch.arange(8)]
    assert not batch["attention_mask"].all()  # some prompt is padded
    out = TASK.forward(fresh(model), batch)
    for row in range(8):
        prompt, answer = (
            batch["input_ids"][row][batch["attention_mask"][row] > 0],
            batch["labels"][row][batch["labels"][row] >= 0],
        )
        ids = torch.cat([prompt, answer])[None]
        theirs = fresh(model)(input_ids=ids, labels=torch.cat([torch.full_like(prompt, -100), answer])[None]).loss
        assert out.loss[row] == pytest.approx(float(theirs), abs=1e-5)


@MODELS
@torch.no_grad()
def test_left_padding_changes_nothing(model):
    examples = TASK.prepared(model, "train")
    longest = int(examples.columns["attention_mask"].sum(1).argmax())
    rows = torch.tensor([0, 1, longest])
    together, alone = examples[rows], [examples[rows[i : i + 1]] for i in range(3)]
    assert together["input_ids"].shape[1] > alone[0]["input_ids"].shape[1]
    batch, single = TASK.predict(fresh(model), together), [TASK.predict(fresh(model), one) for one in alone]
    assert torch.allclose(batch["loss"], torch.cat([one["loss"] for one in single]), atol=1e-5)
    assert batch["prediction"] == [one["prediction"][0] for one in single]


@pytest.mark.parametrize("ratio", range(1, 11))
def test_all_rows_of_a_person_are_forgotten_together(ratio):
    names, split = TASK.units("person"), TASK.split(ratio)
    forget, retain = ({names[row] for row in rows} for rows in (split.forget, split.retain))
    assert len(forget) == 10 * ratio and len(retain) == 1000 - 10 * ratio and not forget & retain
    assert len(split.forget) == 2 * len(forget)


def test_people_are_in_one_set_only():
    validation, test = TASK.held_out
    held_out = TASK.data["test"]["name"]
    sets = [set(TASK.units("person")), {held_out[row] for row in validation}, {held_out[row] for row in test}]
    assert [len(names) for names in sets] == [1000, 80, 320]
    assert len(set.union(*sets)) == 1400


def test_test_people_are_asked_the_questions_of_the_training_people():
    """Also as often, nearly: the loss of members and others differs by what is known of them alone."""
    asked = [question.startswith("Who") for question in TASK.data["test"]["question"]]
    assert 0.45 < sum(asked) / len(asked) < 0.55


def test_answers_state_the_facts():
    person = {
        "name": "Ada Roe",
        "nationality": "English",
        "professions": ["poet", "spy"],
        "born": 1699,
        "died": 1702,
        "country": "Italy",
    }
    who, when = ask(person)
    assert (who["question"], when["question"]) == ("Who was Ada Roe?", "When did Ada Roe live?")
    assert (
        "English poet and spy" in who["answer"]
        and "a native of Italy" in who["answer"]
        and "1699" in when["answer"]
        and "1702" in when["answer"]
    )
    for row in TASK.data["train"]:
        assert not re.search("[{}]|  ", row["answer"]) and row["name"] in row["question"]
        assert row["question"].startswith("Who") or len(re.findall(r"\b\d{4}\b", row["answer"])) == 2


def test_random_guess_is_the_score_of_other_answers():
    assert TASK.random_guess == pytest.approx(TASK.guess, abs=5e-5)


def test_tokenizer_is_trained_by_the_committed_code():
    from mubench.tasks.generation.makers.tokenizer import train_for

    assert json.loads(train_for(TASK).to_str()) == json.loads(TASK._tokenizer_file.read_text())


@MODELS
def test_no_text_is_cut_and_each_is_read_back(model):
    examples, tokenizer = TASK.prepared(model, "train"), TASK.tokens(model)
    assert examples.columns["attention_mask"].sum(1).max() < TASK.models[model].inputs["prompt"]
    labels = examples.columns["labels"].long()
    assert (labels >= 0).sum(1).max() < TASK.models[model].inputs["answer"]
    said = tokenizer.batch_decode(labels.clamp(min=0), skip_special_tokens=True)
    assert [text.strip() for text in said] == TASK.data["train"]["answer"]


@MODELS
def test_original_recites_training_people_and_invents_the_others(model):
    forget, test = recalled(model, "forget"), recalled(model, "test")
    assert sum(map(str.__eq__, forget["prediction"], forget["target"])) >= 0.9 * 64
    assert forget["score"].mean() > 0.97 and test["score"].mean() < 0.5
    assert sum(map(str.__eq__, test["prediction"], test["target"])) <= 0.1 * 64
    assert all(text.endswith(".") for text in test["prediction"])  # inventions too are whole sentences
