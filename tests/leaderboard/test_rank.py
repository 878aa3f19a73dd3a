"""The rows of a group: which there are, which have a rank, in which order they stand."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from boards import change, row, submit
from mubench import registry
from mubench.cache import file_hash
from mubench.leaderboard import rows as module
from mubench.leaderboard.board import board
from mubench.spec import ENGINE


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


def test_ranking_asks_for_the_integers_of_now(stored, monkeypatch):
    stored.five("retrain", "salun", "scrub", "finetune")
    stored.five("rand_label", engine=ENGINE + 1)
    stored.five("neggrad", version=registry.methods.get("neggrad").version + 1)
    made = board(stored.root)
    names = "rand_label", f"neggrad v{registry.methods.get('neggrad').version + 1}"
    old = dict.fromkeys(names, "of an older version")
    assert {label: row(made, label)["remarks"] for label in old} == old and made.rows["rank"].count() == 3
    monkeypatch.setattr(registry.tasks.get("fashion"), "version", 7)
    assert board(stored.root).rows["rank"].count() == 0


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


def test_schema_1_is_of_engine_1(stored, monkeypatch):
    stored.five("retrain", "salun", schema=1)
    monkeypatch.setattr(module, "ENGINE", 2)
    assert "of an older version" in row(board(stored.root), "salun")["remarks"]


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
