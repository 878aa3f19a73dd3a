"""Nothing is done twice, nothing is loaded before it is needed, and what lies in the cache is never believed unseen."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mubench as mu
from mubench import cache
from mubench.cache import cached_json, cached_tensors, content_key, file_hash
from mubench.importing import importing
from mubench.job import task_of
from mubench.measure.metrics import arrays, primary
from mubench.models import networks
from mubench.records.store import Store
from mubench.registry import load_task
from mubench.spec import make_spec
from mubench.sweep.grid import sweep
from mubench.tasks.contract import sets as contract
from mubench.tasks.image.fashion import Fashion

# What is loaded when a run begins its evaluation, and when it is over.
WATCHED = """
import json, sys
from mubench.cli import main
from mubench.measure.probes.evaluate import Evaluate
ran, seen = Evaluate.run, []

def run(self, job):
    seen.append(sorted({module.partition(".")[0] for module in sys.modules}))
    yield from ran(self, job)

Evaluate.run = run
main(sys.argv[1:])
print(json.dumps([*seen, sorted({module.partition(".")[0] for module in sys.modules})]))
"""


def counted(monkeypatch, owner, name):
    """What a function is called with from here on, a list that grows."""
    calls, function = [], getattr(owner, name)

    def counting(*given, **options):
        calls.append(given)
        return function(*given, **options)

    monkeypatch.setattr(owner, name, counting)
    return calls


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache, and no task of earlier tests."""
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    task_of.cache_clear()
    yield tmp_path / "cache"
    task_of.cache_clear()


# -- start -------------------------------------------------------------------------------------------------------------


def test_a_second_run_reads_no_rows_and_loads_the_attacks_last(tmp_path, own_cache):
    command = [sys.executable, "-c", WATCHED, "run", "fashion", "neggrad", "--limit", "40", "--out"]
    for name in ("first", "second"):
        done = subprocess.run([*command, str(tmp_path / name)], capture_output=True, text=True, check=True)
    begun, over = map(set, json.loads(done.stdout.splitlines()[-1]))
    assert not {"datasets", "sklearn", "matplotlib"} & begun
    assert "sklearn" in over and not {"datasets", "diffusers", "matplotlib"} & over


@pytest.mark.parametrize("words", [["ls", "methods"], ["--help"], ["split", "fashion", "--ratio", "5"]], ids=" ".join)
def test_what_needs_no_model_loads_none(words):
    code = (
        "import sys, contextlib, mubench\nfrom mubench.cli import main\n"
        "with contextlib.suppress(SystemExit):\n    main(sys.argv[1:])\n"
        "print({'torch', 'pandas', 'scipy', 'sklearn', 'datasets', 'pyarrow', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n"), done.stdout


def test_who_starts_the_workers_of_a_sweep_loads_no_model():
    code = (
        "import sys\nfrom mubench.sweep import grid\n"
        "specs, _ = grid.expand('all', 'all', seeds=[0, 1])\nassert len(specs) > 100\n"
        "print({'torch', 'pandas', 'scipy', 'sklearn', 'datasets', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_imports_leave_what_was_frozen_frozen():
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() == before
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with importing():
            pass
        assert gc.get_freeze_count() == frozen > 0
    finally:
        gc.unfreeze()


# -- once --------------------------------------------------------------------------------------------------------------


def test_a_run_and_its_board_compute_an_attack_once(tmp_path, monkeypatch):
    fits = counted(monkeypatch, arrays, "logistic_attack"), counted(monkeypatch, arrays, "svc_attack")
    mu.run("fashion", "neggrad", seed=5, out=tmp_path / "once")
    assert [len(calls) for calls in fits] == [1, 1]
    mu.board(tmp_path / "once")
    mu.score(next((tmp_path / "once").glob("fashion/*/*/*/*")))
    assert [len(calls) for calls in fits] == [1, 1]


def test_texts_are_compared_once():
    primary._rouge_l.cache_clear()
    rouge = primary.load_primary("rouge_l")
    texts = ["one two three", "four five"], ["one two", "five four"]
    assert rouge.per_example(*texts).tolist() == rouge.per_example(*texts).tolist()
    assert primary._rouge_l.cache_info()[:2] == (2, 2)


def test_a_grid_prepares_and_asks_what_its_runs_share_once(tmp_path, monkeypatch, own_cache):
    prepared, read = counted(monkeypatch, Fashion, "prepare"), counted(monkeypatch, Fashion, "read")
    mapped = counted(monkeypatch, contract, "cached_tensors")
    built = counted(monkeypatch, Fashion, "build")
    specs = [make_spec(task="fashion", method=m, limit=40) for m in ("neggrad", "finetune", "rand_label")]
    done, _, failed = sweep(specs, tmp_path / "grid", report=lambda *_, **__: None)
    assert len(done) == 3 and not failed
    assert len(prepared) == len(mapped) == 3 and len(read) == 1  # train, test, transfer
    assert len([given for given in built if given[2] >= 1_000_000]) == 1  # ZRF's untrained model


def test_a_checkpoint_is_hashed_once_a_process(tmp_path, monkeypatch):
    source = load_task("fashion").originals_dir("resnet")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    monkeypatch.setattr(cache, "SETTLED", -1)  # as if it had lain there for long
    before = cache._hash.cache_info().misses
    ids = {make_spec(task="fashion", method="neggrad", checkpoint=str(tmp_path)).id for _ in range(5)}
    assert len(ids) == 1 and cache._hash.cache_info().misses == before + 1
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(tmp_path / "model.safetensors", (0, 0))  # an old date does not hide that it changed
    assert make_spec(task="fashion", method="neggrad", checkpoint=str(tmp_path)).id not in ids


def test_a_file_that_changed_just_now_is_hashed_again(tmp_path):
    path = tmp_path / "file"
    for text in ("one", "two", "six"):
        path.write_text(text)
        assert file_hash(path) == file_hash(path) == networks.hashlib.sha256(text.encode()).hexdigest()


def test_weights_asked_for_later_are_kept_too(tmp_path):
    spec = {"task": "fashion", "method": "neggrad", "limit": 40, "out": tmp_path}
    first = mu.run(**spec)
    again = mu.run(**spec, save_model=True)
    folder = Store(tmp_path).path(make_spec(task="fashion", method="neggrad", limit=40))
    assert networks.weights(folder / "model") and again.weights == first.weights


# -- the cache ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["cut short", "a bit", "empty", "another's"])
def test_damaged_tensors_are_made_anew(tmp_path, harm):
    path, made = tmp_path / "t.safetensors", []

    def make():
        made.append(1)
        return {"a": torch.arange(12.0).reshape(3, 4).T, "b": torch.tensor([True, False])}

    good = cached_tensors(path, make)
    assert torch.equal(cached_tensors(path, make)["a"], good["a"]) and len(made) == 1
    content = path.read_bytes()
    flipped = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    changed = {"cut short": content[:-2], "a bit": flipped, "empty": b"", "another's": content.replace(b"F32", b"I32")}
    path.unlink()
    path.write_bytes(changed[harm])
    again = cached_tensors(path, make)
    assert len(made) == 2 and all(torch.equal(again[name], make()[name]) for name in again)


def test_what_is_mapped_is_the_process_s_own(tmp_path):
    path = tmp_path / "t.safetensors"
    first = cached_tensors(path, lambda: {"a": torch.zeros(4)})
    first["a"][0] = 1
    path.unlink()  # or replaced: what is mapped stays whole
    assert first["a"].tolist() == [1, 0, 0, 0]
    assert cached_tensors(path, lambda: {"a": torch.zeros(4)})["a"].sum() == 0


def test_damaged_json_is_made_anew(tmp_path):
    path = tmp_path / "units.json"
    assert cached_json(path, lambda: ["ä", "b"]) == cached_json(path, lambda: 1 / 0) == ["ä", "b"]
    path.write_text(path.read_text(encoding="utf-8").replace("b", "c"), encoding="utf-8")
    assert cached_json(path, lambda: ["ä", "b"]) == ["ä", "b"]


def test_other_rows_code_libraries_and_options_have_other_names(monkeypatch):
    place = lambda task, model="resnet": content_key(task.origin("test"), task.preparation(model))
    first = place(load_task("fashion"))
    assert first == place(load_task("fashion"))
    others = []
    for name, value in (("checksums", {"test": "0" * 64}), ("checksum", "0" * 64), ("version", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(Fashion, name, value)
            others.append(place(load_task("fashion")))
    with monkeypatch.context() as patch:
        patch.setattr("mubench.tasks.contract.data.fingerprint", lambda cls: "other code")
        others.append(place(load_task("fashion")))
    with monkeypatch.context() as patch:
        patch.setattr("mubench.tasks.contract.data.version", lambda library: "0.0")
        others.append(place(load_task("fashion")))
    assert len({first, *others}) == 6


def test_a_prepared_set_has_the_same_name_before_and_after_its_rows_are_read():
    fresh, read = load_task("fashion"), load_task("fashion")
    assert fresh.known and read.data and not read.known
    assert all(fresh.origin(name) == read.origin(name) for name in ("train", "test", "transfer"))
    assert {name: len(rows) for name, rows in read.data.items()} == fresh.sizes
    altered = load_task("fashion")
    altered.data = {"train": read.data["test"], "test": read.data["train"]}
    assert altered.origin("train") != fresh.origin("train")


def test_test_rows_that_are_not_the_published_ones_are_refused(monkeypatch):
    monkeypatch.setattr(Fashion, "checksums", {"test": "0" * 64})
    with pytest.raises(mu.MubenchError, match="the test rows of fashion have checksum 8cd3e9d66f38"):
        load_task("fashion").load()


def test_persons_are_known_without_reading_rows(monkeypatch, own_cache):
    first = load_task("people").split(5)
    monkeypatch.setattr(type(load_task("people")), "read", lambda task: pytest.fail("the rows were read"))
    assert load_task("people").split(5) == first and Path(own_cache / "prepared").is_dir()
