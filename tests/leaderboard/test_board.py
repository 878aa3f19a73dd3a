"""The tables and files of a board."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from boards import row
from mubench.errors import MubenchError
from mubench.leaderboard.board import board
from mubench.leaderboard.columns import ACROSS_COLUMNS, ROW_COLUMNS, RUN_COLUMNS, VALUES
from mubench.records.result import read


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

    markdown, latex = (Path(made.files[i]).read_text(encoding="utf-8") for i in (0, 4))
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
    markdown, latex = (Path(made.files[i]).read_text(encoding="utf-8") for i in (0, 4))
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
    assert [Path(f).read_bytes() for f in first.files] == [Path(f).read_bytes() for f in second.files]
    assert first.text() == second.text()


def test_a_board_of_notes_alone_is_written_too(stored, tmp_path):
    stored("salun", limit=64, status="limited")
    made = board(stored.root, tmp_path)
    assert made.text().startswith("note: ") and len(made.files) == 7
    assert json.loads((tmp_path / "board.json").read_text())["rows"] == []


def test_columns_are_the_documented_ones(stored, tmp_path):
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
    ) == list(RUN_COLUMNS)
    documented = set(re.findall(r"^\| `(\w+)` \|", made.markdown(), re.M))
    plain = {c for c in (*ROW_COLUMNS, *ACROSS_COLUMNS) if not re.search(r"_(half_width|low|high|n)$", c)}
    assert plain <= documented
