"""The paper from made-up records: what is there, what is missing, what was published."""

import json
import re
import xml.etree.ElementTree

import pandas as pd
import pytest

from made_runs import everything, frame
from mubench import cli
from mubench.errors import MubenchError
from mubench.leaderboard.studies.paper.published import SAME_FIVE, TWINS
from mubench.leaderboard.studies.paper.report import exhibits, paper
from mubench.records.result import read

ALL = [*(f"Table {n}" for n in range(1, 7)), *(f"Figure {n}" for n in (2, 3, *range(5, 16)))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("paper")
    return out, paper(everything(seeds=(0, 1)), out)


def test_every_table_and_figure_of_the_paper_has_its_files(made):
    out, page = made
    assert list(exhibits(frame([{}]))) == ALL
    for name in ALL:
        stem = name.lower().replace(" ", "_")
        there = {path.suffix for path in out.glob(f"{stem}.*")}
        drawn = name in ("Figure 2", "Figure 3", "Figure 5", "Figure 6", "Figure 7", "Figure 8")
        expected = (
            {".md", ".csv", ".tex", ".png", ".svg"}
            if drawn
            else {".md", ".csv", ".tex"}
            if name.startswith("Table")
            else {".md"}
        )
        assert there == expected, name
        assert f'id="{stem}"' in page.read_text()
    for path in out.glob("*.svg"):
        xml.etree.ElementTree.parse(path)


def test_the_page_names_what_is_missing_and_every_file_it_links_is_there(made):
    out, page = made
    text = page.read_text()
    assert "Missing: cifar100: no run." in text and "no run of the default settings at 5 % on cifar100, imdb" in text
    links = set(re.findall(r'(?:href|src)="([\w.]+)"', text)) - {""}
    assert len(links) > 50 and all((out / link).is_file() for link in links)


def test_published_numbers_are_marked_and_stand_beside_ours(made):
    out, _ = made
    table = pd.read_csv(out / "table_1.csv").set_index(["task", "model"])
    assert table.loc[("cifar100", "resnet_50"), "published_score"] == 0.8328 and pd.isna(
        table.loc[("cifar100", "resnet_50"), "original_score"]
    )
    assert (
        table.loc[("nlvr2", "vilt"), "published_rows"] == "62 K"
        and table.loc[("nlvr2", "vilt"), "published_transfer"] == 0.76557
    )
    three = pd.read_csv(out / "table_3.csv").set_index("task")
    assert three.loc["speech_commands", ["published_off", "published_on"]].tolist() == [0.428, 0.174]
    assert three.loc["mean over tasks", ["published_off", "published_on"]].tolist() == [0.469, 0.441]
    two = pd.read_csv(out / "table_2.csv").set_index("method")["published"]
    assert (
        two["neggrad"] == "the same"
        and two["scrub"] == "Loss · Grad · Loss + Rep · dense internal"
        and two["npo"] == "not in the paper"
    )
    for name in ("table_5.md", "table_6.md"):
        assert (
            all(str(number) in (out / name).read_text() for number in SAME_FIVE)
            and "same five numbers" in (out / name).read_text()
        )


def test_the_curriculum_table_averages_methods_and_their_change():
    rows = [
        {"method": m, "forget_score": f, "options": o}
        for m, off, on in (("salun", 0.5, 0.6), ("scrub", 0.7, 0.9))
        for f, o in ((off, {}), (on, {"curriculum": "superloss"}))
    ]
    table = exhibits(frame([*rows, {"method": "neggrad", "forget_score": 0.1}]))["Table 3"][0].table.set_index("task")
    assert (
        table.loc["fashion", ["off", "on", "change"]].tolist() == pytest.approx([0.6, 0.75, 0.15])
        and table.loc["fashion", "methods"] == 2
    )
    assert table.loc["fashion", "half_width"] == pytest.approx(12.7062 * 0.05, rel=1e-4)


def test_tables_hold_means_intervals_and_hours_of_default_runs_alone():
    runs = frame(
        [{"seed": s, "mia_loss_auc": 0.5 + s / 10, "seconds": 3600.0 * (s + 1)} for s in (0, 1, 2)]
        + [
            {"params": '{"lr": 1}', "mia_loss_auc": 0.0},
            {"ratio": "2", "mia_loss_auc": 0.0},
            {"method": "npo", "mia_loss_auc": 0.0},
        ]
    )
    made = exhibits(runs)
    (row,) = made["Table 5"][0].table.to_dict("records")
    assert (
        row["mean"] == pytest.approx(0.6)
        and row["n"] == 3
        and row["half_width"] == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    )
    assert made["Table 6"][0].table["hours"].tolist() == pytest.approx([2])
    assert (
        "fashion / resnet: no run of original, retrain, neggrad, rand_label, bad_t, scrub" in made["Table 5"][0].missing
    )


def test_submissions_do_not_mix_with_the_projects_own_runs(tmp_path):
    runs = frame([{"test_score": 0.9}, {"test_score": 0.1, "submission": "theirs"}])
    paper(runs, tmp_path)
    assert pd.read_csv(tmp_path / "table_4.csv").query("value == 'test_score'")["mean"].tolist() == [0.9]


def test_text_of_strangers_is_escaped(tmp_path):
    runs = frame([{"model": "<script>alert(1)</script>", "seed": s} for s in (0, 1)])
    text = paper(runs, tmp_path).read_text()
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_every_paper_task_has_a_twin():
    from mubench import registry

    tiers = {name: registry.tasks.get(name).tier for name in registry.tasks.names()}
    assert {TWINS[task] for task in TWINS} == {n for n, t in tiers.items() if t == "mini"} and set(TWINS) == {
        n for n, t in tiers.items() if t == "paper"
    }
    assert all(registry.tasks.get(task).modality == registry.tasks.get(twin).modality for task, twin in TWINS.items())


def test_the_command_line_reads_stored_runs(stored, tmp_path, capsys):
    for method in ("original", "retrain", "salun", "neggrad"):
        for ratio in ("2", "5"):
            stored(method, ratio=ratio, transfer=True)
    cli.main(["report", "--paper", str(stored.root), "--out", str(tmp_path / "paper")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "paper" / "index.html")
    four = pd.read_csv(tmp_path / "paper" / "table_4.csv")
    assert (
        set(four["method"]) == {"original", "retrain", "salun", "neggrad"}
        and (tmp_path / "paper" / "figure_7.svg").is_file()
    )
    with pytest.raises(SystemExit, match="no results below"):
        cli.main(["report", "--paper", str(tmp_path / "nothing")])
    type(stored)(tmp_path / "trials")("salun", limit=8)
    with pytest.raises(SystemExit, match="nothing to make the paper from: left out, as they ran on a few rows only"):
        cli.main(["report", "--paper", str(tmp_path / "trials")])
    with pytest.raises(SystemExit, match="2 runs: a page is of one"):
        cli.main(["report", str(tmp_path / "trials"), str(tmp_path)])


def test_a_record_of_another_schema_is_left_out_with_the_reason_everywhere(stored, tmp_path):
    import mubench as mu
    from mubench.leaderboard.board import board

    old = stored("salun", 1)
    stored("original"), stored("salun")
    record = json.loads((old / "result.json").read_text())
    (old / "result.json").write_text(json.dumps({**record, "schema": 0}))
    reason = "its schema is 0, this mubench reads 1 and 2: its command with --force runs it again"
    assert reason in paper(stored.root, tmp_path / "paper").read_text() and set(
        pd.read_csv(tmp_path / "paper/table_4.csv")["n"]
    ) == {1}
    assert reason in board(stored.root).text()
    figure, *_ = mu.ablate("bias", ["fashion"], ["salun"], seeds=(0, 1), out=stored.root, run=False)
    assert any(reason in note for note in figure.notes) and set(figure.table["n"]) <= {1}
    with pytest.raises(MubenchError, match=reason):
        read(old)


def test_the_board_s_runs_serve_as_well_as_their_folders(stored, tmp_path):
    from mubench.leaderboard.board import board

    for seed in (0, 1):
        stored("original", seed), stored("salun", seed)
    board(stored.root, tmp_path)
    first, second = paper(stored.root, tmp_path / "a"), paper([tmp_path / "runs.parquet"], tmp_path / "b")
    assert first.read_text() == second.read_text()
    pd.read_parquet(tmp_path / "runs.parquet").drop(columns="curve").to_parquet(tmp_path / "old.parquet")
    with pytest.raises(MubenchError, match="has no column 'curve'"):
        paper(tmp_path / "old.parquet", tmp_path / "c")
