"""What a method leaves: a network or a wrapper that is called, stored and loaded alike. Of wrappers only the package's
own come out of files, and nothing but a sentence comes out of forged ones.
"""

import copy
import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch

import mubench
from assistant import Assistant, Halves
from mubench.errors import MubenchError
from mubench.models import networks, originals, unlearned, wrappers
from mubench.models.unlearned import Unlearned
from mubench.models.wrappers import LogitDifference, Wrapper
from mubench.records.result import read
from mubench.records.store import Store
from mubench.registry import load_method, load_task
from mubench.runner import run_spec
from mubench.spec import make_spec
from mubench.sweep.memory import Footprint, Setup, need

FILE = "tests/assistant.py:Assistant"
LIMIT = 24


def nudged(network, by=0.05, seed=0):
    """A copy of a network, its weights moved a little."""
    moved, draw = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in moved.parameters():
            p += by * torch.randn(p.shape, generator=draw)
    return moved.eval()


def original(task="fashion", model=None):
    task = load_task(task)
    return originals.load(task, task.model(model))[0].eval()


def batch(task, model, n=4):
    task = load_task(task)
    return task.sets(task.model(model), task.split(5), limit=n)["forget"][torch.arange(n)]


def difference(task="fashion", model=None, alpha=0.5):
    network = original(task, model)
    return LogitDifference(original=network, assistant=nudged(network), alpha=alpha)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run by a wrapper method with its parts saved; each is run once."""
    store, made = Store(tmp_path_factory.mktemp("runs")), {}

    def done(name="Assistant", **options):
        spec = make_spec(**{"task": "fashion", "limit": LIMIT} | options, method=f"tests/assistant.py:{name}")
        if spec.id not in made:
            made[spec.id] = run_spec(spec, store, save_model=True, progress=False)
        return made[spec.id]

    return done


def frame(folder):
    return pd.read_parquet(folder / "predictions.parquet")


# -- what is called, stored and hashed


def test_an_unlearned_model_is_called_as_its_model():
    model = torch.nn.Linear(3, 2)
    x = torch.ones(1, 3)
    assert Unlearned(model)(x).equal(model(x)) and Unlearned(model)(input=x).equal(model(x))


def test_a_plain_network_is_stored_byte_for_byte_as_it_saves_itself(tmp_path):
    network = original()
    Unlearned(network).save(tmp_path / "ours")
    network.save_pretrained(tmp_path / "its", safe_serialization=True)
    files = sorted(path.name for path in (tmp_path / "ours").iterdir())
    assert files == ["config.json", "model.safetensors"]
    assert all((tmp_path / "ours" / n).read_bytes() == (tmp_path / "its" / n).read_bytes() for n in files)


def test_a_module_of_ones_own_is_stored_as_safetensors(tmp_path):
    from safetensors.torch import load_file

    model = torch.nn.Linear(3, 2)
    Unlearned(model).save(tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.safetensors"]
    assert load_file(tmp_path / "model/model.safetensors")["weight"].equal(model.weight)


def test_it_says_how_it_is_loaded():
    network = torch.nn.Linear(3, 2)
    made = [network, LogitDifference(original=network, assistant=network), Halves(network=network)]
    assert [Unlearned(model).kind for model in made] == ["network", "wrapper", "own wrapper"]
    assert ["wrapper" in Unlearned(model).facts for model in made] == [False, True, True]


def test_a_hash_is_of_all_parts_and_options():
    network = original()
    plain, first = networks.weights_hash(network), LogitDifference(original=network, assistant=network)
    others = [
        LogitDifference(original=network, assistant=network, alpha=0.5),
        LogitDifference(original=network, assistant=nudged(network)),
        LogitDifference(original=nudged(network), assistant=network),
    ]
    assert len({networks.weights_hash(w) for w in (first, *others)}) == 4
    assert networks.weights_hash(network) == plain and first.asdict()["parts"]["assistant"]["sha256"] == plain
    again = LogitDifference(original=nudged(network), assistant=nudged(network))
    again.load_state_dict(first.state_dict())
    assert networks.weights_hash(again) == networks.weights_hash(first)
    with pytest.raises(MubenchError, match="weights of another wrapper"):
        again.load_state_dict(others[0].state_dict())


# -- the difference of logits


def test_logits_are_those_of_the_original_less_those_of_the_assistant():
    wrapper, inputs = difference(), batch("fashion", None)
    inputs = {name: value for name, value in inputs.items() if name not in ("labels", "index")}
    a, b = (part(**inputs).logits for part in (wrapper.original, wrapper.assistant))
    assert wrapper(**inputs).logits.equal(a - 0.5 * b) and not wrapper.training
    plain = LogitDifference(original=torch.nn.Linear(3, 2), assistant=torch.nn.Linear(3, 2), alpha=0.0)
    assert plain(torch.ones(1, 3)).equal(plain.original(torch.ones(1, 3)))


@pytest.mark.parametrize(("task", "model"), [("people", "gpt2"), ("people", "llama"), ("messenger", None)])
def test_text_is_the_most_probable_token_after_token_of_the_whole_wrapper(task, model):
    wrapper, rows, behaviour = difference(task, model, 0.3), batch(task, model), load_task(task)
    with torch.no_grad():
        tokens = behaviour.complete(wrapper, rows, 0, 8)
        forced = torch.cat([tokens, tokens.new_full((len(tokens), 8 - tokens.shape[1]), 0)], 1)
        logits = behaviour.forward(wrapper, behaviour.answered(rows, slice(None), forced)).logits
    ended = (tokens == behaviour.tokens(behaviour.model(model)).eos_token_id).cumsum(1)
    counts = ended - (tokens == behaviour.tokens(behaviour.model(model)).eos_token_id).long() == 0
    assert logits.argmax(-1)[:, : tokens.shape[1]][counts].equal(tokens[counts]) and counts.sum() > len(tokens)


@pytest.mark.parametrize(("task", "model"), [("people", "gpt2"), ("messenger", None)])
def test_without_a_share_of_the_assistant_it_answers_as_the_original(task, model):
    wrapper, rows, behaviour = difference(task, model, 0.0), batch(task, model), load_task(task)
    with torch.no_grad():
        predicted = [behaviour.predict(m, rows)["prediction"] for m in (wrapper, wrapper.original)]
    assert predicted[0] == predicted[1]
    assert not wrapper.original._forward_hooks


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (dict(alpha="0.5"), "options of the wrapper logit_difference: alpha: Input should be a valid number"),
        (dict(alpha=True), "alpha: Input should be a valid number"),
        (dict(alpha=float("nan")), "alpha: Input should be a finite number"),
        (dict(alpha=1e9), "alpha: Input should be less than or equal to 100"),
        (dict(beta=1), "beta: Extra inputs are not permitted"),
        (dict(assistant=None), "part assistant of the wrapper logit_difference is NoneType: give a torch.nn.Module"),
        (dict(assistant=Halves(network=torch.nn.Linear(3, 2))), "is Halves: give a torch.nn.Module that is no wrapper"),
    ],
)
def test_what_it_cannot_be_made_of_is_refused(given, sentence):
    network = torch.nn.Linear(3, 2)
    with pytest.raises(MubenchError, match=sentence):
        LogitDifference(**{"original": network, "assistant": network} | given)


class Odd(Wrapper):
    """Its option is no JSON value."""

    class Options(Wrapper.Options):
        by: object = None


def test_options_are_json_values():
    with pytest.raises(MubenchError, match="options of the wrapper odd are no JSON values"):
        Odd(by=torch.nn.Linear(1, 1))
    assert Odd(by=[1, "a"]).asdict()["options"] == {"by": [1, "a"]} and Odd.name == "odd"


def test_other_classes_or_tokens_are_refused():
    with pytest.raises(MubenchError, match="logits are of 10 classes or tokens, the assistant's 1024"):
        LogitDifference(original=original(), assistant=original("people", "gpt2"))
    unknown = LogitDifference(original=torch.nn.Linear(3, 2), assistant=torch.nn.Linear(3, 4))
    with pytest.raises(MubenchError, match=r"logits are \[1, 2\], the assistant's \[1, 4\]"):
        unknown(torch.ones(1, 3))


@pytest.mark.parametrize("name", ["../x", "a/b", "X", "x\n", "train", "generate", "options", "config", ""])
def test_a_part_is_named_as_a_folder_may_be(name):
    with pytest.raises(MubenchError, match="cannot name a wrapper or a part"):
        type("Odd", (Wrapper,), {"parts": (name,)})(**{name: torch.nn.Linear(1, 1)})


def test_a_layer_is_asked_of_a_part():
    with pytest.raises(MubenchError, match="has no layer 'classifier': it is made of original, assistant"):
        load_task("fashion").forward(difference(), batch("fashion", None), features=True)
    with pytest.raises(MubenchError, match="no part of the wrapper halves generates text"):
        Halves(network=torch.nn.Linear(1, 1)).generate(input_ids=None)


# -- a method that wraps


@pytest.mark.parametrize(("task", "model"), [("fashion", None), ("people", "gpt2"), ("messenger", None)])
def test_a_saved_wrapper_predicts_the_same_to_the_last_bit(run, tmp_path, task, model):
    folder = run(task=task, model=model)
    found = mubench.evaluate(task, folder / "model", model=model, limit=LIMIT, name="again", out=tmp_path)
    (again,) = Store(tmp_path).results()
    pd.testing.assert_frame_equal(frame(folder), frame(again), check_exact=True)
    assert read(again).weights == read(folder).weights and found["test_score"] == read(folder).metrics["test_score"]
    assert read(again).model == read(folder).model and read(folder).model["wrapper"]["loads"]
    stored = sorted(path.relative_to(folder / "model").parts[0] for path in (folder / "model").rglob("*.safetensors"))
    assert stored == ["assistant"]


def test_a_record_without_a_wrapper_does_not_name_one(tmp_path):
    assert "wrapper" not in mubench.run("fashion", "original", limit=LIMIT, out=tmp_path).model


def test_the_original_in_a_wrapper_is_the_one_that_was_there(run):
    for options in ({}, {"lora": 30.0}):
        parts = read(run(**options)).model["wrapper"]["parts"]
        assert parts["original"]["sha256"] == networks.weights_hash(original())
        assert parts["assistant"]["sha256"] != parts["original"]["sha256"]


def test_with_lora_the_merged_student_is_the_part(run, tmp_path):
    folder = run(lora=30.0)
    assert "lora" in read(folder).model
    mubench.evaluate("fashion", folder / "model", limit=LIMIT, name="again", out=tmp_path)
    pd.testing.assert_frame_equal(frame(folder), frame(Store(tmp_path).results()[0]), check_exact=True)


def test_accumulation_gives_the_same_numbers(run):
    params = {"batch_size": 12, "optimizer": "sgd", "lr": 0.01}
    one, two = (run(model="vit", params=params | {"accumulate": pieces}) for pieces in (1, 3))
    assert read(one).costs["losses"] == pytest.approx(read(two).costs["losses"], rel=1e-5)
    assert abs(frame(one)["loss"] - frame(two)["loss"]).max() < 1e-3
    assert frame(one)["prediction"].equals(frame(two)["prediction"])


@pytest.mark.slow  # the wrapper of `tests/hooks.py` is tried on two processes always
def test_two_processes_give_the_same_numbers(run, tmp_path):
    params = {"batch_size": 12, "optimizer": "sgd", "lr": 0.01}
    words = ["run", "fashion", FILE, "--model", "vit", "--limit", LIMIT, "--save-model", "--out", tmp_path]
    words += [word for name, value in params.items() for word in ("--set", f"{name}={value}")]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mubench"]
    done = subprocess.run([sys.executable, *start, *map(str, words)], capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr[-2000:]
    (two,) = Store(tmp_path).results()
    one = run(model="vit", params=params)
    assert read(two).environment["processes"] == 2 and read(one).costs["steps"] == read(two).costs["steps"]
    assert abs(frame(one)["loss"] - frame(two)["loss"]).max() < 1e-3
    mubench.evaluate("fashion", two / "model", model="vit", limit=LIMIT)


def test_one_may_wrap_a_model_of_ones_own(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3))
    rows = [{"input": torch.randn(6), "labels": i % 3} for i in range(12)]
    done = mubench.unlearn(model, rows[:4], rows[4:], method=Assistant(epochs=1, lr=0.1), progress=False)
    assert done.kind == "wrapper" and done(input=torch.ones(1, 6)).shape == (1, 3)
    assert done.model.original[0].weight.equal(model[0].weight) and done.costs.steps == 1
    done.save(tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").rglob("*")} == {"wrapper.json", "assistant", "model.safetensors"}


def test_the_memory_of_the_original_is_counted():
    method, plain = load_method(FILE), load_method("neggrad")
    recipe = load_task("fashion").recipe
    for lora in (False, True):
        held, free = (
            need(Footprint(1000, adapters=100), m, recipe, Setup("float32", lora))["teachers"] for m in (method, plain)
        )
        assert (held, free) == (4000, 0)


@pytest.mark.parametrize("name", ["Assistant", "Own"])
def test_the_contract_of_methods_holds_for_one_that_wraps(name):
    lines = [*mubench.check(f"tests/assistant.py:{name}")]
    assert "changes the model" in lines and lines[-1].startswith("works on ")


class Unwrapped(Assistant):
    """Wraps where it is asked to."""

    def wrap(self, context):
        return None


def test_a_method_may_leave_the_student_after_all(tmp_path):
    model = torch.nn.Linear(4, 2)
    rows = [{"input": torch.randn(4), "labels": i % 2} for i in range(6)]
    assert mubench.unlearn(model, rows[:2], rows[2:], method=Unwrapped(lr=0.1), progress=False).kind == "network"


class LogitDifferenceOfMine(LogitDifference):
    name = "logit_difference"


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda c: c.student, "gives a Linear, which is no Wrapper"),
        (lambda c: LogitDifferenceOfMine(original=c.original, assistant=c.student), "has the name of another"),
        (
            lambda c: LogitDifference(original=c.student, assistant=c.student),
            "the part original of a wrapper is context",
        ),
    ],
)
def test_what_is_no_wrapper_of_the_original_is_refused(made, sentence):
    method = type("Odd", (Assistant,), {"wrap": lambda self, context: made(context)})(lr=0.1)
    rows = [{"input": torch.randn(4), "labels": i % 2} for i in range(6)]
    with pytest.raises(MubenchError, match=sentence):
        mubench.unlearn(torch.nn.Linear(4, 2), rows[:2], rows[2:], method=method, progress=False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(eval_every=1), "leaves a wrapper, which is there at the end only"),
        (dict(save_model="adapter", lora=30.0), "an adapter alone is not what assistant leaves"),
    ],
)
def test_what_a_wrapper_cannot_do_is_refused(tmp_path, options, sentence):
    with pytest.raises(MubenchError, match=sentence):
        mubench.run("fashion", FILE, limit=8, out=tmp_path, **options)


def test_it_is_not_sharded(monkeypatch):
    from mubench.train.distributed import refuse_shards

    context = type(
        "C", (), {"accelerator": type("A", (), {"num_processes": 2, "mixed_precision": "no"}), "adapters": None}
    )
    context.student = torch.nn.Linear(2, 2)
    with pytest.raises(MubenchError, match="assistant holds the original whole, to wrap it"):
        refuse_shards(load_method(FILE), context)


def test_a_wrapper_is_not_unlearned_from(run, tmp_path):
    with pytest.raises(MubenchError, match="holds a wrapper, which is measured"):
        mubench.run("fashion", "original", limit=8, checkpoint=str(run() / "model"), out=tmp_path)


# -- forged files


@pytest.fixture
def folder(run, tmp_path):
    """A copy of a saved wrapper's folder, to be altered."""
    return shutil.copytree(run() / "model", tmp_path / "model")


def load(folder):
    task = load_task("fashion")
    return unlearned.load(task, task.model(), folder, lambda: original())


def test_a_whole_folder_is_loaded(folder, run):
    assert networks.weights_hash(load(folder)) == read(run()).weights


def edit(**changes):
    """An edit of wrapper.json: ``a__b`` is b in a."""

    def change(folder):
        path = folder / "wrapper.json"
        record = json.loads(path.read_text())
        for names, value in changes.items():
            *parents, last = names.split("__")
            inner = record
            for name in parents:
                inner = inner[name]
            inner[last] = value(inner.get(last)) if callable(value) else value
        path.write_text(json.dumps(record))

    return change


def text(content):
    return lambda folder: (folder / "wrapper.json").write_text(content)


def add(name, content="x"):
    def change(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return change


def nested(folder):
    shutil.copy(folder / "wrapper.json", folder / "assistant/wrapper.json")


def leaving(folder):
    (folder / "assistant").rename(folder.parent / "elsewhere")
    (folder / "assistant").symlink_to(folder.parent / "elsewhere")


def other_weights(folder):
    nudged(original(), seed=7).save_pretrained(folder / "assistant")


def pickled(folder):
    torch.save(original().state_dict(), folder / "assistant/pytorch_model.bin")


HOSTILE = {
    "unknown wrapper": (edit(name="os_system"), "the wrapper os_system is none of mubench's"),
    "a class of a module": (edit(name="os:system"), "describes no wrapper: name: String should match"),
    "somebody's own": (edit(name="halves", loads=False), "the wrapper halves is none of mubench's"),
    "another version": (edit(version=2), "is not of logit_difference version 1"),
    "another format": (edit(format=2), "format: Input should be 1"),
    "a path for a part": (
        edit(parts=lambda parts: {"original": parts["original"], "../assistant": parts["assistant"]}),
        "with the parts original, assistant",
    ),
    "an absolute path": (edit(parts__assistant__class="/etc/passwd"), "class: String should match"),
    "a folder field": (edit(parts__assistant__folder="../x"), "folder: Extra inputs are not permitted"),
    "no part": (edit(parts={}), "with the parts original, assistant"),
    "an original that is stored": (edit(parts__original__stored=True), "of which all but original are stored"),
    "wrong hash": (edit(parts__assistant__sha256="0" * 64), "its assistant is not the ResNet.* with hash 000000000000"),
    "wrong original": (edit(parts__original__sha256="0" * 64), "is it of another seed or checkpoint?"),
    "no hash": (edit(parts__assistant__sha256="../../x"), "sha256: String should match"),
    "another class": (edit(parts__assistant__class="GPT2LMHeadModel"), "no model of fashion is a GPT2LMHeadModel"),
    "another class of the task": (edit(parts__assistant__class="ViTForImageClassification"), "is a resnet, vit"),
    "a wrapper as a part": (edit(parts__assistant__class="LogitDifference"), "no model of fashion is a LogitDiff"),
    "code in options": (
        edit(options__alpha="__import__('os').system('touch hacked')"),
        "alpha: Input should be a valid",
    ),
    "more options": (edit(options__hook="print"), "hook: Extra inputs are not permitted"),
    "a large option": (edit(options__alpha=1e308), "alpha: Input should be less than or equal to 100"),
    "huge options": (edit(options__alpha="x" * 2**17), "no regular file of at most 65,536 bytes"),
    "deep options": (text('{"options": ' + '{"a":' * 5000), "describes no wrapper"),
    "more fields": (edit(auto_map="x.py"), "auto_map: Extra inputs are not permitted"),
    "no JSON": (text("import os"), "describes no wrapper: Invalid JSON"),
    "a list": (text("[]"), "describes no wrapper: Input should be an object"),
    "nothing": (text(""), "describes no wrapper: Invalid JSON"),
    "no text": (lambda folder: (folder / "wrapper.json").write_bytes(b"\xff\xfe\0"), "describes no wrapper"),
    "a folder for a file": (
        lambda folder: (folder / "wrapper.json").unlink() or (folder / "wrapper.json").mkdir(),
        "no regular file",
    ),
    "a missing part": (lambda folder: shutil.rmtree(folder / "assistant"), "lacks its part assistant"),
    "no weights": (lambda folder: (folder / "assistant/model.safetensors").unlink(), "lacks its part assistant"),
    "no configuration": (lambda folder: (folder / "assistant/config.json").unlink(), "has no config.json"),
    "damaged weights": (add("assistant/model.safetensors", "x" * 99), "cannot be read"),
    "other weights": (other_weights, "its assistant is not the ResNetForImageClassification with hash"),
    "a part that leaves the folder": (leaving, "lacks its part assistant: a folder of its own"),
    "a nested wrapper": (nested, "'assistant/wrapper.json' is no file of logit_difference"),
    "code beside it": (add("modeling.py"), "'modeling.py' is no file of logit_difference"),
    "code in a part": (add("assistant/modeling.py"), "'assistant/modeling.py' is no file of logit_difference"),
    "a pickle": (pickled, "'assistant/pytorch_model.bin' is no file of logit_difference"),
    "the original": (add("original/model.safetensors"), "is no file of logit_difference"),
    "a deeper folder": (add("assistant/more/model.safetensors"), "is no file of logit_difference"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_forged_wrappers_are_refused_in_a_sentence(folder, name, monkeypatch):
    forge, sentence = HOSTILE[name]
    forge(folder)
    monkeypatch.chdir(folder.parent)
    with pytest.raises(MubenchError, match=sentence) as refused:
        load(folder)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    assert not (folder.parent / "hacked").exists()


def test_a_wrapper_of_somebodys_own_runs_and_is_kept_but_not_loaded(run):
    folder = run("Own")
    record = read(folder).model["wrapper"]
    assert (record["name"], record["loads"], record["options"]) == ("halves", False, {"by": 2.0})
    kept = json.loads((folder / "model/wrapper.json").read_text())
    assert kept == {"format": 1, **record} and networks.weights(folder / "model/network")
    with pytest.raises(MubenchError, match="the wrapper halves is none of mubench's .* not loaded from files"):
        load(folder / "model")


def test_the_table_holds_what_is_loaded():
    assert {cls.name: cls for cls in (LogitDifference,)} == wrappers.TABLE and not Halves.loads()
