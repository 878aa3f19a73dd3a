"""Probes and references: what metrics are given of them, what is recorded, and what no probe may change."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mubench
from mubench.cache import file_hash
from mubench.errors import MubenchError
from mubench.measure.metrics import METRICS, Predictions, compute_all, metric
from mubench.measure.metrics.base import looked_at
from mubench.measure.probes.base import Probe, ProbeFailed, load_probes
from mubench.records.result import Result, read

PLUGINS = Path(__file__).parent.parent / "plugins"
RELEARN = f"{PLUGINS / 'relearn.py'}:Relearn"
TABLE = pd.DataFrame({"set": "forget", "index": [0, 1, 2], "score": [1.0, 0.0, 1.0], "loss": [1.0, 2.0, 3.0]})


def model(losses, seed=None, probes=None, settings=None):
    return Predictions(TABLE.assign(loss=losses), probes=probes, settings=settings, seed=seed)


def steps(*losses):
    """Predictions of a probe: the losses of each step."""
    return pd.concat([TABLE.assign(loss=values, step=10 * i) for i, values in enumerate(losses)], ignore_index=True)


@pytest.fixture
def register(monkeypatch):
    """Registers metrics for one test."""
    before = dict(METRICS)
    yield lambda function, **contract: metric(**{"better": "lower", "needs": ["forget"]} | contract)(function)
    METRICS.clear()
    METRICS.update(before)


# -- references


def spread(run, references):
    """Mean loss of the run less that of its references."""
    return run["forget"]["loss"].mean() - np.mean([m["forget"]["loss"].mean() for m in references["retrain"]])


def test_a_metric_is_given_as_many_references_as_there_are(register):
    register(spread, columns=["loss"], references={"retrain": 1})
    retrained = [model([k, k, k], seed=k) for k in (1, 2, 6)]
    run = model([4.0, 5.0, 6.0], seed=1)
    assert compute_all(run, references={"retrain": retrained[:1]})["spread"] == 4
    assert compute_all(run, references={"retrain": retrained})["spread"] == 2
    for none in ({}, {"retrain": []}, {"original": retrained}, None):
        assert "spread" not in compute_all(run, references=none)


def test_a_metric_that_needs_three_is_absent_below(register):
    register(spread, columns=["loss"], references={"retrain": 3})
    retrained = [model([k, k, k]) for k in (1, 2, 6)]
    assert "spread" not in compute_all(model([4, 5, 6]), references={"retrain": retrained[:2]})
    assert compute_all(model([4, 5, 6]), references={"retrain": retrained})["spread"] == 2


def test_a_reference_without_the_columns_does_not_count(register):
    register(spread, columns=["loss"], references={"retrain": 2})
    without = Predictions(TABLE.drop(columns="loss"))
    assert "spread" not in compute_all(model([4, 5, 6]), references={"retrain": [model([1, 1, 1]), without]})


def test_a_distance_is_to_the_model_of_the_runs_own_seed_or_there_is_none(register):
    register(spread, columns=["loss"], references={"retrain": 1}, own_seed=True)
    own, other, run = model([1, 1, 1], seed=4), model([6, 6, 6], seed=5), model([4, 5, 6], seed=4)
    assert compute_all(run, references={"retrain": [own, other]})["spread"] == 4
    assert "spread" not in compute_all(run, references={"retrain": [other]})


def test_roles_are_told_apart(register):
    def between(run, references):
        """Where the run lies between its references."""
        low, high = (references[role][0]["forget"]["loss"].mean() for role in ("retrain", "original"))
        return (run["forget"]["loss"].mean() - low) / (high - low)

    register(between, columns=["loss"], references={"original": 1, "retrain": 1})
    references = {"original": [model([6, 6, 6])], "retrain": [model([2, 2, 2])]}
    assert compute_all(model([3, 3, 3]), references=references)["between"] == 0.25


def test_only_what_metrics_look_at_is_asked_for(register):
    assert (looked_at("original"), looked_at("retrain")) == (0, 1)
    register(spread, columns=["loss"], references={"retrain": 2})
    assert looked_at("retrain") is None


@pytest.mark.parametrize(
    "contract, complaint",
    [
        ({"references": {"retrained": 1}}, "unknown role 'retrained'"),
        ({"references": {"retrain": 0}}, "at least 1"),
        ({"references": {"retrain": "all"}}, "at least 1"),
        ({"references": {"retrain": 2}, "own_seed": True}, "own_seed looks at 1 model"),
        ({"own_seed": True}, "own_seed looks at 1 model"),
        ({"better": "highest"}, "better='highest'"),
        ({"better": "nan"}, "better='nan'"),
        ({"better": 0.5}, "better=0.5"),
        ({"needs": []}, "no set or no column"),
    ],
)
def test_a_wrong_contract_is_refused(register, contract, complaint):
    with pytest.raises(MubenchError, match=re.escape(complaint)):
        register(spread, **contract)
    assert "spread" not in METRICS


def test_a_wrong_function_is_refused(register):
    with pytest.raises(MubenchError, match="metric overall: another metric has this name"):
        register(METRICS["overall"].compute)
    with pytest.raises(MubenchError, match=r"write it as def old\(run, references\)"):
        exec("def old(p):\n    'Of before.'\n", made := {}) or register(made["old"])
    with pytest.raises(MubenchError, match="no docstring"):
        exec("def bare(run, references):\n    return 0\n", made := {}) or register(made["bare"])
    with pytest.raises(MubenchError, match="snake_case"):
        exec("def Loud(run, references):\n    'Of many.'\n", made := {}) or register(made["Loud"])


# -- metrics of probes


def rise(run, references):
    """Rise of the loss from the first to the last step, less that of the references."""
    of = lambda m: np.diff([m.probe("relearn")[step]["forget"]["loss"].mean() for step in (0, 10)])[0]
    return of(run) - sum(map(of, references.get("retrain", ())))


def test_a_metric_reads_the_steps_of_a_probe(register):
    register(rise, columns=["loss"], probe="relearn")
    run = model([0, 0, 0], probes={"relearn": steps([1, 2, 3], [4, 5, 6])})
    assert [*run.probe("relearn")] == [0, 10] and run.probe("other") == {}
    assert compute_all(run)["rise"] == 3
    assert "rise" not in compute_all(model([0, 0, 0])) and "rise" not in compute_all(
        model([0, 0, 0], probes={"x": steps([1, 1, 1])})
    )


def test_references_count_where_the_probe_was_done_alike(register):
    register(rise, columns=["loss"], probe="relearn", references={"retrain": 1})
    settings, others = {"relearn": {"version": 1}}, {"relearn": {"version": 2}}
    run = model([0, 0, 0], probes={"relearn": steps([1, 2, 3], [4, 5, 6])}, settings=settings)
    retrain = lambda how: model([0, 0, 0], probes={"relearn": steps([1, 1, 1], [2, 2, 2])}, settings=how)
    assert compute_all(run, references={"retrain": [retrain(settings)]})["rise"] == 2
    assert "rise" not in compute_all(run, references={"retrain": [retrain(others)]})
    assert "rise" not in compute_all(run, references={"retrain": [model([0, 0, 0])]})
    shifted = steps([1, 1, 1], [2, 2, 2]).assign(index=[0, 1, 2, 1, 2, 3])
    with pytest.raises(MubenchError, match="other forget examples"):
        compute_all(run, references={"retrain": [model([0, 0, 0], probes={"relearn": shifted}, settings=settings)]})


# -- the contract of a probe


def test_options_are_typed_and_recorded():
    [probe] = load_probes([f"{RELEARN},steps=7,share=5e-1"])
    assert (probe.name, probe.steps, probe.share) == ("relearn", 7, 0.5)
    assert probe.setting["options"] == {"steps": 7, "share": 0.5, "lr": 3e-3} and probe.setting["version"] == 1
    assert probe.reference == f"{RELEARN},steps=7,share=0.5" and load_probes([probe.reference]) == [probe]
    assert load_probes(type(probe)(steps=7, share=0.5)) == [probe] and load_probes(None) == []


@pytest.mark.parametrize(
    "attack, complaint",
    [
        ([f"{RELEARN},steps=many"], "steps: Input should be a valid integer"),
        ([f"{RELEARN},stepz=1"], "stepz: Extra inputs are not permitted .*steps=4"),
        ([f"{RELEARN},steps"], "'steps' is no option: write NAME=VALUE"),
        ([RELEARN, f"{RELEARN},steps=1"], "relearn is asked for twice"),
        (["evaluate"], "evaluate is no attack"),
        (["evalute"], "unknown probe 'evalute': did you mean 'evaluate'"),
        ([f"{PLUGINS / 'relearn.py'}:Relern"], "has no class 'Relern'"),
        ([f"{PLUGINS / 'relearn.py'}:torch"], "is not a subclass of mubench.measure.probes.base.Probe"),
    ],
)
def test_what_is_no_probe_is_refused_before_anything_is_loaded(attack, complaint, tmp_path, cli):
    with pytest.raises(MubenchError, match=complaint):
        mubench.run("fashion", "neggrad", limit=5, out=tmp_path, attack=attack)
    done = cli("run", "fashion", "neggrad", "--limit", 5, "--out", tmp_path, "--attack", *attack)
    assert done.code == 1 and re.search(complaint, done.err) and not [*tmp_path.rglob("error.json")]


def test_a_probe_that_needs_what_the_task_lacks_is_refused():
    class Reads(Probe):
        name = "reads"
        requires = frozenset({"text"})
        needs = ("siblings",)

    task = mubench.load_task("fashion")
    with pytest.raises(MubenchError, match="reads cannot work on fashion: it needs text"):
        load_probes(Reads)[0].refuse(task)
    Reads.requires = frozenset()
    with pytest.raises(MubenchError, match="reads needs the siblings set"):
        load_probes(Reads)[0].refuse(task, {"forget": None})


# -- runs with probes


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Folders of one run: without, with one and with several probes."""
    root, folders = tmp_path_factory.mktemp("probes"), {}
    wild = plugin("Wild")
    for name, attack in {"plain": [], "one": [RELEARN], "after": [wild, RELEARN], "before": [RELEARN, wild]}.items():
        mubench.run("fashion", "neggrad", limit=20, out=root / name, attack=attack, save_model=True)
        folders[name] = next((root / name).rglob("result.json")).parent
    return folders


def plugin(name):
    """A probe of the file of `Relearn`, given as a class: it goes by the name it says."""
    [probe] = load_probes([RELEARN])
    return getattr(sys.modules[type(probe).__module__], name)


def test_the_evaluation_is_what_it_is_without_probes(ran):
    plain, records = read(ran["plain"]), {name: read(folder) for name, folder in ran.items()}
    assert plain.probes == {} and not (ran["plain"] / "probes").exists()
    for name, record in records.items():
        assert file_hash(ran[name] / "predictions.parquet") == file_hash(ran["plain"] / "predictions.parquet")
        assert (record.id, record.weights, record.predictions) == (plain.id, plain.weights, plain.predictions)
        assert {n: record.metrics[n] for n in plain.metrics} == plain.metrics
        saved = [file_hash(next(folder.glob("model/*.safetensors"))) for folder in (ran[name], ran["plain"])]
        assert saved[0] == saved[1]


def test_no_probe_changes_another(ran):
    files = {name: file_hash(ran[name] / "probes/relearn.parquet") for name in ("one", "after", "before")}
    assert len({*files.values()}) == 1
    wild = [file_hash(ran[name] / "probes/wild.parquet") for name in ("after", "before")]
    assert wild[0] == wild[1]


def test_what_is_recorded_of_a_probe(ran):
    record, path = read(ran["one"]), ran["one"] / "probes/relearn.parquet"
    facts, frame = record.probes["relearn"], pd.read_parquet(path)
    assert facts["steps"] == [0, 4] and facts["rows"] == len(frame) == 2 * 16 and facts["sha256"] == file_hash(path)
    assert facts["options"] == {"steps": 4, "share": 0.2, "lr": 3e-3} and facts["version"] == 1
    assert re.fullmatch("[0-9a-f]{16}", facts["fingerprint"]) and facts["seconds"] > 0 and facts["cpu_seconds"] > 0
    before, after = (frame[frame["step"] == step] for step in (0, 4))
    stored = pd.read_parquet(ran["one"] / "predictions.parquet").query("set == 'forget'")
    same = before.merge(stored, on="index")
    assert len(same) == 16 and np.allclose(same["loss_x"], same["loss_y"], rtol=1e-3, atol=1e-5)
    assert after["loss"].mean() != before["loss"].mean()
    assert record.command.endswith(f"--attack {RELEARN}")
    # what the attack took is no part of the unlearning
    assert record.costs["examples"] == read(ran["plain"]).costs["examples"]
    assert record.costs["flops"] == read(ran["plain"]).costs["flops"]


def test_records_from_before_there_were_probes_are_read(ran):
    record = json.loads((ran["plain"] / "result.json").read_text())
    del record["probes"]
    assert Result.model_validate(record).probes == {}


def test_a_run_that_lacks_a_probe_is_completed_and_loses_nothing(tmp_path):
    run = lambda **how: mubench.run("fashion", "neggrad", limit=20, out=tmp_path, **how)
    first = run(save_model=True, eval_every=1)
    again = run(attack=[RELEARN])
    [folder] = {path.parent for path in tmp_path.rglob("result.json")}
    assert [*again.probes] == ["relearn"] and again.curve == first.curve and [*folder.glob("model/*.safetensors")]
    assert (again.weights, again.metrics) == (first.weights, first.metrics)
    kept = file_hash(folder / "probes/relearn.parquet")
    both = run(attack=[plugin("Wild")])
    assert [*both.probes] == ["wild", "relearn"] and file_hash(folder / "probes/relearn.parquet") == kept
    assert both.probes["relearn"] == again.probes["relearn"] and both.curve == first.curve
    assert run(attack=[RELEARN, plugin("Wild")]).started == both.started  # nothing to do
    other = run(attack=[f"{RELEARN},steps=2"])  # other options are another attack
    assert other.probes["relearn"]["steps"] == [0, 2] and [*other.probes] == ["relearn", "wild"]
    fresh = run(force=True)
    assert fresh.probes == {} and not (folder / "probes").exists() and not (folder / "model").exists()


def test_a_result_of_other_weights_is_not_completed_but_left(tmp_path):
    run = lambda **how: mubench.run("fashion", "neggrad", limit=20, out=tmp_path, **how)
    run(attack=[RELEARN])
    [folder] = {path.parent for path in tmp_path.rglob("result.json")}
    record = json.loads((folder / "result.json").read_text()) | {"weights": "0" * 64}
    (folder / "result.json").write_text(json.dumps(record))
    before = {path: file_hash(path) for path in (folder / "result.json", folder / "probes/relearn.parquet")}
    with pytest.raises(MubenchError, match="has probe relearn, which .* left as it was; replace it with --force"):
        run(attack=[plugin("Wild")])
    assert all(file_hash(path) == digest for path, digest in before.items())
    assert run(attack=[plugin("Wild")], force=True).probes.keys() == {"wild"}


def test_a_failing_probe_is_recorded_and_the_rest_kept(tmp_path, cli):
    fails = tmp_path / "fails.py"
    shutil.copy(PLUGINS / "relearn.py", fails)
    out = tmp_path / "out"
    words = "run", "fashion", "neggrad,scrub", "--limit", 20, "--out", out, "--attack", f"{fails}:Fails", RELEARN
    done = cli(*words)
    assert done.code == 1 and "2 of 2 runs failed" in done.err
    assert "probe fails failed: ValueError: broken on purpose" in done.err and "are kept" in done.err
    for path in out.rglob("result.json"):
        record = read(path.parent)
        assert record.probes["fails"]["error"] == "ValueError: broken on purpose" and record.metrics["test_score"]
        assert record.probes["relearn"]["steps"] == [0, 4] and not (path.parent / "probes/fails.parquet").exists()
        assert json.loads((path.parent / "error.json").read_text())["reason"].startswith("probe fails failed")
        assert mubench.score(path.parent) == record.metrics
        assert "probe fails, version 1: failed: ValueError" in cli("check", path.parent).out
    again = cli(*words[:-2], f"{fails}:Fails,how=never", RELEARN)
    assert again.code == 0 and "2 done" in again.out
    assert all("error" not in facts for p in out.rglob("result.json") for facts in read(p.parent).probes.values())
    with pytest.raises(ProbeFailed, match="silent failed: probe silent gave no predictions") as failure:
        checkpoint = mubench.load_task("fashion").originals_dir("resnet")
        mubench.evaluate("fashion", checkpoint, limit=20, attack=[plugin("Silent"), RELEARN])
    assert failure.value.result.metrics["test_score"] > 0.5 and failure.value.result.probes["relearn"]["steps"] == [
        0,
        4,
    ]


def test_evaluate_takes_probes(tmp_path, cli):
    checkpoint = mubench.load_task("fashion").originals_dir("resnet")
    words = "evaluate", "fashion", checkpoint, "--limit", 20, "--name", "theirs", "--out", tmp_path
    assert cli(*words, "--attack", RELEARN).code == 0
    [path] = tmp_path.rglob("result.json")
    assert read(path.parent).probes["relearn"]["steps"] == [0, 4] and (path.parent / "probes/relearn.parquet").is_file()
