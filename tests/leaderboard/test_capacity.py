"""The deletion capacity of made-up runs whose answer is known by hand."""

import pytest

from made_runs import frame
from mubench.errors import MubenchError
from mubench.leaderboard.studies.ablations import analyse
from mubench.leaderboard.studies.capacity import capacity


def ratio_runs(scores, **more):
    """Runs of one method whose test score at 1, 2, 3 … % is as said, plus what each seed adds."""
    return frame(
        [
            {"ratio": str(r), "test_score": score + shift, "seed": seed, **more}
            for r, score in enumerate(scores, 1)
            for seed, shift in enumerate((-0.004, 0.0, 0.004))
        ]
    )


def test_the_capacity_is_the_largest_ratio_within_the_margin_of_the_original():
    runs = ratio_runs([0.9, 0.89, 0.881, 0.875, 0.86])  # the original: 0.9; the seeds of 3 %: 0.877, 0.881, 0.885
    (found,) = analyse("ratio", runs, margin=0.02)[1].table.to_dict("records")
    assert (found["capacity"], found["least"], found["most"], found["seeds"]) == (3, 2, 3, 3)
    assert found["largest_tried"] == 5 and found["fails"] is None
    others_tried_one_ratio = runs[(runs["seed"] == 0) | (runs["ratio_order"] == 1)]
    one = analyse("ratio", others_tried_one_ratio)[1].table.iloc[0]
    assert (one["seeds"], one["largest_tried"]) == (1, 5) and one["least"] == one["most"] > 1


def test_the_margin_is_an_argument_and_nothing_is_interpolated():
    runs = ratio_runs([0.9, 0.7])
    found = lambda margin: float(capacity(runs, margin=margin)[0]["capacity"].iloc[0])
    assert [found(margin) for margin in (0.0, 0.05, 0.1999, 0.2)] == [1, 1, 1, 2]
    with pytest.raises(MubenchError, match="margin 2"):
        analyse("ratio", runs, margin=2)


def test_a_ratio_that_fails_below_the_capacity_is_named_and_none_within_the_margin_is_zero():
    assert capacity(ratio_runs([0.9, 0.8, 0.9]))[0][["capacity", "fails"]].iloc[0].tolist() == [3, "2"]
    assert capacity(ratio_runs([0.5, 0.4]))[0]["capacity"].iloc[0] == 0
