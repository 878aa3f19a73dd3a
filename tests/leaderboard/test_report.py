"""One run as a page: self-contained, next to original and retrain, with the examples themselves where the task's data
are at hand.
"""

import json
import re

import pytest

from mubench.cli import main
from mubench.errors import MubenchError
from mubench.leaderboard.report import report
from mubench.registry import load_task


def change(folder, edit):
    path = folder / "result.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def finished(data):
    """What a real run records besides."""
    data["costs"] |= {"steps": 12, "losses": [1.0, 0.5], "validation": [0.7, 0.8]}
    data["split"] |= {"forget": 20, "retain": 60, "data": load_task("fashion").checksum}
    data["checkpoint"]["source"] = "tasks/image/originals/fashion/resnet"


@pytest.fixture
def run(stored):
    for method in ("original", "retrain"):
        change(stored(method), finished)
    folder = stored("salun")
    change(folder, finished)
    return folder


def test_a_report_is_one_file_with_all_that_was_measured(run, tmp_path):
    page = report(run, tmp_path / "page.html").read_text()
    for text in (
        "salun",
        "original",
        "retrain",
        "Losses on the forget set",
        "Membership attack",
        "Mean of the objective per epoch",
        "Score on the validation set",
        "Forgotten most",
        "Forgotten least",
    ):
        assert text in page
    scores = dict(
        re.findall(r'<th scope="row">([^<]+)</th><td class="num">[^<]*</td><td class="num">([^<]*)</td>', page)
    )
    values = json.loads((run / "result.json").read_text())["metrics"]
    assert float(scores["test ↑"]) == round(100 * values["test_score"], 1) and scores["gap ↓"] != "–"
    assert page.count('<img src="data:image/png;base64,') == 12  # the pictures of the forget set themselves
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert len(re.findall(r"<svg ", page)) == 6


def test_what_is_only_claimed_is_marked(run, tmp_path):
    page = report(run, tmp_path / "page.html").read_text()
    claimed = 'class="level reproduced"' not in page
    assert claimed == ("Training curve (claimed)" in page) == ("Claimed, not measured again" in page)


def test_other_data_are_not_shown_for_the_runs_own(run):
    for folder in run.parents[2].rglob("result.json"):
        change(folder.parent, lambda data: data["split"].update(data="0" * 64))
    page = report(run).read_text()
    assert (
        "examples are shown without their contents" in page
        and "data:image/png" not in page
        and "Forgotten most" in page
    )


def test_without_references_the_page_says_how_to_make_them(stored):
    folder = stored("salun")
    change(folder, finished)
    page = report(folder).read_text()
    assert (
        "mubench run fashion retrain --model resnet --ratio 5 --seed 0" in page and "no original of this task" in page
    )


def test_text_of_strangers_is_text(run, tmp_path):
    change(
        run,
        lambda data: (
            data["method"].update(hyperparameters={"x": "<script>alert(1)</script>"}),
            data["method"].update(paper="<b>&</b>"),
        ),
    )
    page = report(run, tmp_path / "page.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "<b>" not in page


def test_the_command_line_writes_it_beside_the_run(run, capsys):
    main(["report", str(run)])
    assert capsys.readouterr().out.strip() == str(run / "report.html") and (run / "report.html").is_file()


def test_numbers_that_do_not_follow_from_the_predictions_are_refused(run):
    change(run, lambda data: data["metrics"].update(test_score=0.99))
    with pytest.raises(MubenchError, match="metric test_score is 0.99"):
        report(run)
