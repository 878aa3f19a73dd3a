"""No step makes the host wait for a GPU: counted on a stand-in, or on a GPU where there is one."""

import dataclasses
import functools
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from mubench.examples import Examples
from mubench.models.behaviour import Behaviour
from mubench.registry import load_method, load_task, tasks
from mubench.spec import Budget
from mubench.train.context import Context
from mubench.train.engine import Engine
from mubench.train.loader import _made_there, batches
from mubench.train.recipe import Recipe
from synchronisations import DEVICE, META, noted, of_steps

CPU = torch.device("cpu")
MINI = sorted(name for name in tasks.names() if tasks.get(name).tier == "mini")
METHODS = [
    *(
        "finetune",
        "l1_sparse",
        "neggrad",
        "neggrad_plus",
        "amnesiac",
        "rand_label",
        "scrub",
        "bad_t",
        "salun",
        "delete",
    ),
    *("npo", "sim_npo", "undial", "rmu", "boundary_shrink", "eul", "deletion_operator", "task_vector"),
    pytest.param("laf", marks=pytest.mark.slow),
]
# What models of `transformers` wait for in files of their own, in each forward pass.
LIBRARIES = {
    "bert": "masking_utils.py",  # whether a text is padded
    "gpt2": "masking_utils.py",
    "llama": "masking_utils.py",
    "t5": "",  # the same, and the constants of relative positions
    "videomae": "modeling_videomae.py",  # copies the embeddings of positions
}
STEPS = 6


class OnDevice(Accelerator):
    """Of a device that this machine does not have."""

    device = DEVICE


def asked(n=24, size=4):
    return [(None, positions) for positions in torch.randperm(n).split(size)]


@pytest.fixture(scope="module", params=MINI)
def prepared(request):
    """A mini task and its training set."""
    task = load_task(request.param)
    return task, task.prepared(task.model(), "train").select(torch.arange(64).flip(0))


@pytest.mark.parametrize("held", [True, False])
def test_batches_are_made_on_the_device_without_a_wait(prepared, held, monkeypatch):
    task, view = prepared
    if not held:
        monkeypatch.setattr(type(view.columns), "on", lambda *_: {})
    wanted = asked()
    given = batches({None: view}, wanted, DEVICE)
    made = [task.drawn(next(given), seed=1)]  # constants are there now
    with noted() as found:
        made += [task.drawn(batch, seed=1) for batch in given]
    assert found == []
    for batch, (_, positions) in zip(made, wanted, strict=True):
        plain = task.drawn(view[positions], seed=1)
        assert batch.pop("index").equal(plain.pop("index"))
        assert described([batch]) == described([plain])
        assert {values.device.type for values in batch.values()} == {DEVICE.type}


def described(batches):
    return [{name: (values.shape, values.dtype) for name, values in batch.items()} for batch in batches]


def test_what_is_made_there_has_the_same_bits(prepared):
    _, view = prepared
    both, wanted = view + view.select(torch.arange(8)), asked()
    for examples in (view, both):
        for batch, (_, positions) in zip(_made_there({None: examples}, wanted, CPU), wanted, strict=True):
            plain = examples[positions]
            assert {*batch} == {*plain} and all(batch[name].equal(plain[name]) for name in plain)


@pytest.mark.parametrize("name", ["ucf101", "speech_commands"])
def test_rows_that_are_decoded_are_made_ready_on_the_device(name, tmp_path):
    task = load_task(name).sample(tmp_path)
    view, wanted = task.prepared(task.model(), "train"), asked(8)
    given = batches({None: view}, wanted, DEVICE)
    made = [next(given)]
    with noted() as found:
        made += given
    assert found == [] and described(made) == described([view[positions] for _, positions in wanted])


def test_a_set_is_copied_once_for_all_its_views_and_only_where_there_is_room(monkeypatch):
    train = Examples(COLUMNS, resident=("x", "labels"))
    columns = train.columns
    forget, retain = train.select(torch.arange(8)), train.select(torch.arange(8, 16))
    held = [view.held(META) for view in (forget, retain, forget + retain)]
    assert {*held[0]} == {"x", "labels"} and all(one is held[0] for one in held)
    assert (forget + retain).columns is columns
    room = 20 * sum(columns[name].nbytes for name in held[0])
    for free, kept in ((room, 2), (room - 20, 0)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2 * free))
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
        assert len(type(columns)(columns).on(torch.device("cuda"), train.resident)) == kept
        monkeypatch.undo()


COLUMNS = {"x": torch.arange(1920.0).sin().view(96, 20), "labels": torch.arange(96) % 3}


class Network(torch.nn.Module):
    def __init__(self):
        layers = [torch.nn.Linear(20, 8), torch.nn.Linear(8, 8), torch.nn.Dropout(0.1)]
        super().__init__()
        self.layers, self.classifier = torch.nn.ModuleList(layers), torch.nn.Linear(8, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return self.classifier(x)


class Classes(Behaviour):
    num_labels = 3


def waits(task, view, build, model, method):
    """What waits in each of the steps of a run after the first two."""
    method, network = load_method(method), build().to(DEVICE)
    sets = [view.select(torch.arange(start, start + 32)) for start in (0, 32, 64)]
    given = dict(accelerator=OnDevice(cpu=DEVICE == META), model_name=model, validation=sets[2])
    context = Context(task, network, build, *sets[:2], **given)
    start = getattr(task, "recipe", Recipe(lr=0.1, epochs=1, batch_size=4))
    recipe = dataclasses.replace(method.recipe(start), batch_size=4, forget_batch_size=4, epochs=1)
    with of_steps() as found:
        Engine(method, context, recipe, Budget(steps=STEPS), progress=False).run()
    assert len(found) >= STEPS
    library = LIBRARIES.get(model)
    return [[w for w in step if library is None or library not in w.split(", of ")[-1]] for step in found[-STEPS + 2 :]]


@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_device(method):
    view = Examples(COLUMNS, resident=("x", "labels"))
    assert waits(Classes(), view, Network, None, method) == [[]] * (STEPS - 2)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["finetune", "npo"])
@pytest.mark.parametrize("name, model", [(name, model) for name in MINI for model in tasks.get(name).models])
def test_no_step_of_any_model_waits_for_the_device(name, model, method):
    if model == "vilt" and DEVICE == META:
        pytest.skip("transformers' ViLT chooses patches by their values, which the stand-in has not")
    task = load_task(name)
    build = functools.partial(task.build, model)
    assert waits(task, task.prepared(model, "train"), build, model, method) == [[]] * (STEPS - 2)


@pytest.mark.slow
def test_the_benchmark_for_a_gpu_measures_all_parts(tmp_path):
    script = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
    words = [sys.executable, str(script), "--device", "cpu", "--small", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert not done.returncode and found["left_out"] == []
    assert {row["what"] for row in found["rows"]} >= {
        "engine",
        "bare loop",
        "bare loop, compiled",
        "JPEG files, decoded",
    }
    assert all(row["middle"] > 0 for row in found["rows"] if row["unit"] != "waits a step")
    assert (tmp_path / "gpu.md").read_text().count("|") > 8 * len(found["rows"])


def test_the_benchmark_says_what_it_left_out(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    gpu = importlib.import_module("gpu")
    bench = gpu.Bench(CPU, False, tmp_path, seconds=5)

    def late():
        bench.end = 0
        yield from bench.alternating({"a step": lambda: 1.0})
        raise TimeoutError("the time was over")

    bench.part("first", 1, late)
    bench.part("second", 1, late)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["left_out"] == ["first (TimeoutError: the time was over)", "second"]
