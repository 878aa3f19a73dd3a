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
from mubench.leaderboard.board import VALUES, board
from mubench.results import RunSpec, read, score


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


# -- references ----------------------------------------------------------------------------------------------------------


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
    assert any("no complete retrain for seed 2: mubench run fashion retrain" in note for note in made.notes)


@pytest.mark.parametrize("other", [{"checkpoint": "e" * 64}, {"ratio": "10"}, {"seed": 1}, {"status": "stopped"},
                                   {"params": {"epochs": 1}}])
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


# -- rows and their order --------------------------------------------------------------------------------------------------


def test_settings_have_rows_of_their_own(stored):
    stored("salun")
    stored("salun", params={"lr": 0.001})
    stored("salun", params={"lr": 0.001}, max_steps=50)
    stored("salun", params={"lr": 0.002}, trials=20)
    stored("salun", version=2, precision="bf16")
    labels = set(board(stored.root).rows["label"])
    assert labels == {"original", "retrain", "salun", "salun (lr=0.001)", "salun (lr=0.001, max_steps=50)",
                      "salun (tuned, 20 trials)", "salun v2 (precision=bf16)"}
    assert row(board(stored.root), "salun (lr=0.001)")["params"] == '{"lr": 0.001}'


def test_tuned_rows_with_different_choices_are_told_apart(stored):
    for lr in (0.1, 0.2):
        stored("salun", params={"lr": lr}, trials=20)
    assert {"salun (tuned, 20 trials, lr=0.1)", "salun (tuned, 20 trials, lr=0.2)"} < set(board(stored.root).rows["label"])


def test_other_originals_are_not_compared(stored):
    stored("salun")
    stored("salun", 1, checkpoint="e" * 64)
    groups = board(stored.root).rows["group"].unique()
    assert len(groups) == 2 and all(group.startswith("fashion / resnet / 5 % (original ") for group in groups)


def test_groups_are_in_the_order_of_their_ratios(stored):
    for ratio in ("10", "0.5", "5"):
        stored("salun", ratio=ratio)
    assert list(board(stored.root).rows["ratio"].unique()) == ["0.5", "5", "10"]


def test_ranked_by_overall_and_the_slow_unranked(stored):
    stored("original")
    stored("retrain")
    quick = {name: read(stored(name)).metrics["overall"] for name in ("salun", "scrub", "finetune")}
    stored("neggrad", seconds=101)
    made = board(stored.root)
    best = sorted(quick, key=lambda name: (-quick[name], name))
    assert list(made.rows["label"]) == ["original", "retrain", *best, "neggrad"]
    assert [None if pd.isna(r) else r for r in made.rows["rank"]] == [
        None, None, *(1 + sum(other > quick[name] for other in quick.values()) for name in best), None]
    assert row(made, "neggrad")["relative_seconds"] == 1.01 and row(made, "neggrad")["remarks"] == "slower than retraining"
    assert "slower than retraining" in made.text()


def test_times_are_of_the_cpu_where_there_is_no_gpu(stored):
    for machine in ("x86_64 CPU, 2 cores", "NVIDIA H200"):  # 100 s of the wall clock for 10 s of work: a busy machine
        stored("retrain", ratio="5" if "CPU" in machine else "2", machine=machine, seconds=20, wall=50)
        stored("salun", ratio="5" if "CPU" in machine else "2", machine=machine, seconds=10, wall=100)
    rows = board(stored.root).rows.set_index(["method", "ratio"])
    assert rows.loc[("salun", "5"), "seconds"] == 10 and rows.loc[("salun", "5"), "relative_seconds"] == 0.5
    assert rows.loc[("salun", "2"), "seconds"] == 100 and rows.loc[("salun", "2"), "remarks"] == "slower than retraining"
    assert rows.loc[("salun", "5"), "remarks"] == "" and rows.loc[("salun", "5"), "rank"] == 1


def test_times_of_other_hardware_are_not_compared(stored):
    stored("retrain")
    stored("salun", seconds=1000, machine="a GPU")
    found = row(board(stored.root), "salun")
    assert np.isnan(found["relative_seconds"]) and found["remarks"] == "" and found["rank"] == 1


def test_stopped_runs_are_marked(stored):
    stored("salun", 0)
    stored("salun", 1, status="stopped")
    stored("scrub", status="stopped")
    made = board(stored.root)
    assert row(made, "salun")["remarks"] == "1 of 2 stopped by the budget" and row(made, "salun")["n"] == 2
    assert row(made, "scrub")["remarks"] == "stopped by its budget" and row(made, "scrub")["rank"] > 0


# -- what is left out ------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("damage, why", [
    (_predictions, "was changed"), (_metric, "metric test_score is 0.99"), (_seconds, "seconds is -1"),
    (_no_checksum, "was changed"), (_no_json, "is refused"), (_no_predictions, "no file that can be read"),
    (_no_parquet, "arquet")])
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


def test_of_two_results_of_one_run_the_later_counts(stored, tmp_path):
    first, other = stored("salun", 0), type(stored)(tmp_path / "other")
    second = other("salun", 0, started="2026-02-01T00:00:00Z", seconds=7)
    made = board([stored.root, other.root])
    assert row(made, "salun")["seconds"] == 7 and row(made, "salun")["n"] == 1
    assert any(note.startswith(f"{first} is left out: {second} is the later") for note in made.notes)
    _metric(second)
    assert row(board([stored.root, other.root]), "salun")["seconds"] == 10


def test_no_results_says_what_to_run(tmp_path):
    with pytest.raises(MubenchError, match=r"no results below .*`mubench run TASK METHOD --out "):
        board(tmp_path / "none")


# -- only ----------------------------------------------------------------------------------------------------------------


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


# -- over all groups -------------------------------------------------------------------------------------------------------


def test_overall_averages_the_groups_that_all_methods_have(stored):
    for ratio in ("2", "5", "10"):
        for method in ("retrain", "original", "salun"):
            stored(method, ratio=ratio)
    for ratio in ("2", "5"):
        stored("scrub", ratio=ratio)
        stored("finetune", ratio=ratio)
    stored("scrub", ratio="10", params={"lr": 0.1})
    made = board(stored.root)
    assert list(made.overall["label"][:2]) == ["original", "retrain"]
    assert set(made.overall["label"][2:]) == {"salun", "scrub", "finetune"}
    assert set(made.overall["n"]) == {2}
    for name in ("overall", "gap_to_retrain", "mia_loss_auc", "relative_seconds"):
        expected = [row(made, "salun", ratio=ratio)[name] for ratio in ("2", "5")]
        assert made.overall.set_index("label").loc["salun", name] == pytest.approx(np.mean(expected))
    assert "fashion / resnet / 10 % does not count for the overall table: fewer than half of the methods ran there" in made.notes
    assert "overall, mean of 2 groups" in made.text()


def test_overall_has_no_mean_over_other_groups(stored):
    stored("retrain", ratio="2")
    for ratio in ("2", "5"):
        stored("salun", ratio=ratio)
    salun, retrain = (board(stored.root).overall.set_index("label").loc[name] for name in ("salun", "retrain"))
    assert np.isnan(salun["gap_to_retrain"]) and np.isfinite(salun["overall"]) and np.isnan(retrain["overall"])


def test_methods_that_lack_a_group_are_shown_without_mean_and_rank(stored):
    for ratio in ("2", "5"):
        for method in ("salun", "finetune"):
            stored(method, ratio=ratio)
    stored("scrub", ratio="2")
    made = board(stored.root)
    scrub = made.overall.set_index("label").loc["scrub"]
    assert np.isnan(scrub["overall"]) and pd.isna(scrub["rank"]) and (scrub["n"], scrub["groups"]) == (1, 2)
    assert scrub["missing"] == "fashion / resnet / 5 %" and "missing: fashion / resnet / 5 %" in made.text()
    assert sorted(made.overall["rank"].dropna()) == [1, 2]


def test_references_alone_make_a_table(stored):
    for ratio in ("2", "5"):
        stored("original", ratio=ratio)
    assert "original" in board(stored.root).text()


# -- files ---------------------------------------------------------------------------------------------------------------


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
        "README.md", "board.csv", "overall.csv", "board.json", "board.tex", "board.parquet", "runs.parquet"]
    table = pd.read_csv(made.files[1], float_precision="round_trip", keep_default_na=True)
    data = json.loads((tmp_path / "tables/board.json").read_text())
    for name in (part for value in VALUES for part in (value, f"{value}_half_width", f"{value}_n")):
        expected = made.rows[name].astype("float64").to_numpy()
        np.testing.assert_array_equal(table[name].astype("float64"), expected)
        np.testing.assert_array_equal(np.array([r.get(name) for r in data["rows"]], dtype="float64"), expected)
    assert data["notes"] == made.notes and data["mubench"] and len(data["overall"]) == len(made.across)

    markdown, latex = (open(made.files[i], encoding="utf-8").read() for i in (0, 4))
    lines = [line for line in markdown.splitlines() if line.count("|") > 10 and "---" not in line]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    texts = [line.rstrip("\\ ").split(" & ") for line in latex.splitlines() if " & " in line and line.endswith(r"\\")]
    for parsed in (cells, [[c.replace(r"$\pm$", "±").strip() for c in line] for line in texts if len(line) > 8]):
        tests = [line[2] for line in parsed if re.match(r"\d", line[2])]
        filled = made.rows[made.rows["n"] > 0]
        expected = [round(100 * value, 1) for value in filled["test_score"]]
        assert [float(text.split("±")[0]) for text in tests][:len(filled)] == expected
    assert latex.count(r"\toprule") == latex.count(r"\end{tabular}") == 3


def test_text_is_escaped(stored, tmp_path):
    _some(stored)
    made = board(stored.root, tmp_path)
    markdown, latex = (open(made.files[i], encoding="utf-8").read() for i in (0, 4))
    assert r"salun (labels=a\|b_c \& 50% \`x\` \# \<b\>\$ \[31m)" in markdown
    assert r"salun (labels=a|b\_c \& 50\% `x` \# <b>\$ [31m)" in latex
    widths = {len(re.split(r"(?<!\\)\|", line)) for line in markdown.split("## ")[2].splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert "salun (labels=a|b_c & 50% `x` # <b>$ [31m)" in set(pd.read_csv(made.files[1])["label"])


def test_spreadsheets_run_nothing(stored):
    stored("salun")
    made = board(stored.root)
    made.rows = made.rows.assign(label='=cmd|"x"')  # no result with such a name is read
    assert "'=cmd|\"x\"" in set(pd.read_csv(io.StringIO(made.csv()))["label"])


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


# -- default and tuned, submissions ------------------------------------------------------------------------------------------


def test_default_tuned_and_custom_rows_are_ranked_apart(stored):
    for ratio in ("2", "5"):
        for method in ("original", "retrain", "salun", "scrub"):
            stored(method, ratio=ratio)
        for method in ("salun", "scrub"):
            stored(method, ratio=ratio, params={"lr": 0.002}, trials=20)
        stored("finetune", ratio=ratio, params={"lr": 0.1})
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
    for method in ("original", "retrain", "salun"):
        stored(method)
    folder = submit(stored, "mine", "salun", seconds=5)
    made = board([stored.root, stored.root.parent / "submissions"])
    own, mine = row(made, "salun"), row(made, "salun [mine]")
    assert (own["level"], mine["level"], mine["submission"]) == ("reproduced", "reported", "mine")
    assert own["rank"] == 1 and pd.isna(mine["rank"])
    files = {name: file_hash(folder / name) for name in ("result.json", "predictions.parquet")}
    verdict = {"level": "recomputed", "files": files, "mubench": "0.1.0", "machine": "a machine"}
    (folder.parents[5] / "verified.json").write_text(json.dumps({"schema": 1, "results": {folder.name: verdict}}))
    made = board([stored.root, stored.root.parent / "submissions"])
    mine = row(made, "salun [mine]")
    assert mine["level"] == "recomputed" and mine["rank"] >= 1
    assert own["seconds"] == 10 and mine["seconds"] == 5 and np.isfinite(mine["gap_to_retrain"])
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
    assert list(pd.read_csv(tmp_path / "board.csv")) == list(pd.read_parquet(tmp_path / "board.parquet")) == list(ROW_COLUMNS)
    assert list(pd.read_csv(tmp_path / "overall.csv")) == list(ACROSS_COLUMNS) and list(pd.read_parquet(tmp_path / "runs.parquet")) == list(COLUMNS)
    documented = set(re.findall(r"^\| `(\w+)` \|", made.markdown(), re.M))
    plain = {c for c in (*ROW_COLUMNS, *ACROSS_COLUMNS) if not re.search(r"_(half_width|low|high|n)$", c)}
    assert plain <= documented
