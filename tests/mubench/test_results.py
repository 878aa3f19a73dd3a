"""Run specs and stored results: one id for one run, whole results or none, and nothing altered is believed."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mubench as mu
from mubench import cache
from mubench.errors import MubenchError
from mubench.records import store as module
from mubench.records.predictions import read_predictions, score
from mubench.records.result import Result, read
from mubench.records.store import Store
from mubench.spec import RunSpec, make_spec

PARAMS = {"alpha": 0.8, "epochs": 3, "lr": 1e-4, "milestones": (2, 4), "schedule": "union"}


def make(**fields):
    return make_spec(**{"task": "fashion", "method": "neggrad_plus"} | fields)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A real result on a few rows: its spec, record and predictions."""
    store, spec = Store(tmp_path_factory.mktemp("stored")), make(method="original", limit=40)
    record = mu.run("fashion", "original", limit=40, out=store.root)
    return spec, record, read_predictions(store.path(spec))


@pytest.fixture
def folder(stored, tmp_path):
    spec, record, frame = stored
    return Store(tmp_path).write(spec, record.model_copy(), frame)


# -- the id ------------------------------------------------------------------------------------------------------------


@given(st.permutations(list(PARAMS.items())))
def test_id_is_independent_of_the_order_of_options(items):
    assert make(params=dict(items)).id == make(params=PARAMS).id


def test_every_field_changes_the_id(tmp_path):
    rows = tmp_path / "rows.txt"
    rows.write_text("1\n2\n")
    other = dict(
        method="salun",
        model="vit",
        ratio=10,
        seed=1,
        params={"alpha": 0.8},
        split_file=str(rows),
        checkpoint=str(tmp_path),
        precision="bf16",
        protocol="official",
        max_examples=5,
        max_steps=5,
        max_seconds=5.0,
        limit=5,
        trials=5,
        lora=50,
        lora_rank=5,
        curriculum="superloss",
    )
    weighed = dict(curriculum_lambda=5.0, curriculum_tau="log_classes")
    assert {"task", "unit", *other, *weighed} == set(RunSpec.model_fields)
    ids = [make().id, *(make(**{name: value}).id for name, value in other.items())]
    ids += [make(curriculum="superloss", **{name: value}).id for name, value in weighed.items()]
    ids += [make(task="people", **unit).id for unit in ({}, {"unit": "row"})]
    assert len(set(ids)) == len(ids)
    rows.write_text("1\n3\n")
    assert make(split_file=str(rows)).id not in ids  # the content counts …
    assert make(split_file=str(rows), ratio=10).id == make(split_file=str(rows)).id  # … and then the ratio says nothing


@pytest.mark.parametrize(
    "same",
    [
        {"ratio": "5.0"},
        {"ratio": 5},
        {"seed": "0"},
        {"model": "resnet"},
        {"precision": "no"},
        {"limit": None},
        {"unit": "row"},
        {"params": {}},
        {"params": {"alpha": str(mu.load_method("neggrad_plus").alpha)}},
        {"params": {"lr": None, "epochs": mu.load_method("neggrad_plus").epochs}},
    ],
)
def test_saying_a_default_changes_nothing(same):
    assert make(**same).id == make().id and make(**same) == make()


def test_a_changed_method_file_is_another_run(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text('from mubench.methods.base import Method\nclass Mine(Method):\n    """Nothing."""\n')
    spec = make(method=f"{file}:Mine")
    before = spec.id
    file.write_text(file.read_text() + "    epochs = 2\n")
    assert spec.id != before and len(spec.id) == 12


def test_a_spec_survives_json_and_is_frozen():
    spec = make(params=PARAMS, limit=5)
    assert RunSpec.model_validate_json(spec.model_dump_json()).id == spec.id
    with pytest.raises(Exception, match="frozen"):
        spec.seed = 1


@pytest.mark.parametrize(
    "fields, complaint",
    [
        ({"task": "fashoin"}, "unknown task 'fashoin': did you mean 'fashion'"),
        ({"method": "salum"}, "unknown method 'salum': did you mean 'salun'"),
        ({"model": "resnte"}, "unknown model of fashion 'resnte': did you mean 'resnet'"),
        ({"params": {"alhpa": 1}}, "unknown hyperparameter of neggrad_plus 'alhpa': did you mean 'alpha'"),
        ({"params": {"epochs": "many"}}, "epochs='many' does not fit neggrad_plus: it must be .*int"),
        ({"params": {"milestones": [1, "x"]}}, "milestones=.* does not fit"),
        ({"params": {"schedule": "unoin"}}, "unknown schedule 'unoin': did you mean 'union'"),
        ({"ratio": 0}, "ratio 0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": "one"}, "seed='one'"),
        ({"limit": 0}, "limit=0"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"precision": "fp8"}, "precision='fp8'"),
        ({"split_file": "no/such/file.txt"}, "no index file 'no/such/file.txt'"),
        ({"lora": 0}, "lora=0"),
        ({"lora": 101}, "lora=101"),
        ({"lora": 5, "lora_rank": 2}, "lora=5 and lora_rank=2"),
        ({"method": "retrain", "lora": 5}, "retrain starts from a new model, LoRA adapts a trained one"),
        ({"curriculum": "hard"}, "curriculum=.hard.: .*superloss"),
        ({"curriculum": "superloss", "curriculum_lambda": 0}, "curriculum_lambda=0"),
        ({"curriculum": "superloss", "curriculum_tau": "median"}, "curriculum_tau.*=.median."),
        ({"curriculum_tau": 1.0}, "are of a curriculum"),
    ],
)
def test_what_cannot_be_run_is_refused(fields, complaint):
    with pytest.raises(MubenchError, match=complaint):
        make(**fields)


# -- the schema --------------------------------------------------------------------------------------------------------


def test_the_schema_is_published_and_the_record_fits_it(stored):
    schema = Result.model_json_schema(by_alias=True)
    assert json.loads(json.dumps(schema))["additionalProperties"] is False
    record = stored[1].model_dump(by_alias=True)
    assert set(schema["required"]) <= set(record) <= set(schema["properties"])
    assert Result.model_validate_json(json.dumps(record)).model_dump(by_alias=True) == record


def test_a_stored_result_reads_as_it_was_written(stored, folder):
    spec, record, frame = stored
    assert read(folder) == record.model_copy(update={"predictions": read(folder).predictions})
    assert RunSpec(**read(folder).spec) == spec and read(folder).id == spec.id
    assert folder.parts[-5:] == ("fashion", "resnet", "original", "5", spec.id)
    pd.testing.assert_frame_equal(read_predictions(folder), frame)
    assert Store(folder).results() == [folder] and Store(folder.parents[4]).results() == [folder]


def test_results_below_a_hidden_folder_are_found(stored, tmp_path):
    spec, record, frame = stored
    store = Store(tmp_path / ".hidden")
    assert store.results() == []
    store.write(spec, record.model_copy(), frame)
    assert store.results() == [store.path(spec)]


# -- written whole or not at all ---------------------------------------------------------------------------------------


class Failing:
    """Stands for a function of the system that fails the n-th time it is called."""

    def __init__(self, function, n, error):
        self.function, self.left, self.error = function, n, error

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.function(*args, **kwargs)


FULL = OSError(errno.ENOSPC, "No space left on device")


def fail(monkeypatch, step, n, error):
    owner, name = {
        "mkdir": (os, "mkdir"),
        "to_parquet": (pd.DataFrame, "to_parquet"),
        "hash": (module, "file_hash"),
        "write_text": (Path, "write_text"),
        "fsync": (module, "fsync"),
        "rename": (Path, "rename"),
    }[step]
    failing = Failing(getattr(owner, name), n, error)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: failing(*args, **kwargs))


def visible(root):
    """Every file a reader could come across, and its bytes; locks and what is set aside start with a dot."""
    return {
        path: path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    }


@pytest.mark.parametrize(
    "step, n",
    [("mkdir", 2), ("to_parquet", 1), ("hash", 1), ("write_text", 1), ("fsync", 1), ("fsync", 3), ("rename", 1)],
)
@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_a_failing_write_leaves_nothing_and_loses_nothing(stored, tmp_path, monkeypatch, step, n, error):
    spec, record, frame = stored
    store, neighbour = Store(tmp_path), make(method="original", limit=40, seed=1)
    store.write(neighbour, record.model_copy(), frame)
    store.path(spec).parent.mkdir(parents=True, exist_ok=True)
    before = visible(tmp_path)
    with monkeypatch.context() as patch:
        fail(patch, step, n, error)
        with pytest.raises(KeyboardInterrupt if error is not FULL else MubenchError) as caught:
            store.write(spec, record.model_copy(), frame)
    if error is FULL:
        assert "the disk is full" in str(caught.value) and "\n" not in str(caught.value)
    assert visible(tmp_path) == before and not store.done(spec)
    assert not list(tmp_path.rglob(f".{spec.id}.*"))
    store.write(spec, record.model_copy(), frame)  # nothing is in the way of the next try
    assert store.done(spec)


@pytest.mark.parametrize("step, n", [("to_parquet", 1), ("fsync", 3), ("rename", 1), ("rename", 2)])
@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_a_result_to_be_replaced_stays_until_the_new_one_is_there(
    stored, folder, tmp_path, monkeypatch, step, n, error
):
    spec, record, frame = stored
    before = visible(tmp_path)
    with monkeypatch.context() as patch:
        fail(patch, step, n, error)
        with pytest.raises((KeyboardInterrupt, MubenchError)):
            Store(tmp_path).write(spec, record.model_copy(update={"started": "later"}), frame)
    assert visible(tmp_path) == before
    Store(tmp_path).write(spec, record.model_copy(update={"started": "later"}), frame)
    assert read(folder).started == "later" and not list(tmp_path.rglob(".*.old"))


def write_and_die(store, spec, record, frame, n):
    """Write a result; this process kills itself at the n-th call of whatever touches the disk, or exits with 0."""
    left = itertools.count(n, -1)

    def mortal(function):
        def call(*args, **kwargs):
            if next(left) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for owner, name in (
        (Path, "mkdir"),
        (pd.DataFrame, "to_parquet"),
        (module, "file_hash"),
        (Path, "write_text"),
        (module, "fsync"),
        (Path, "rename"),
        (shutil, "rmtree"),
    ):
        setattr(owner, name, mortal(getattr(owner, name)))
    store.write(spec, record.model_copy(), frame)
    os._exit(0)


@pytest.mark.parametrize("replacing", [False, True])
def test_kill_9_at_every_step_of_a_write(stored, tmp_path, replacing):
    """A child kills itself at the n-th call of whatever touches the disk; then the next process looks."""
    spec, record, frame = stored
    store, n, outcomes = Store(tmp_path), 0, []
    while not outcomes or outcomes[-1] != 0:
        n += 1
        shutil.rmtree(tmp_path / "fashion", ignore_errors=True)
        if replacing:
            store.write(spec, record.model_copy(update={"started": "before"}), frame)
        child = os.fork()
        if child == 0:
            try:
                write_and_die(store, spec, record, frame, n)
            finally:
                os._exit(1)
        outcomes.append(os.waitpid(child, 0)[1])
        assert outcomes[-1] in (0, signal.SIGKILL)
        with store.claim(spec) as mine:  # what the next run of this spec does first
            assert mine and not list(tmp_path.rglob(f".{spec.id}.*"))
            if replacing:
                assert read(store.path(spec)).started in ("before", record.started)
        assert store.results() == ([store.path(spec)] if store.done(spec) else [])
        for folder in store.results():
            score(folder)
    assert n > 8 and set(outcomes[:-1]) == {signal.SIGKILL}


def test_a_disk_that_is_really_full(stored, tmp_path):
    spec, record, frame = stored
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        with pytest.raises(MubenchError, match="the disk is full: free some space"):
            noise = np.random.default_rng(0).random((50, len(frame)))
            Store(disk).write(spec, record.model_copy(), pd.concat([frame.assign(score=row) for row in noise]))
        assert visible(disk) == {} and not list(disk.rglob(f".{spec.id}.*"))
        with pytest.raises(MubenchError, match="the disk is full"):
            Store(disk).write_error(spec, "x" * 100_000)
        assert Store(disk).errors() == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_in_the_way_of_the_folder(stored, tmp_path):
    spec, record, frame = stored
    (tmp_path / "results").write_text("a file")
    for root in (tmp_path / "results", tmp_path / "results" / "below"):
        with pytest.raises(MubenchError, match="cannot write .*a file is in the way"):
            Store(root).write(spec, record.model_copy(), frame)
        with pytest.raises(MubenchError, match="cannot write .*a file is in the way"), Store(root).claim(spec):
            pass
        with pytest.raises(MubenchError, match="cannot write .*a file is in the way"):
            Store(root).write_error(spec, "reason")
    assert (tmp_path / "results").read_text() == "a file"


def test_one_run_is_claimed_once(tmp_path):
    spec = make()
    with Store(tmp_path).claim(spec) as mine, Store(tmp_path).claim(spec) as theirs:
        assert mine and not theirs
    with Store(tmp_path).claim(spec) as again:
        assert again


@pytest.mark.parametrize("name", ["result.json", "error.json"])
def test_what_is_under_way_is_not_there_yet(tmp_path, name):
    for path in (tmp_path / ".locks" / "ray-1" / "fashion" / "resnet", tmp_path / "fashion" / ".1234.56"):
        path.mkdir(parents=True)
        (path / name).write_text("{}")
    assert Store(tmp_path).results() == Store(tmp_path).errors() == []


def test_errors_are_recorded_until_the_run_succeeds(stored, tmp_path):
    spec, record, frame = stored
    store = Store(tmp_path)
    store.write_error(spec, "out of memory", costs={"steps": 3})
    assert store.failed(spec) and not store.failed(spec, since=time.time() + 10)
    [error] = store.errors()
    assert (error["id"], error["reason"], error["costs"]) == (spec.id, "out of memory", {"steps": 3})
    store.write(spec, record.model_copy(), frame)
    assert store.errors() == [] and not store.failed(spec)


# -- read with suspicion -----------------------------------------------------------------------------------------------


def edit(folder, **changes):
    record = json.loads((folder / "result.json").read_text())
    for name, value in changes.items():
        record[name] = value(record[name]) if callable(value) else value
    (folder / "result.json").write_text(json.dumps(record))


def test_score_agrees_and_needs_no_gpu_or_task(stored, folder):
    values = score(folder)
    for name, value in read(folder).metrics.items():
        assert value is values[name] is None or abs(value - values[name]) <= 1e-12
    assert values["test_score"] > 0.5


def test_score_gives_distances_to_the_retrained_model(folder):
    values = score(folder, retrain=folder)  # to itself
    assert set(values) > set(score(folder)) or any(score(folder)[n] is None and values[n] is not None for n in values)


@pytest.mark.parametrize("name", ["test_score", "forget_score", "retain_score"])
@pytest.mark.parametrize("change", [lambda v: v + 1e-9, lambda v: None, lambda v: 1 - v])
def test_score_refuses_an_altered_metric(folder, name, change):
    edit(folder, metrics=lambda metrics: metrics | {name: change(metrics[name])})
    with pytest.raises(MubenchError, match=f"metric {name} is .* in result.json but .* from the predictions"):
        score(folder)


def test_score_refuses_an_invented_metric(folder):
    edit(folder, metrics=lambda metrics: metrics | {"invented": 1.0})
    with pytest.raises(MubenchError, match="invented"):
        score(folder)


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"schema": 3}, "schema"),
        ({"metrics": {"test_score": "high"}}, "metrics.test_score"),
        ({"status": "great"}, "status"),
        ({"extra": 1}, "extra"),
        ({"predictions": {}}, "checksum is not the recorded None"),
        ({"task": {}}, "lacks a fact .*labels"),
        ({"checkpoint": {}}, "lacks a fact .*test_score"),
    ],
)
def test_what_is_no_result_is_refused(folder, changes, complaint):
    edit(folder, **changes)
    with pytest.raises(MubenchError, match=complaint):
        score(folder)


@pytest.mark.parametrize("keep", [0, 1, 0.5, -1, -2])
def test_a_truncated_record_is_refused(folder, keep):
    text = (folder / "result.json").read_bytes()
    cut = int(len(text) * keep) if isinstance(keep, float) else keep
    (folder / "result.json").write_bytes(text[: cut - 1 if cut < 0 else cut])  # the last byte is a newline
    with pytest.raises(MubenchError, match="is no result of schema 1 or 2"):
        read(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"null", b"[]", b"{}", b'{"schema": 1}', b"[" * 100_000])
def test_a_corrupt_record_is_refused(folder, content):
    (folder / "result.json").write_bytes(content)
    with pytest.raises(MubenchError, match="is no result of schema 1 or 2"):
        read(folder)


def test_damaged_predictions_are_refused(folder):
    path = folder / "predictions.parquet"
    good = path.read_bytes()
    for bad in (good[:-10], good[:100], b"", good[:500] + bytes([good[500] ^ 1]) + good[501:]):
        path.write_bytes(bad)
        with pytest.raises(MubenchError, match="was changed after its result was written"):
            score(folder)
    path.unlink()
    with pytest.raises(MubenchError, match="has no predictions.parquet"):
        score(folder)


def test_predictions_that_are_none_are_refused_even_with_the_right_checksum(folder):
    path = folder / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    edit(folder, predictions={"sha256": cache.file_hash(path), "rows": 1})
    with pytest.raises(MubenchError, match="cannot be read"):
        score(folder)


def test_predictions_without_a_column_are_refused(folder):
    path = folder / "predictions.parquet"
    pd.read_parquet(path).drop(columns="score").to_parquet(path)
    edit(folder, predictions={"sha256": cache.file_hash(path), "rows": 1})
    with pytest.raises(MubenchError):
        score(folder)


def test_no_result_at_all(tmp_path):
    for path in (tmp_path, tmp_path / "none", ""):
        with pytest.raises(MubenchError, match="no result at"):
            read(path)
