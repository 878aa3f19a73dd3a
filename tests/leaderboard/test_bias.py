"""Bias amplification against hand-made answers, and of stored runs."""

import numpy as np
import pandas as pd
import pytest

from made_runs import frame
from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard.studies import bias
from mubench.leaderboard.studies.ablations import analyse
from mubench.leaderboard.studies.bias import amplification
from mubench.registry import load_task

A = ["x"] * 10 + ["y"] * 10
T = [1] * 7 + [0] * 3 + [1] * 3 + [0] * 7  # label 1 goes with x


def test_right_predictions_amplify_nothing_and_the_shortcut_alone_amplifies_most():
    assert amplification(A, T, T) == 0
    assert amplification(A, T, [1] * 10 + [0] * 10) == pytest.approx(0.3)  # Δ = ±0.3 in each of the four cells
    assert amplification(A, T, [0] * 10 + [1] * 10) == pytest.approx(-0.7)
    assert amplification(A, T, [1] * 20) == pytest.approx(
        (0.3 - 0.7 + 0.3 - 0.7) / 4
    )  # more of (x, 1), less of (y, 0), signed; the others lower it


def test_the_formula_of_the_paper_cell_by_cell():
    rng = np.random.default_rng(0)
    a, t, p = rng.integers(0, 3, 400), rng.integers(0, 4, 400), rng.integers(0, 4, 400)
    cells = []
    for x in range(3):
        for y in range(4):
            together = np.mean((a == x) & (t == y)) > np.mean(a == x) * np.mean(t == y)
            delta = np.mean(p[a == x] == y) - np.mean(t[a == x] == y)
            cells.append(delta if together else -delta)
    assert amplification(a, t, p) == pytest.approx(np.mean(cells))
    order = rng.permutation(400)
    assert amplification(a[order], t[order], p[order]) == pytest.approx(amplification(a, t, p))
    with pytest.raises(MubenchError, match="equally many rows, not 2, 1 and 1"):
        amplification([0, 1], [0], [0])


STATED = [name for name in registry.tasks.names() if registry.tasks.get(name).shortcut]


def test_some_tasks_of_either_tier_state_a_shortcut():
    assert {registry.tasks.get(name).tier for name in STATED} == {"mini", "paper"}


@pytest.mark.parametrize(
    "row, task, value",
    [
        ({"text": "It isn't good."}, "movie_snippets", "negated"),
        ({"text": "A notable film"}, "movie_snippets", "plain"),
        ({"text": "NO plot"}, "movie_snippets", "negated"),
        ({"text": "mot " * 28}, "drug_interactions", "short"),
        ({"text": "mot " * 29}, "drug_interactions", "long"),
        ({"text": "Great. 8 out of 10!"}, "imdb", "high mark"),
        ({"text": "I give it 3/10."}, "imdb", "low mark"),
        ({"text": "10/10"}, "imdb", "high mark"),
        ({"text": "5.5 / 10"}, "imdb", "high mark"),
        ({"text": "on 9/11, 110/100"}, "imdb", "no mark"),
    ],
)
def test_attributes_of_rows(row, task, value):
    assert load_task(task).attribute(row) == value


@pytest.mark.parametrize("name", [name for name in STATED if registry.tasks.get(name).tier == "mini"])
def test_the_shortcut_goes_with_the_label_as_the_data_card_says(name):
    """In the training rows, the strongest link of attribute and label is as strong as the card's two percentages
    say.
    """
    import re

    task = load_task(name)
    try:
        rows = task.data["train"]
    except MubenchError as error:
        pytest.skip(str(error))
    table = pd.crosstab([task.attribute(row) for row in rows], rows["label"], normalize="index")
    said = [int(number) for number in re.findall(r"(\d+) %", task.shortcut)]
    column = (table.max() - table.min()).idxmax()
    assert (100 * table).round()[
        [c for c in table if sorted((100 * table[c]).round()) == sorted(said)][0]
    ].tolist() and sorted((100 * table[column]).round()) in (sorted(said), sorted(100 - n for n in said))


def stored(folder, target, prediction, index):
    folder.mkdir(parents=True)
    pd.DataFrame({"set": "test", "index": index, "target": target, "prediction": prediction}).to_parquet(
        folder / "predictions.parquet"
    )
    return str(folder)


@pytest.fixture
def rows(monkeypatch):
    """movie_snippets with 20 test rows of known attributes."""
    monkeypatch.setattr(bias, "_test_rows", lambda task: (np.array(A), np.array(T)))


def test_stored_runs_are_measured_by_their_test_rows(tmp_path, rows):
    even = np.arange(0, 20, 2)
    folders = {
        name: stored(tmp_path / name, np.array(T)[even], np.array(said)[even], even)
        for name, said in (("original", T), ("salun", [1] * 10 + [0] * 10))
    }
    runs = frame(
        [
            {"task": "movie_snippets", "method": name, "folder": folder, "transfer_score": 0.7}
            for name, folder in folders.items()
        ]
        + [
            {"task": "movie_snippets", "method": "scrub", "folder": str(tmp_path / "gone"), "transfer_score": 0.7},
            {"task": "fashion", "method": "salun"},
        ]
    )
    values, missing = bias.measured(runs)
    expected = amplification(np.array(A)[even], np.array(T)[even], np.array([1] * 10 + [0] * 10)[even])
    assert values[0] == 0 and values[1] == pytest.approx(expected) and expected > 0 and values[2:].isna().all()
    assert missing == ["movie_snippets: no bias amplification, the predictions are not here (1 runs)"]
    main, found = analyse("bias", runs)
    change = found.table.set_index("method")["bias_change"]
    assert change["salun"] == pytest.approx(expected) and np.isnan(change["scrub"])
    assert missing[0] in main.missing and any("a word of negation" in note for note in main.notes)
    assert [len(row) for row in main.rows] == [1, 1]  # transfer of movie_snippets; bias of it


def test_predictions_on_other_rows_are_not_measured(tmp_path, rows):
    runs = frame(
        [
            {"task": "movie_snippets", "folder": stored(tmp_path / "a", [0, 0], [0, 1], [0, 1])},
            {"task": "movie_snippets", "folder": stored(tmp_path / "b", [0, 0], [0, 1], [19, 20])},
        ]
    )
    values, missing = bias.measured(runs)
    assert values.isna().all() and missing == [
        "movie_snippets: no bias amplification, the predictions are of other test rows than the task's (2 runs)"
    ]
