import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mubench.cache import file_hash
from mubench.errors import MubenchError
from mubench import registry
from mubench.leaderboard import rows as module
from mubench.leaderboard.board import VALUES, board
from mubench.records.predictions import score
from mubench.records.result import read
from mubench.spec import ENGINE, RunSpec


def row(made, label, **where):
    found = made.rows[made.rows["label"] == label]
    for column, value in where.items():
        found = found[found[column] == value]
    assert len(found) == 1, list(made.rows["label"])
    return found.iloc[0]


def change(folder, edit):
    path = folder / "result.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def test_mean_and_interval(stored):
    folders = [stored("salun", seed) for seed in range(3)]
    made = board(stored.root)
    salun = row(made, "salun")
    assert salun["n"] == 3
    for name in ("test_score", "mia_loss_auc", "zrf", "overall"):
        values = [read(folder).metrics[name] for folder in folders]
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert salun[name] == pytest.approx(np.mean(values), abs=1e-12)
        assert salun[f"{name}_half_width"] == pytest.approx((high - low) / 2, abs=1e-9)
        assert salun[f"{name}_n"] == 3
    assert salun["seconds"] == 11 and salun["flops"] == 3e9
    half = 100 * salun["test_score_half_width"]
    assert f"{100 * salun['test_score']:.1f}±{half:.1f}" in made.text()
    narrower = row(board(stored.root, level=0.5), "salun")["test_score_half_width"]
    assert narrower == pytest.approx(salun["test_score_half_width"] * stats.t.ppf(0.75, 2) / stats.t.ppf(0.975, 2))


def test_one_seed_has_no_interval(stored):
    stored("salun")
    made = board(stored.root)
    assert row(made, "salun")["n"] == 1 and np.isnan(row(made, "salun")["test_score_half_width"])
    assert "±" not in made.text().split("Per cent")[0]


def test_level_must_be_a_probability(stored):
    with pytest.raises(MubenchError, match="between 0 and 1"):
        board(stored.root, level=95)


def test_undefined_values_are_not_counted(stored):
    stored("salun", 0)
    stored("salun", 1, frame=stored.predictions(5).query("set != 'forget' or index < 4").reset_index(drop=True))
    made = board(stored.root)
    assert row(made, "salun")["mia_logistic_n"] == 1 and row(made, "salun")["test_score_n"] == 2
    assert "(n=1)" in made.markdown()


# -- references
# ----------------------------------------------------------------------------------------------------------


def test_distances_come_from_the_retrain_run_of_the_same_seed(stored):
    retrain = [stored("retrain", seed) for seed in (0, 1)]
    salun = [stored("salun", seed) for seed in (0, 1, 2)]
    made = board(stored.root)
    for name in ("gap_to_retrain", "js_to_retrain"):
        expected = [score(a, b)[name] for a, b in zip(salun, retrain)]
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


def test_retrain_of_other_examples_gives_no_distances_but_a_note(stored):
    stored("retrain", frame=stored.predictions(5).query("index > 0").reset_index(drop=True))
    stored("salun")
    made = board(stored.root)
    assert row(made, "salun")["n"] == 1 and np.isnan(row(made, "salun")["gap_to_retrain"])
    assert any("no distances to retrain" in note and "indices differ" in note for note in made.notes)


def test_missing_references_stand_first_with_their_commands(stored):
    for seed in (0, 3):
        stored("salun", seed, ratio="2.5")
    made = board(stored.root)
    assert list(made.rows["label"]) == ["original", "retrain", "salun"]
    assert list(made.rows["n"]) == [0, 0, 2] and made.rows["test_score"].isna().tolist() == [True, True, False]
    for name in ("original", "retrain"):
        command = f"mubench run fashion {name} --model resnet --ratio 2.5 --seed 0 3 --out {stored.root}"
        assert any(note.endswith(command) for note in made.notes)
    assert re.search(r"retrain +(– +)+0$", made.text(), re.M)


def test_nothing_is_missing_when_nothing_is(stored):
    for name in ("salun", "retrain", "original"):
        stored(name)
    made = board(stored.root)
    assert list(made.rows["label"]) == ["original", "retrain", "salun"] and made.notes == []


def test_every_original_that_a_seed_starts_from_needs_its_run(stored):
    stored.five("salun", "retrain")
    stored("original", 0)
    notes = board(stored.root).notes
    said = "no original for seed 1 2 3 4: mubench run fashion original --model resnet --ratio 5 --seed 1 2 3 4"
    assert len(notes) == 1 and said in notes[0]
    one = type(stored)(stored.root.parent / "one")
    one.five("salun", "retrain", original="c" * 64)
    one("original", 3, original="c" * 64)
    assert board(one.root).notes == []


# -- rows and their order
# --------------------------------------------------------------------------------------------------


def test_settings_have_rows_of_their_own(stored):
    stored("salun")
    stored("salun", params={"lr": 0.001})
    stored("salun", params={"lr": 0.001}, max_steps=50)
    stored("salun", params={"lr": 0.002}, trials=20)
    stored("salun", version=2, precision="bf16")
    labels = set(board(stored.root).rows["label"])
    assert labels == {
        "original",
        "retrain",
        "salun",
        "salun (lr=0.001)",
        "salun (lr=0.001, max_steps=50)",
        "salun (tuned, 20 trials)",
        "salun v2 (precision=bf16)",
    }
    assert row(board(stored.root), "salun (lr=0.001)")["params"] == '{"lr": 0.001}'


def test_tuned_rows_with_different_choices_are_told_apart(stored):
    for lr in (0.1, 0.2):
        stored("salun", params={"lr": lr}, trials=20)
    assert {"salun (tuned, 20 trials, lr=0.1)", "salun (tuned, 20 trials, lr=0.2)"} < set(
        board(stored.root).rows["label"]
    )


def test_originals_of_ones_own_are_not_compared_those_of_the_seeds_are(stored):
    stored.five("salun")
    assert board(stored.root).rows["group"].nunique() == 1
    stored("salun", 1, checkpoint="mine", original="e" * 64)
    groups = board(stored.root).rows["group"].unique()
    assert len(groups) == 2
    assert [group.split("(")[1].split(",")[0] for group in groups] == ["original eeeeeeee", "original standard"]


def test_groups_are_in_the_order_of_their_ratios(stored):
    for ratio in ("10", "0.5", "5"):
        stored("salun", ratio=ratio)
    assert list(board(stored.root).rows["ratio"].unique()) == ["0.5", "5", "10"]


def test_ranked_by_the_gap_retrain_being_at_0(stored):
    stored.five("original", "retrain", "salun", "scrub", "finetune")
    made = board(stored.root)
    gaps = {name: row(made, name)["gap_to_retrain"] for name in ("salun", "scrub", "finetune")}
    best = sorted(gaps, key=gaps.get)
    assert list(made.rows["label"]) == ["original", "retrain", *best] and row(made, "retrain")["gap_to_retrain"] == 0
    assert [None if pd.isna(r) else r for r in made.rows["rank"]] == [None, None, 1, 2, 3]
    assert set(made.rows["remarks"]) == {""}
    lines = [line.split() for line in made.text().splitlines()]
    shown = [line[:2] for line in lines if line[:1] in (["1"], ["2"], ["3"])]
    assert shown == [[str(k), name] for k, name in enumerate(best, 1)]


def test_five_seeds_or_no_rank(stored):
    stored.five("retrain", "salun")
    for seed in range(4):
        stored("scrub", seed)
    made = board(stored.root)
    assert row(made, "salun")["rank"] == 1 and pd.isna(row(made, "scrub")["rank"])
    assert row(made, "scrub")["remarks"] == "4 of 5 seeds"
    assert "4 of 5 seeds" in made.text() and list(made.rows["label"])[-1] == "scrub"


def test_every_seed_needs_its_retrained_model(stored):
    stored.five("salun")
    for seed in range(3):
        stored("retrain", seed)
    found = row(board(stored.root), "salun")
    assert pd.isna(found["rank"]) and found["remarks"] == "retrain for 3 of 5 seeds"


@pytest.mark.parametrize("flops, share, rank", [(3 * 10**9, 0.1, 1), (30 * 10**9, 1.0, 1), (31 * 10**9, 31 / 30, None)])
def test_more_work_than_retraining_has_no_rank_and_no_time_decides(stored, flops, share, rank):
    stored.five("retrain")
    stored.five("salun", flops=flops, seconds=1e6)
    made = board(stored.root)
    found = row(made, "salun")
    assert found["relative_flops"] == pytest.approx(share)
    assert (None if pd.isna(found["rank"]) else found["rank"]) == rank
    assert found["remarks"] == ("" if rank else "more work than retraining")
    assert row(made, "retrain")["relative_flops"] == 1


def test_work_that_is_not_known_has_no_rank(stored):
    stored.five("retrain", "salun")
    change(stored("salun", 2), lambda data: data["costs"].update(flops=None))
    found = row(board(stored.root), "salun")
    assert pd.isna(found["rank"]) and found["remarks"] == "work not known"


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


def test_ranking_asks_for_the_integers_of_now(stored, monkeypatch):
    stored.five("retrain", "salun", "scrub", "finetune")
    stored.five("rand_label", engine=ENGINE + 1)
    stored.five("neggrad", version=registry.methods.get("neggrad").version + 1)
    made = board(stored.root)
    names = "rand_label", f"neggrad v{registry.methods.get('neggrad').version + 1}"
    old = dict.fromkeys(names, "of an older version")
    assert {label: row(made, label)["remarks"] for label in old} == old and made.rows["rank"].count() == 3
    monkeypatch.setattr(registry.tasks.get("fashion"), "version", 7)
    module.outdated.cache_clear()
    assert board(stored.root).rows["rank"].count() == 0
    module.outdated.cache_clear()


# -- one row, one code -------------------------------------------------------------------------------------------------


def test_a_method_edited_between_two_seeds_makes_two_rows(stored):
    stored.five("retrain")
    for seed in range(3):
        stored("salun", seed)
    edited = type(stored)(stored.root.parent / "edited")
    edited("salun", 0, code="b" * 16), edited("salun", 3, code="b" * 16)
    made = board([stored.root, edited.root])
    assert row(made, "salun (code aaaaaaaa)")["n"] == 3 and row(made, "salun (code bbbbbbbb)")["n"] == 2


def test_recorded_hyperparameters_make_rows_not_what_was_passed(stored):
    stored("salun", 0), stored("salun", 1, hyperparameters={"epochs": 4})
    assert sorted(board(stored.root).rows.query("method == 'salun'")["n"]) == [1, 1]


def test_records_of_schema_1_are_rows_of_their_own_and_named_where_names_would_be_equal(stored):
    stored.five("retrain", "original", "salun", schema=1, original="c" * 64)
    made = board(stored.root)
    assert list(made.rows["label"]) == ["original", "retrain", "salun"] and row(made, "salun")["schema"] == 1
    assert row(made, "salun")["rank"] == 1 and row(made, "salun")["remarks"] == "all seeds from one original"
    assert row(made, "retrain")["remarks"] == "" and row(made, "salun")["engine"] == module.SCHEMA_1_ENGINE
    newer = type(stored)(stored.root.parent / "newer")
    newer.five("salun")
    made = board([stored.root, newer.root])
    assert row(made, "salun (schema 1)")["n"] == 5 and row(made, "salun")["n"] == 5
    assert row(made, "salun")["remarks"] == ""
    assert sorted(made.rows["rank"].dropna()) == [1, 2]


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


def test_schema_1_is_of_engine_1(stored, monkeypatch):
    stored.five("retrain", "salun", schema=1)
    monkeypatch.setattr(module, "ENGINE", 2)
    module.outdated.cache_clear()
    assert "of an older version" in row(board(stored.root), "salun")["remarks"]
    module.outdated.cache_clear()


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


def test_the_official_protocol_is_ranked_apart(stored):
    stored.five("retrain", "salun")
    stored.five("salun", protocol="official")
    stored("salun", protocol="official", params={"lr": 0.1})
    made = board(stored.root)
    assert list(made.rows["variant"]) == ["default", "default", "default", "official", "custom"]
    assert row(made, "salun")["rank"] == row(made, "salun (protocol=official)")["rank"] == 1


def test_stopped_runs_are_marked(stored):
    stored("salun", 0)
    stored("salun", 1, status="stopped")
    stored("scrub", status="stopped")
    made = board(stored.root)
    assert "1 of 2 stopped by the budget" in row(made, "salun")["remarks"] and row(made, "salun")["n"] == 2
    assert "stopped by its budget" in row(made, "scrub")["remarks"]


# -- what is left out
# ------------------------------------------------------------------------------------------------------


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


# -- only
# ----------------------------------------------------------------------------------------------------------------


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


# -- over all groups
# -------------------------------------------------------------------------------------------------------


def test_overall_averages_the_groups_that_all_methods_have(stored):
    for ratio in ("2", "5", "10"):
        stored.five("retrain", "original", "salun", ratio=ratio)
    for ratio in ("2", "5"):
        stored.five("scrub", "finetune", ratio=ratio)
    stored("scrub", ratio="10", params={"lr": 0.1})
    made = board(stored.root)
    assert list(made.overall["label"][:2]) == ["original", "retrain"]
    assert set(made.overall["label"][2:]) == {"salun", "scrub", "finetune"}
    assert set(made.overall["n"]) == {2}
    for name in ("overall", "gap_to_retrain", "mia_loss_auc", "relative_flops"):
        expected = [row(made, "salun", ratio=ratio)[name] for ratio in ("2", "5")]
        assert made.overall.set_index("label").loc["salun", name] == pytest.approx(np.mean(expected))
    assert (
        "fashion / resnet / 10 % does not count for the overall table: fewer than half of the methods ran there"
        in made.notes
    )
    assert "overall, mean of 2 groups" in made.text()
    ranked = made.overall[made.overall["rank"].notna()]
    assert list(ranked["rank"]) == [1, 2, 3]
    assert list(ranked["gap_to_retrain"]) == sorted(ranked["gap_to_retrain"])
    assert ranked["mean_rank"].notna().all()


def test_a_mean_is_ranked_where_its_method_could_be_ranked_in_every_group(stored):
    for ratio in ("2", "5"):
        stored.five("retrain", "salun", ratio=ratio)
        for seed in range(5 if ratio == "2" else 4):
            stored("scrub", seed, ratio=ratio)
        stored.five("finetune", ratio=ratio, flops=10**9 if ratio == "2" else 40 * 10**9)
    table = board(stored.root).overall.set_index("label")
    assert table.loc["salun", "rank"] == 1 and table["rank"].count() == 1 and table["gap_to_retrain"].notna().sum() == 4
    assert table.loc["scrub", "remarks"] == "fewer than 5 seeds in 1 of 2 groups"
    assert table.loc["finetune", "remarks"] == "more work than retraining in 1 of 2 groups"


def test_overall_has_no_mean_over_other_groups(stored):
    stored("retrain", ratio="2")
    for ratio in ("2", "5"):
        stored("salun", ratio=ratio)
    salun, retrain = (board(stored.root).overall.set_index("label").loc[name] for name in ("salun", "retrain"))
    assert np.isnan(salun["gap_to_retrain"]) and np.isfinite(salun["overall"]) and np.isnan(retrain["overall"])


def test_methods_that_lack_a_group_are_shown_without_mean_and_rank(stored):
    for ratio in ("2", "5"):
        stored.five("retrain", "salun", "finetune", ratio=ratio)
    stored.five("scrub", ratio="2")
    made = board(stored.root)
    scrub = made.overall.set_index("label").loc["scrub"]
    assert np.isnan(scrub["overall"]) and pd.isna(scrub["rank"]) and (scrub["n"], scrub["groups"]) == (1, 2)
    assert scrub["missing"] == "fashion / resnet / 5 %" and "missing: fashion / resnet / 5 %" in made.text()
    assert sorted(made.overall["rank"].dropna()) == [1, 2]


def test_references_alone_make_a_table(stored):
    for ratio in ("2", "5"):
        stored("original", ratio=ratio)
    assert "original" in board(stored.root).text()


# -- files
# ---------------------------------------------------------------------------------------------------------------


def _some(stored):
    for ratio in ("2", "5"):
        for seed in range(2):
            for method in ("original", "retrain", "salun"):
                stored(method, seed, ratio=ratio, transfer=True)
    stored("salun", 0, params={"labels": "a|b_c & 50% `x` # <b>$ [31m"})
    stored("scrub", status="stopped")


def test_the_files_say_the_same(stored, tmp_path):
    _some(stored)
    made = board(stored.root, tmp_path / "tables")
    assert [name.rsplit("/", 1)[1] for name in made.files] == [
        "README.md",
        "board.csv",
        "overall.csv",
        "board.json",
        "board.tex",
        "board.parquet",
        "runs.parquet",
    ]
    table = pd.read_csv(made.files[1], float_precision="round_trip", keep_default_na=True)
    data = json.loads((tmp_path / "tables/board.json").read_text())
    for name in (part for value in VALUES for part in (value, f"{value}_half_width", f"{value}_n")):
        expected = made.rows[name].astype("float64").to_numpy()
        np.testing.assert_array_equal(table[name].astype("float64"), expected)
        np.testing.assert_array_equal(np.array([r.get(name) for r in data["rows"]], dtype="float64"), expected)
    assert data["notes"] == made.notes and data["mubench"] and len(data["overall"]) == len(made.across)

    markdown, latex = (open(made.files[i], encoding="utf-8").read() for i in (0, 4))
    lines = [line for line in markdown.splitlines() if line.count("|") > 14 and "---" not in line]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    texts = [line.rstrip("\\ ").split(" & ") for line in latex.splitlines() if " & " in line and line.endswith(r"\\")]
    for parsed in (cells, [[c.replace(r"$\pm$", "±").strip() for c in line] for line in texts if len(line) > 12]):
        gaps = [line[2] for line in parsed if re.match(r"\d", line[2])]
        filled = made.rows[made.rows["n"] > 0]
        expected = [round(100 * value, 1) for value in filled["gap_to_retrain"]]
        assert [float(text.split("±")[0]) for text in gaps][: len(filled)] == expected
    assert latex.count(r"\toprule") == latex.count(r"\end{tabular}") == 3


def test_text_is_escaped(stored, tmp_path):
    _some(stored)
    made = board(stored.root, tmp_path)
    markdown, latex = (open(made.files[i], encoding="utf-8").read() for i in (0, 4))
    assert r"salun (labels=a\|b_c \& 50% \`x\` \# \<b\>\$ \[31m)" in markdown
    assert r"salun (labels=a|b\_c \& 50\% `x` \# <b>\$ [31m)" in latex
    widths = {
        len(re.split(r"(?<!\\)\|", line)) for line in markdown.split("## ")[2].splitlines() if line.startswith("|")
    }
    assert len(widths) == 1
    assert "salun (labels=a|b_c & 50% `x` # <b>$ [31m)" in set(pd.read_csv(made.files[1])["label"])


def test_spreadsheets_run_nothing(stored):
    stored("salun")
    made = board(stored.root)
    made.rows = made.rows.assign(label='=cmd|"x"')  # no result with such a name is read
    assert '\'=cmd|"x"' in set(pd.read_csv(io.StringIO(made.csv()))["label"])


def test_the_same_results_give_the_same_bytes(stored, tmp_path):
    _some(stored)
    first, second = (board(stored.root, tmp_path / name) for name in ("a", "b"))
    assert [open(f, "rb").read() for f in first.files] == [open(f, "rb").read() for f in second.files]
    assert first.text() == second.text()


def test_a_board_of_notes_alone_is_written_too(stored, tmp_path):
    stored("salun", limit=64, status="limited")
    made = board(stored.root, tmp_path)
    assert made.text().startswith("note: ") and len(made.files) == 7
    assert json.loads((tmp_path / "board.json").read_text())["rows"] == []


# -- default and tuned, submissions
# ------------------------------------------------------------------------------------------


def test_default_tuned_and_custom_rows_are_ranked_apart(stored):
    for ratio in ("2", "5"):
        stored.five("original", "retrain", "salun", "scrub", ratio=ratio)
        stored.five("salun", "scrub", ratio=ratio, params={"lr": 0.002}, trials=20)
        stored.five("finetune", ratio=ratio, params={"lr": 0.1})
    made = board(stored.root)
    for _, rows in made.rows.groupby("group"):
        ranks = {variant: sorted(part["rank"].dropna()) for variant, part in rows.groupby("variant")}
        assert ranks == {"default": [1, 2], "tuned": [1, 2], "custom": [1]}
    tables = made.overall.groupby("selection")["label"].agg(list)
    assert set(tables["default"]) == {"original", "retrain", "salun", "scrub"}
    assert set(tables["tuned"]) == {"original", "retrain", "salun (tuned, 20 trials)", "scrub (tuned, 20 trials)"}
    assert "overall, tuned, mean of 2 groups" in made.text()
    assert list(made.wins().index) == ["salun", "scrub"]


def submit(stored, name, method, **options):
    """A result in a submission's folder."""
    folder = stored.root.parent / "submissions" / name
    there = type(stored)(folder / "results")(method, **options)
    (folder / "submission.json").write_text('{"title": "Mine"}')
    return there


def test_submitted_rows_stand_beside_the_projects_own_and_are_ranked_once_they_are_checked(stored):
    stored.five("original", "retrain", "salun")
    folders = [submit(stored, "mine", "salun", seed=seed, seconds=5) for seed in range(5)]
    made = board([stored.root, stored.root.parent / "submissions"])
    own, mine = row(made, "salun"), row(made, "salun [mine]")
    assert (own["level"], mine["level"], mine["submission"]) == ("reproduced", "reported", "mine")
    assert own["rank"] == 1 and pd.isna(mine["rank"])
    hashes = lambda folder: {name: file_hash(folder / name) for name in ("result.json", "predictions.parquet")}
    verdict = {"level": "recomputed", "mubench": "0.1.0", "machine": "a machine"}
    verdicts = {folder.name: {**verdict, "files": hashes(folder)} for folder in folders}
    (folders[0].parents[5] / "verified.json").write_text(json.dumps({"schema": 1, "results": verdicts}))
    made = board([stored.root, stored.root.parent / "submissions"])
    mine = row(made, "salun [mine]")
    assert mine["level"] == "recomputed" and mine["rank"] >= 1
    assert own["seconds"] == 12 and mine["seconds"] == 5 and np.isfinite(mine["gap_to_retrain"])
    assert "level" in made.text() and "recomputed" in made.markdown()


def test_a_submissions_retrain_is_nobody_elses_reference(stored):
    stored("salun")
    submit(stored, "first", "retrain")
    submit(stored, "second", "scrub")
    made = board([stored.root, stored.root.parent / "submissions"])
    assert np.isnan(row(made, "salun")["gap_to_retrain"]) and np.isnan(row(made, "scrub [second]")["gap_to_retrain"])


def test_a_second_build_recomputes_nothing(stored, monkeypatch, tmp_path):
    from mubench.leaderboard import records

    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    for method in ("retrain", "salun"):
        stored(method)
    first = board(stored.root)
    monkeypatch.setattr(records, "read_run", lambda folder: pytest.fail(f"{folder} was computed again"))
    assert board(stored.root).text() == first.text()
    monkeypatch.undo()
    changed = stored("salun", frame=stored.predictions(7))
    assert row(board(stored.root), "salun")["test_score"] == read(changed).metrics["test_score"]


def test_columns_are_the_documented_ones(stored, tmp_path):
    from mubench.leaderboard.board import ACROSS_COLUMNS, ROW_COLUMNS
    from mubench.leaderboard.records import COLUMNS

    for ratio in ("2", "5"):
        stored("salun", ratio=ratio)
    made = board(stored.root, tmp_path)
    assert (
        list(pd.read_csv(tmp_path / "board.csv"))
        == list(pd.read_parquet(tmp_path / "board.parquet"))
        == list(ROW_COLUMNS)
    )
    assert list(pd.read_csv(tmp_path / "overall.csv")) == list(ACROSS_COLUMNS) and list(
        pd.read_parquet(tmp_path / "runs.parquet")
    ) == list(COLUMNS)
    documented = set(re.findall(r"^\| `(\w+)` \|", made.markdown(), re.M))
    plain = {c for c in (*ROW_COLUMNS, *ACROSS_COLUMNS) if not re.search(r"_(half_width|low|high|n)$", c)}
    assert plain <= documented
