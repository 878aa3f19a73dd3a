"""Results → the frame of runs: what is read, compared with retraining, and left out."""

import shutil

import numpy as np
import pandas as pd
import pytest

from boards import change, row, submit
from mubench.cache import file_hash
from mubench.errors import MubenchError
from mubench.leaderboard.board import board
from mubench.records.predictions import score
from mubench.records.result import read
from mubench.spec import RunSpec


def test_distances_come_from_the_retrain_run_of_the_same_seed(stored):
    retrain = [stored("retrain", seed) for seed in (0, 1)]
    salun = [stored("salun", seed) for seed in (0, 1, 2)]
    made = board(stored.root)
    for name in ("gap_to_retrain", "js_to_retrain"):
        expected = [score(a, b)[name] for a, b in zip(salun, retrain, strict=False)]
        assert row(made, "salun")[name] == pytest.approx(np.mean(expected), abs=1e-12)
        assert row(made, "salun")[f"{name}_n"] == 2 and row(made, "salun")["n"] == 3
        assert row(made, "retrain")[name] == 0
    assert "(n=2)" in made.text()
    assert any("no retrain for seed 2: mubench run fashion retrain" in note for note in made.notes)


@pytest.mark.parametrize(
    "other", [{"checkpoint": "mine"}, {"ratio": "10"}, {"seed": 1}, {"status": "stopped"}, {"params": {"epochs": 1}}]
)
def test_no_distances_to_another_retrain(stored, other):
    stored("retrain", **other)
    stored("salun")
    assert np.isnan(row(board(stored.root), "salun")["gap_to_retrain"])


def test_retrain_of_the_same_precision_is_preferred(stored):
    stored("retrain")
    half, salun = stored("retrain", precision="bf16"), stored("salun", precision="bf16")
    found = row(board(stored.root), "salun (precision=bf16)")
    assert found["gap_to_retrain"] == score(salun, half)["gap_to_retrain"]


def test_runs_of_two_precisions_are_in_two_rows(stored):
    for seed, precision in ((0, "no"), (1, "no"), (2, "bf16"), (3, "fp16")):
        stored("salun", seed, precision=precision)
    made = board(stored.root)
    names = ("salun", "salun (precision=bf16)", "salun (precision=fp16)")
    assert [row(made, name)["n"] for name in names] == [2, 1, 1]


def test_retrain_of_other_examples_gives_no_distances_but_a_note(stored):
    stored("retrain", frame=stored.predictions(5).query("index > 0").reset_index(drop=True))
    stored("salun")
    made = board(stored.root)
    assert row(made, "salun")["n"] == 1 and np.isnan(row(made, "salun")["gap_to_retrain"])
    assert any("no distances to retrain" in note and "indices differ" in note for note in made.notes)


def test_times_are_of_the_cpu_where_there_is_no_gpu(stored):
    for device, ratio in (("cpu", "5"), ("cuda", "2")):  # 100 s of the wall clock for 10 s of work: a busy machine
        stored("retrain", ratio=ratio, device=device, seconds=20, wall=50)
        stored("salun", ratio=ratio, device=device, seconds=10, wall=100)
    rows = board(stored.root).rows.set_index(["method", "ratio"])
    assert rows.loc[("salun", "5"), "seconds"] == 10 and rows.loc[("salun", "5"), "relative_seconds"] == 0.5
    assert rows.loc[("salun", "2"), "seconds"] == 100 and rows.loc[("salun", "2"), "relative_seconds"] == 2


@pytest.mark.parametrize("other", [{"machine": "another"}, {"schema": 1}])
def test_times_are_compared_only_where_machine_threads_and_versions_are_known_to_be_the_same(stored, other):
    stored("retrain")
    stored("salun", **other)
    stored("scrub")
    made = board(stored.root)
    assert np.isnan(row(made, "salun")["relative_seconds"]) and row(made, "scrub")["relative_seconds"] == 0.1
    assert row(made, "salun")["relative_flops"] == 0.1


def test_records_of_schema_1_keep_their_own_retrain(stored):
    old, salun = stored("retrain", schema=1), stored("salun", schema=1)
    before = row(board(stored.root), "salun")["gap_to_retrain"]
    newer = type(stored)(stored.root.parent / "newer")
    newer.count = 40
    new = newer("retrain", started="2027-01-01T00:00:00Z")
    made = board([stored.root, newer.root])
    assert row(made, "salun")["gap_to_retrain"] == before == score(salun, old)["gap_to_retrain"]
    other = newer("scrub")
    assert row(board([stored.root, newer.root]), "scrub")["gap_to_retrain"] == score(other, new)["gap_to_retrain"]


def test_the_same_run_twice_counts_once_and_nothing_is_said(stored):
    first = stored("salun", 0)
    again = type(stored)(stored.root.parent / "again")
    again.count = stored.count - 1  # the same weights
    frame = pd.read_parquet(first / "predictions.parquet")
    second = again("salun", 0, frame=frame, started="2026-02-01T00:00:00Z", seconds=7)
    shutil.copy(first / "predictions.parquet", second / "predictions.parquet")
    change(second, lambda data: data["predictions"].update(sha256=file_hash(first / "predictions.parquet")))
    made = board([stored.root, again.root])
    assert row(made, "salun")["n"] == 1 and row(made, "salun")["seconds"] == 7
    assert not any("one seed" in note for note in made.notes)


def test_two_results_of_one_seed_that_differ_do_not_count(stored):
    stored("salun", 0), stored("salun", 1)
    other = type(stored)(stored.root.parent / "other")
    other.count = 40
    other("salun", 0), other("retrain", 0)
    made = board([stored.root, other.root])
    assert row(made, "salun")["n"] == 1 and row(made, "retrain")["n"] == 1
    assert sum("fashion/resnet/salun/5, seed 0: " in note and "none of them counts" in note for note in made.notes) == 1
    stored("retrain", 0)
    made = board([stored.root, other.root])
    assert row(made, "retrain")["n"] == 0 and np.isnan(row(made, "salun")["gap_to_retrain"])


def test_limited_runs_are_left_out(stored):
    stored("salun", limit=64, status="limited")
    made = board(stored.root)
    assert made.rows.empty
    assert made.notes == ["left out, as they ran on a few rows only (--limit): fashion/resnet/salun/5, seed 0"]
    stored("salun")
    assert row(board(stored.root), "salun")["n"] == 1


def test_failed_runs_are_noted(stored):
    stored("salun")
    stored.store.write_error(RunSpec(task="fashion", model="resnet", method="scrub"), "loss became\nNaN")
    broken = RunSpec(task="fashion", model="resnet", method="finetune")
    stored.store.write_error(broken, "")
    (stored.store.path(broken) / "error.json").write_text("{")
    notes = board(stored.root).notes
    assert any(note.startswith("failed: ") and "scrub" in note and note.endswith("loss became NaN") for note in notes)
    assert any("finetune" in note and "cannot be read" in note for note in notes)
    asked = RunSpec(task="fashion", model="resnet", method="scrub")
    some = [note for note in board(stored.root, only=[asked]).notes if note.startswith("failed: ")]
    assert len(some) == 1 and "scrub" in some[0], "a table of some runs notes their failures, not others'"


def _predictions(folder):
    frame = pd.read_parquet(folder / "predictions.parquet")
    frame["score"] = 1.0
    frame.to_parquet(folder / "predictions.parquet", index=False)


def _metric(folder):
    change(folder, lambda data: data["metrics"].update(test_score=0.99))


def _seconds(folder):
    change(folder, lambda data: data["costs"].update(cpu_seconds=-1))


def _no_checksum(folder):
    change(folder, lambda data: data.update(predictions={}))


def _no_json(folder):
    (folder / "result.json").write_text("{")


def _no_predictions(folder):
    (folder / "predictions.parquet").unlink()


def _no_parquet(folder):
    (folder / "predictions.parquet").write_text("something else")
    change(folder, lambda data: data["predictions"].update(sha256=file_hash(folder / "predictions.parquet")))


@pytest.mark.parametrize(
    "damage, why",
    [
        (_predictions, "was changed"),
        (_metric, "metric test_score is 0.99"),
        (_seconds, "seconds is -1"),
        (_no_checksum, "was changed"),
        (_no_json, "is refused"),
        (_no_predictions, "no file that can be read"),
        (_no_parquet, "arquet"),
    ],
)
def test_damaged_results_are_left_out_with_a_note(stored, damage, why):
    stored("salun", 0)
    folder = stored("salun", 1)
    damage(folder)
    made = board(stored.root)
    assert row(made, "salun")["n"] == 1
    assert [note for note in made.notes if str(folder) in note and "left out" in note and why in note]


def test_a_damaged_retrain_is_not_compared_with(stored):
    _metric(stored("retrain"))
    stored("salun")
    made = board(stored.root)
    assert np.isnan(row(made, "salun")["gap_to_retrain"]) and row(made, "retrain")["n"] == 0


def test_duplicates_count_once(stored, tmp_path):
    stored("salun", 0)
    shutil.copytree(stored.root, tmp_path / "copy")
    made = board([stored.root, tmp_path / "copy", stored.root])
    assert row(made, "salun")["n"] == 1 and not any("left out" in note for note in made.notes)


def test_a_damaged_result_makes_no_second_one(stored):
    stored("salun", 0)
    other = type(stored)(stored.root.parent / "other")
    other.count = 40
    _metric(other("salun", 0, seconds=7))
    assert row(board([stored.root, other.root]), "salun")["seconds"] == 10


def test_no_results_says_what_to_run(tmp_path):
    with pytest.raises(MubenchError, match=r"no results below .*`mubench run TASK METHOD --out "):
        board(tmp_path / "none")


def test_only_restricts_to_the_groups_of_the_runs(stored):
    for ratio in ("5", "10"):
        for method in ("original", "retrain", "salun", "scrub"):
            stored(method, ratio=ratio)
    stored("neggrad", ratio="10", limit=9, status="limited")
    stored.store.write_error(RunSpec(task="fashion", model="resnet", method="finetune", ratio="10"), "why")
    _metric(stored("finetune", 4, ratio="10"))
    made = board([stored.root], only=[RunSpec(task="fashion", model="resnet", method="salun")])
    assert set(made.rows["ratio"]) == {"5"} and list(made.rows["label"])[:2] == ["original", "retrain"]
    assert made.notes == [] and made.overall.empty
    assert np.isfinite(row(made, "salun")["gap_to_retrain"])


def test_a_submissions_retrain_is_nobody_elses_reference(stored):
    stored("salun")
    submit(stored, "first", "retrain")
    submit(stored, "second", "scrub")
    made = board([stored.root, stored.root.parent / "submissions"])
    assert np.isnan(row(made, "salun")["gap_to_retrain"]) and np.isnan(row(made, "scrub [second]")["gap_to_retrain"])


def test_a_second_build_recomputes_nothing(stored, monkeypatch, tmp_path):
    from mubench.leaderboard import recompute

    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    for method in ("retrain", "salun"):
        stored(method)
    first = board(stored.root)
    monkeypatch.setattr(recompute, "read_run", lambda folder: pytest.fail(f"{folder} was computed again"))
    assert board(stored.root).text() == first.text()
    monkeypatch.undo()
    changed = stored("salun", frame=stored.predictions(7))
    assert row(board(stored.root), "salun")["test_score"] == read(changed).metrics["test_score"]
