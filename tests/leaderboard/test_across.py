"""Means over groups."""

import numpy as np
import pandas as pd
import pytest

from boards import row
from mubench.leaderboard.board import board


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
