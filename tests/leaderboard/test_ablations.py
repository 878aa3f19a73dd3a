"""Ablations on made-up runs with known answers, and a tiny real one."""

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import mubench as mu
from made_runs import everything, frame
from mubench.errors import MubenchError
from mubench.leaderboard.charts import DPI
from mubench.leaderboard.studies.ablations import analyse, specs_of
from mubench.leaderboard.studies.kinds import KINDS

SEEDS = (0, 1, 2)


# -- points, intervals, what is missing
# ------------------------------------------------------------------------------------


def test_points_carry_the_mean_the_t_interval_and_n():
    runs = frame(
        [
            {"options": {"lora": 5.0}, "share": 4.98, "seed": seed, "forget_score": score}
            for seed, score in enumerate((0.7, 0.8, 0.9))
        ]
    )
    point = analyse("lora", runs)[0].table.query("value == 'forget_score'").iloc[0]
    assert (
        (point["at"], point["n"]) == ("5", 3)
        and point["mean"] == pytest.approx(0.8)
        and point["x"] == pytest.approx(4.98)
    )
    assert point["half_width"] == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)


def test_levels_without_a_run_are_named_and_nothing_is_drawn_from_one_level():
    runs = frame([{"options": {"lora": 5.0}, "share": 5.0, "method": method} for method in ("salun", "scrub")])
    main = analyse("lora", runs)[0]
    assert not main.rows and main.missing == [
        "fashion / resnet, 5 %: no share 1, 10, 25, 50, 75, dense of salun, scrub"
    ]
    more = frame([{"options": {"lora": 5.0}, "share": 5.0}, {"options": {"lora": 50.0}, "share": 50.0}, {}])
    main = analyse("lora", more)[0]
    assert [line.x for line in main.rows[0][0].lines] == [[5, 50, 100]] and main.missing == [
        "fashion / resnet, 5 %: no share 1, 10, 25, 75 of salun"
    ]


def test_curves_that_were_not_recorded_and_a_retrain_that_is_missing_are_named():
    main = analyse("budget", frame([{"relative_flops": math.nan}]))[0]
    assert not main.rows and "fashion / resnet: no curve of salun, --eval-every records it" in main.missing
    assert any("no complete retrain" in sentence for sentence in main.missing)
    curve = [{"step": 1, "seconds": 1.0, "flops": 1.0, "forget_score": 0.5, "test_score": 0.9, "retain_score": 0.9}]
    main = analyse("budget", frame([{"relative_flops": math.nan, "curve": curve}]))[0]
    assert not main.rows and main.missing == ["fashion / resnet: no complete retrain, whose work is the unit"]
    assert analyse("bias", frame([{"method": "original"}, {"transfer_score": None}]))[0].missing == [
        "fashion: no transfer set"
    ]


def test_runs_of_another_ablation_with_other_hyperparameters_or_ratios_do_not_count():
    runs = frame(
        [
            {"options": {"lora": 5.0}},
            {"options": {"curriculum": "superloss"}},
            {"options": {"lora": 5.0, "curriculum": "superloss"}},
            {"params": '{"lr": 1}'},
            {"ratio": "2"},
            {"options": {"precision": "bf16"}},
            {},
        ]
    )
    count = lambda kind: analyse(kind, runs)[0].table.drop_duplicates(["ratio", "at"])["at"].tolist()
    assert count("lora") == ["5", "dense"] and count("curriculum") == ["off", "1"] and count("ratio") == ["2", "5"]


def test_the_curriculum_counts_its_default_strength_and_pairs_seeds():
    runs = frame(
        [{"seed": s, "forget_score": 0.6 + s / 100, "options": o} for s in SEEDS for o in ({},)]
        + [{"seed": s, "forget_score": 0.7 + s / 100, "options": {"curriculum": "superloss"}} for s in SEEDS]
    )
    (found,) = analyse("curriculum", runs)[1].table.to_dict("records")
    assert (
        found["lambda"] == 1
        and found["forget_score_change"] == pytest.approx(0.1)
        and found["forget_score_half_width"] == pytest.approx(0, abs=1e-9)
    )


def test_the_least_share_that_forgets():
    runs = frame(
        [
            {"options": {"lora": float(s)} if s < 100 else {}, "share": float(s), "forget_score": score}
            for s, score in ((1, 0.99), (10, 0.985), (25, 0.99), (50, 0.8), (75, 0.7), (100, 0.6))
        ]
    )
    (found,) = analyse("lora", runs)[1].table.to_dict("records")
    assert found["least_share_that_forgets"] == 50 and found["dense_forget_score"] == 0.6


def test_a_budget_is_read_at_the_last_point_within_it():
    curve = [
        {
            "step": s,
            "seconds": 10.0 * s,
            "flops": 5e9 * s,
            "forget_score": 1 - s / 10,
            "test_score": 0.9,
            "retain_score": 0.9,
        }
        for s in (1, 2, 3, 9)
    ]
    runs = frame([{"curve": curve, "flops": 45e9, "relative_flops": 0.45}])  # retraining: 100 GFLOPs
    read = analyse("budget", runs)[1].table.query("value == 'forget_score'")
    assert read[["10%", "25%", "50%", "100%"]].to_numpy().round(9).tolist() == [[0.8, 0.7, 0.1, 0.1]]


def test_bias_is_the_change_on_transfer_beyond_that_on_test():
    runs = frame(
        [{"method": "original", "task": t, "transfer_score": 0.7} for t in ("fashion", "movie_snippets")]
        + [
            {"task": t, "test_score": 0.88, "transfer_score": 0.7 - d}
            for t, d in (("fashion", 0.1), ("movie_snippets", 0.06))
        ]
    )
    (found,) = analyse("bias", runs)[1].table.to_dict("records")
    assert (
        found["test_change"] == pytest.approx(-0.02)
        and found["transfer_change"] == pytest.approx(-0.08)
        and found["excess"] == pytest.approx(-0.06)
    )
    assert found["places"] == 2 and found["half_width"] == pytest.approx(12.7062 * 0.0282843 / math.sqrt(2), rel=1e-3)


# -- runs
# ------------------------------------------------------------------------------------------------------------------


def test_the_runs_of_an_ablation_vary_one_thing_and_name_their_levels():
    references, specs, left_out = specs_of("lora", ["fashion"], ["salun", "fisher"], seeds=SEEDS)
    assert (
        sorted({s.lora or 100 for s in specs if s.method == "salun"}) == [1, 5, 10, 25, 50, 75, 100]
        and len([s for s in specs if s.method == "salun"]) == 21
    )
    assert {s.method for s in references} == {"original", "retrain"} and not any(s.lora for s in references)
    assert any("fisher" in sentence for sentence in left_out)
    assert {
        s.curriculum_lambda for s in specs_of("curriculum", ["fashion"], ["salun"], at=[2.0])[1] if s.curriculum
    } == {2.0}
    assert [s.ratio for s in specs_of("ratio", ["fashion"], ["salun"], at=[2, 10])[1]] == ["2", "10"]
    assert {s.model for s in specs_of("scale", ["fashion"], ["salun"])[1]} == {"resnet", "vit"}


@pytest.mark.parametrize("kind, at, message", [("loar", None, "lora"), ("budget", [1.0], "budget varies no option")])
def test_wrong_kinds_and_levels_are_refused(kind, at, message):
    with pytest.raises(MubenchError, match=message):
        specs_of(kind, ["fashion"], ["salun"], at=at)


def test_expected_runs_that_are_not_there_are_missing_whatever_else_the_folder_holds():
    _, specs, _ = specs_of("lora", ["fashion"], ["salun"], at=[5.0])
    runs = frame(
        [
            {"id": specs[0].id, "options": {"lora": 5.0} if specs[0].lora else {}},
            {"id": "else", "options": {"lora": 50.0}},
        ]
    )
    main = analyse("lora", runs, specs)[0]
    assert (
        len(main.missing) == 1
        and "of salun" in main.missing[0]
        and set(main.table["at"]) == {"dense" if specs[0].lora is None else "5"}
    )


# -- files
# -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_and_writes_the_same_bytes_twice(kind, tmp_path):
    runs = everything(tasks=("fashion",), methods=("neggrad", "salun"), seeds=(0, 1))
    for folder in ("a", "b"):
        for exhibit in analyse(kind, runs):
            exhibit.write(tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {f"{kind}.{suffix}" for suffix in ("png", "svg", "csv", "md", "tex")} <= set(files)
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    picture = Image.open(tmp_path / "a" / f"{kind}.png")
    assert picture.width == 7.0 * DPI and len(picture.convert("RGB").getcolors(100_000)) > 50
    table = pd.read_csv(tmp_path / "a" / f"{kind}.csv")
    assert len(table) and table["mean"].between(-1, 1).all()


def test_without_data_there_is_no_picture_and_one_of_before_goes(tmp_path):
    (tmp_path / "lora.png").write_bytes(b"old")
    analyse("lora", frame([{}]))[0].write(tmp_path)
    assert not (tmp_path / "lora.png").exists() and "missing: fashion / resnet" in (tmp_path / "lora.md").read_text()


def test_the_analysis_imports_no_torch():
    code = (
        "import sys; from made_runs import everything; from mubench.leaderboard.studies.ablations import analyse;"
        " analyse('lora', everything()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0


def test_ablate_runs_draws_and_skips_what_is_done(tmp_path, capsys, foretold):
    from mubench import cli

    line = [
        "ablate",
        "lora",
        "fashion",
        "--method",
        "rand_label",
        "--at",
        "10",
        "--limit",
        "32",
        "--out",
        str(tmp_path / "results"),
        "--figures",
        str(tmp_path / "out"),
    ]
    cli.main([*line, "--dry-run"])
    assert "4 runs" in capsys.readouterr().out
    cli.main(line)
    first = capsys.readouterr().out
    assert "a trial on 32 rows" in first and "rand_label" in first and (tmp_path / "out" / "lora.png").is_file()
    table = pd.read_csv(tmp_path / "out" / "lora.csv")
    assert set(table["at"]) == {"10", "dense"} and abs(table.query("at == '10'")["x"].iloc[0] - 10) < 1
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("result.json")}
    main, _ = mu.ablate("lora", ["fashion"], ["rand_label"], at=[10], limit=32, out=tmp_path / "results")
    assert (
        len(times) == 4
        and times == {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("result.json")}
        and not main.missing
    )
