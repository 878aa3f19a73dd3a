"""Methods that have another name now: old records show under it, and who asks by the old one is told."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard.check import check
from mubench.leaderboard.frame import read_runs
from mubench.leaderboard.trust.judge import judge_result
from mubench.leaderboard.trust.reading import read_run
from mubench.listing import show
from mubench.records.result import RESULT, Result, read
from mubench.spec import make_spec

RESULTS = Path(__file__).parents[2] / "leaderboard" / "results"
OLD = {old: cls.name for old, cls in registry.methods.renamed.items()}
RECORDS = [(old, sorted(RESULTS.glob(f"fashion/*/{old}/*/*"))[0]) for old in OLD]


def test_there_are_some():
    assert OLD == {"gnn_delete": "deletion_operator"}


@pytest.mark.parametrize("old", OLD)
def test_a_name_that_is_taken_again_is_of_later_versions(old):
    last = registry.methods.renamed[old].formerly[old]
    assert last <= registry.methods.renamed[old].version
    assert old not in registry.methods.modules or registry.methods.get(old).version > last


@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize(
    "ask",
    [
        registry.load_method,
        lambda old: make_spec(task="fashion", method=old),
        show,
        lambda old: list(check(old)),
    ],
)
def test_who_asks_by_an_old_name_is_told_the_new_one(old, ask):
    with pytest.raises(MubenchError, match=f"^method '{old}' is called '{OLD[old]}' now: use that$"):
        ask(old)


@pytest.mark.parametrize("old, folder", RECORDS)
def test_an_old_record_is_read_under_the_new_name(old, folder):
    before = (folder / RESULT).read_bytes()
    written = json.loads(before)
    assert written["spec"]["method"] == written["method"]["name"] == old
    for result in (read(folder), read_run(folder).result):
        assert result.spec["method"] == result.method["name"] == OLD[old]
        assert result.id == written["id"] == folder.name and result.command == written["command"]
    assert (folder / RESULT).read_bytes() == before


@pytest.mark.parametrize("old, folder", RECORDS)
def test_tables_show_it_under_the_new_name(old, folder):
    runs, notes = read_runs(folder)
    assert runs["method"].tolist() == [OLD[old]] and runs["id"].tolist() == [folder.name] and not notes
    assert json.loads(runs["spec"][0])["method"] == OLD[old]


@pytest.mark.parametrize("old, folder", RECORDS)
@pytest.mark.parametrize("new", [False, True])
def test_a_submission_may_hold_it_under_either_name(old, folder, new, tmp_path):
    place = [*folder.relative_to(RESULTS).parts]
    place[2] = OLD[old] if new else old
    shutil.copytree(folder, tmp_path.joinpath(*place))
    run, _ = judge_result(tmp_path.joinpath(*place), SimpleNamespace())
    assert run.result.method["name"] == OLD[old]


@pytest.mark.parametrize("old, folder", RECORDS)
def test_what_else_is_called_so_keeps_its_name(old, folder):
    """A later version of the suite's, a file of one's own, weights that other code has unlearned."""
    written = json.loads((folder / RESULT).read_text())
    later = written | {"method": written["method"] | {"version": registry.methods.renamed[old].formerly[old] + 1}}
    own, elsewhere = (
        written | {"spec": written["spec"] | {"method": m}} for m in (f"{old}.py:Mine", f"{old}@0123456789ab")
    )
    for record in (later, own, elsewhere):
        assert Result.model_validate(record).method["name"] == old
