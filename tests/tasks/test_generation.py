"""Text generation: losses are the library's own, answers are texts; the grammar behind `messenger` writes what it
promises.
"""

import itertools
import json
import re
import subprocess
import sys

import pyarrow.parquet
import pytest
import torch

from mubench.errors import MubenchError
from mubench.registry import load_method, load_task
from mubench.tasks.base import Model
from mubench.tasks.generation import TextGeneration
from mubench.tasks.generation.readers import messenger
from mubench.train.recipe import Recipe

SMALL = dict(vocab_size=700, pad_token_id=0, eos_token_id=1)


class Toy(TextGeneration):
    """Forty shopping lists of different lengths, for an encoder–decoder and a causal model."""

    name, source, licence = "toy", "this test", "Apache-2.0"
    prompt, answer = "{said}", "{done}"
    recipe = Recipe(lr=1e-2, epochs=2, batch_size=8)
    models = {
        "t5": Model(
            "T5ForConditionalGeneration",
            SMALL
            | dict(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0, decoder_start_token_id=0),
            inputs=dict(prompt=48, answer=16),
        ),
        "gpt2": Model(
            "GPT2LMHeadModel",
            SMALL
            | dict(
                n_embd=16,
                n_layer=1,
                n_head=2,
                n_positions=64,
                bos_token_id=1,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                initializer_range=0.5,
            ),
            inputs=dict(prompt=48, answer=16),
        ),
    }

    def read(self):
        import datasets

        rows = [
            {"said": "Ann: buy" + " milk" * (i % 5 + 1) + f" {i}", "done": "Ann needs" + " tea" * (i % 3) + f" {i}."}
            for i in range(40)
        ]
        return datasets.DatasetDict(
            train=datasets.Dataset.from_list(rows[:30]), test=datasets.Dataset.from_list(rows[30:])
        )


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    from mubench.tasks.generation.makers.tokenizer import train_for

    task = Toy()
    file = tmp_path_factory.mktemp("toy") / "tokenizer.json"
    train_for(task).save(str(file))
    task.tokenizer = str(file)
    return task


@pytest.mark.parametrize("model", Toy.models)
def test_loss_of_each_example_is_what_the_library_says_of_it_alone(toy, model):
    network, batch = toy.build(model).eval(), toy.sets(model, toy.split(10))["test"][torch.arange(4)]
    found = toy.forward(network, batch)
    for i in range(4):
        prompt = batch["input_ids"][i][batch["attention_mask"][i] > 0]
        answer = batch["labels"][i][batch["labels"][i] >= 0]
        if model == "t5":
            alone = network(input_ids=prompt[None], labels=answer[None]).loss
        else:
            alone = network(torch.cat([prompt, answer])[None], labels=torch.cat([prompt * 0 - 100, answer])[None]).loss
        assert found.loss[i].item() == pytest.approx(alone.item(), rel=1e-4)
        assert answer[-1] == 1  # the end counts too


@pytest.mark.parametrize("model", Toy.models)
def test_padding_changes_nothing(toy, model):
    """An example in a wide batch has the outputs, features and divergences it has alone."""
    network, other = toy.build(model).eval(), toy.build(model, seed=1).eval()
    test = toy.sets(model, toy.split(10))["test"]
    wide = [toy.forward(n, test[torch.arange(8)], features=True) for n in (network, other)]
    for i in range(8):
        narrow = [toy.forward(n, test[torch.tensor([i])], features=True) for n in (network, other)]
        assert torch.allclose(narrow[0].features[0], wide[0].features[i], atol=1e-5)
        assert toy.divergence(*narrow)[0].item() == pytest.approx(toy.divergence(*wide)[i].item(), rel=1e-4)
    assert toy.divergence(*wide).min() > 0.01 and toy.divergence(wide[0], wide[0]).abs().max() < 1e-6


def test_wrong_answers_are_those_of_other_examples(toy):
    sets = toy.sets("t5", toy.split(10))
    batch, retain = sets["forget"][torch.arange(3)], sets["retain"]
    wrong = toy.corrupt(batch, torch.tensor([0, 2]), torch.tensor([0.0, 0.999]), retain)
    texts = toy.tokens("t5").batch_decode(wrong["labels"].clamp(min=0), skip_special_tokens=True)
    rows = toy.data["train"]["done"]
    assert texts == [rows[int(row)] for row in (retain.rows[0], sets["forget"].rows[1], retain.rows[-1])]


@pytest.mark.parametrize("model", Toy.models)
def test_predictions_are_the_most_probable_token_after_token(toy, model):
    """Generating a batch, with a cache, says what forward passes of one example, without one, say step by step."""
    network, view = toy.build(model).eval(), toy.sets(model, toy.split(10))["test"]
    columns, tokenizer = toy.predict(network, view[torch.arange(4)]), toy.tokens(model)
    assert columns["target"] == [toy.data["test"]["done"][row] for row in view.rows[:4].tolist()]
    assert columns["score"].dtype == torch.float64
    for i, prediction in enumerate(columns["prediction"]):
        said = []
        while len(said) < toy.models[model].inputs["answer"] and tokenizer.eos_token_id not in said:
            batch = toy.answered(view[torch.tensor([i])], slice(None), torch.tensor([[*said, 2]]))
            said.append(toy.forward(network, batch).logits[0, len(said)].argmax().item())
        assert prediction == tokenizer.decode(said, skip_special_tokens=True)


@pytest.mark.parametrize("model, method", itertools.product(Toy.models, ("bad_t", "scrub", "salun")))
def test_methods_with_teachers_and_wrong_answers_run(toy, model, method):
    import functools

    from mubench.train.context import Context
    from mubench.train.engine import Engine

    sets, method = toy.sets(model, toy.split(10)), load_method(method)
    context = Context(toy, toy.build(model), functools.partial(toy.build, model), sets["forget"], sets["retain"])
    costs = Engine(method, context, method.recipe(toy.recipe), progress=False).run()
    assert costs.steps and all(torch.isfinite(torch.tensor(costs.losses)))


# -- messenger ---------------------------------------------------------------------------------------------------------

NAMES = {name for names in messenger.PEOPLE.values() for name in names}


@pytest.fixture(scope="module")
def rows():
    return {part: list(rows) for part, rows in load_task("messenger").data.items()}


def test_no_dialogue_is_there_twice(rows):
    dialogues = [row["dialogue"] for part in rows.values() for row in part]
    assert len(dialogues) == len(set(dialogues)) == 2450
    assert {row["scene"] for row in rows["train"]} == {row["scene"] for row in rows["test"]} == set(messenger.SCENES)
    assert not {row["scene"] for row in rows["transfer"]} & set(messenger.SCENES)


def test_a_summary_says_nothing_that_its_dialogue_does_not(rows):
    """Names, facts and numbers of the summary are in the dialogue; every one of the grammar's facts is used
    somewhere.
    """
    facts = {fact for values in messenger.FACTS.values() for fact in values.split("|")}
    used = set()
    for row in (row for part in rows.values() for row in part):
        said = row["dialogue"].lower()
        assert {word for word in re.findall(r"\w+", row["summary"]) if word in NAMES} <= set(
            re.findall(r"\w+", row["dialogue"])
        )
        mine = {fact for fact in facts if re.search(rf"\b{fact}\b", row["summary"])}
        assert len(mine) >= 2 and all(fact.lower() in said for fact in mine)
        used |= mine
    assert used == facts


def test_pronouns_agree_with_names(rows):
    """Each "she" or "he" of a summary has a person of that kind in it."""
    for row in (row for part in rows.values() for row in part):
        there = {
            they for they, names in messenger.PEOPLE.items() if set(re.findall(r"\w+", row["summary"])) & set(names)
        }
        for they, them in messenger.THEM.items():
            assert they in there or not {they, them} & set(re.findall(r"\w+", row["summary"]))


def test_sentences_are_well_formed(rows):
    """Nothing of a template is left; turns begin with a speaker, sentences with a capital, and both end as they
    should.
    """
    for row in (row for part in rows.values() for row in part):
        turns = row["dialogue"].split("\n")
        speakers = [turn.split(": ")[0] for turn in turns]
        assert (
            set(speakers) <= NAMES and len(set(speakers)) == 2 and all(a != b for a, b in itertools.pairwise(speakers))
        )
        for text in (*(turn.split(": ", 1)[1] for turn in turns), row["summary"]):
            assert re.fullmatch(r"([A-Z0-9][^.?!\[\]{}|]*[.?!] )*[A-Z0-9][^.?!\[\]{}|]*[.?!]", text), text
            assert "  " not in text


def test_every_choice_of_the_grammar_is_made(rows):
    """All wordings of summaries are in use."""
    said = " ".join(row["summary"] for row in rows["train"])
    for choice in (found for _, template in messenger.SCENES.values() for found in messenger.CHOICE.findall(template)):
        assert all(re.search(re.sub("{.*?}", ".*", words), said) for words in choice.split("|"))


def test_a_summary_cannot_be_told_from_the_wording_of_its_dialogue(rows):
    """Of dialogues alike but for their facts, some have one wording and some the other."""
    seen = {}
    for row in rows["train"]:
        if row["scene"] == "sale":
            said = re.findall(r"How much|What do you want|am selling|want to sell|OK|Fine|Deal", row["dialogue"])
            seen.setdefault(tuple(said), set()).add("is buying" in row["summary"])
    assert all(len(kinds) == 2 for kinds in seen.values())


def test_grammar_is_the_same_in_every_process(rows):
    module = "mubench.tasks.generation.readers.messenger"
    code = f"from {module} import SCENES, make_dialogues; print(make_dialogues('messenger', SCENES, 50))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(done.stdout) == rows["train"][:50]


def test_tokenizer_is_trained_by_the_committed_code_and_reads_back_what_it_writes(rows):
    from mubench.tasks.generation.makers.tokenizer import train_for

    task = load_task("messenger")
    assert train_for(task).to_str(pretty=True) == task._tokenizer_file.read_text()
    tokenizer = task.tokens("t5")
    for text in [*(row[c] for row in rows["test"] for c in ("dialogue", "summary")), "naïve 😀\nZdzisław: tomorrow?"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_nothing_is_cut_off(rows):
    for name, model in (task := load_task("messenger")).models.items():
        tokens = task.tokens(name)
        for part in rows.values():
            assert (
                max(len(ids) for ids in tokens([row["dialogue"] for row in part])["input_ids"])
                <= model.inputs["prompt"]
            )
            assert (
                max(len(ids) for ids in tokens([row["summary"] for row in part])["input_ids"]) < model.inputs["answer"]
            )


def test_random_guess_is_the_score_of_another_summary():
    task = load_task("messenger")
    assert task.random_guess == pytest.approx(task.guess, abs=5e-5)


# -- samsum ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def samsum(tmp_path, monkeypatch):
    """The task reading its sample as a user's folder, whatever the number of rows, and that folder."""
    task, folder = load_task("samsum"), tmp_path / "samsum"
    folder.mkdir()
    task.write_sample(folder)
    task.rows = {}
    monkeypatch.setenv("MUBENCH_DATA", str(tmp_path))
    return task, folder


def test_samsum_from_the_hub_has_the_rows_of_the_archive(samsum, monkeypatch):
    """Its copies there are tables, with None for an empty text and line ends of their own."""
    import datasets

    from mubench.tasks.base import rows_checksum

    task, folder = samsum
    here = {name: rows_checksum(rows) for name, rows in task.data.items()}
    files = {"train": "train.json", "validation": "val.json", "test": "test.json"}
    theirs = {
        name: [
            {c: v.replace("\r\n", "\n") or None for c, v in row.items()}
            for row in json.loads((folder / file).read_text())
        ]
        for name, file in files.items()
    }
    articles = pyarrow.parquet.read_table(folder / "xsum-test.parquet").to_pylist()

    def load(repo, config=None, revision=None, data_files=None):
        assert len(revision) == 40  # pinned
        asked.append((repo, data_files))
        parts = theirs if repo == "knkarthick/samsum" else {"test": articles}
        return datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in parts.items()})

    asked, there = [], load_task("samsum")
    there.rows = {}
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.delenv("MUBENCH_DATA")
    assert {name: rows_checksum(rows) for name, rows in there.data.items()} == here
    assert asked == [
        ("knkarthick/samsum", None),
        ("EdinburghNLP/xsum", {"test": "default/xsum-test.parquet"}),
    ]  # not 300 MB to train on


def test_samsum_keeps_rows_with_an_empty_dialogue_and_its_prompt_says_what_to_do(samsum):
    task, _ = samsum
    assert (
        task.data["train"]["dialogue"][0] == ""
        and "\n" in task.data["train"]["dialogue"][1]
        and "\r" not in task.data["train"]["dialogue"][1]
    )
    assert [len(task.data[name]) for name in ("train", "validation", "test", "transfer")] == [60, 10, 20, 20]
    assert task.prompt.format(**task.data["train"][0]) == "summarize: " and 0 < task.random_guess < 1
    assert load_task("samsum").random_guess is None


@pytest.mark.parametrize(
    "content, sentence",
    [
        ('[{"id": "1", "dialogue": "a: b"', "test.json is no list of dialogues"),
        ('[{"id": "1", "summary": "b"}]', "KeyError: 'dialogue'"),
        ("", "test.json is empty"),
        ("[]", "the test set of samsum has 0 rows where the published one has 819"),
    ],
)
def test_a_damaged_samsum_is_refused_by_name(samsum, content, sentence):
    task, folder = samsum
    (folder / "test.json").write_text(content)
    task.rows = {"test": 819}
    with pytest.raises(MubenchError, match=re.escape(sentence)):
        task.data["train"]


def test_samsum_that_is_not_at_hand_says_where_it_is(tmp_path, monkeypatch, cli):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setenv("MUBENCH_DATA", "")  # put back afterwards
    done = cli("split", "samsum", "--data-dir", tmp_path)
    assert done.code == 1 and all(
        part in done.err for part in ("arxiv.org/src/1911.12237v2/anc/corpus.7z", "knkarthick/samsum", str(tmp_path))
    )
