"""`leaderboard/README.md` and the tables beside it are those of the results published with it. `make leaderboard` renews them."""
import hashlib
from pathlib import Path

import pandas as pd
import pytest

from mubench.leaderboard.board import Board, board

ROOT = Path(__file__).parents[2]
RENEW = "`make leaderboard` renews the published tables"


def stale(folder):
    """What of the tables in a folder is not of the results in it: a list of sentences. Reads no predictions."""
    published = pd.read_parquet(folder / "runs.parquet")
    there = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.rglob("result.json")}
    known = set(published["result_sha256"])
    found = [f"{path} is in no table" for digest, path in there.items() if digest not in known]
    found += [f"{row.folder} is in the tables but not among the results" for row in published.itertuples() if row.result_sha256 not in there]
    made = Board(published)
    for name, text in (("README.md", made.markdown()), ("board.tex", made.latex())):
        if (folder / name).read_text() != text:
            found.append(f"{folder / name} is not what the runs give")
    return found


def test_the_published_tables_are_not_stale():
    if not list((ROOT / "leaderboard").rglob("result.json")):
        pytest.skip("no results are published in leaderboard/ yet")
    assert not stale(ROOT / "leaderboard"), RENEW


@pytest.mark.slow
def test_the_published_numbers_follow_from_the_predictions(monkeypatch):
    if not list((ROOT / "leaderboard").rglob("result.json")):
        pytest.skip("no results are published in leaderboard/ yet")
    monkeypatch.chdir(ROOT)
    again = board("leaderboard")
    assert again.markdown() == (ROOT / "leaderboard/README.md").read_text(), RENEW
    pd.testing.assert_frame_equal(again.rows, pd.read_parquet(ROOT / "leaderboard/board.parquet")[list(again.rows)], check_dtype=False, rtol=1e-9)


def test_staleness_is_noticed(stored):
    for method in ("original", "retrain", "salun"):
        for seed in range(2):
            stored(method, seed)
    board(stored.root, stored.root)
    assert stale(stored.root) == []
    added = stored("scrub")
    assert stale(stored.root) == [f"{added / 'result.json'} is in no table"]
    board(stored.root, stored.root)
    assert stale(stored.root) == []
    (stored.root / "README.md").write_text((stored.root / "README.md").read_text().replace("salun", "saloon"))
    assert stale(stored.root) == [f"{stored.root / 'README.md'} is not what the runs give"]
