"""`leaderboard/README.md` and the tables beside it are those of the results published with it. `make leaderboard`
renews them. Runs of ablations (`leaderboard/study_results/`) are in no ranked table; `docs/findings.md` rests on them
too.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mubench.leaderboard.board import Board, board
from mubench.leaderboard.rows import REFERENCES, SCHEMA_1_ENGINE, SEEDS
from mubench.leaderboard.trust.reading import read_run

ROOT = Path(__file__).parents[2]
RENEW = "`make leaderboard` renews the published tables"


def stale(folder):
    """What of the tables in a folder is not of the results in it: a list of sentences. Reads no predictions."""
    published = pd.read_parquet(folder / "runs.parquet")
    there = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for path in folder.rglob("result.json")
        if folder / "study_results" not in path.parents
    }
    known = set(published["result_sha256"])
    found = [f"{path} is in no table" for digest, path in there.items() if digest not in known]
    found += [
        f"{row.folder} is in the tables but not among the results"
        for row in published.itertuples()
        if row.result_sha256 not in there
    ]
    made = Board(published)
    for name, text in (("README.md", made.markdown()), ("board.tex", made.latex())):
        if (folder / name).read_text() != text:
            found.append(f"{folder / name} is not what the runs give")
    return found


def test_the_published_tables_are_not_stale():
    if not list((ROOT / "leaderboard").rglob("result.json")):
        pytest.skip("no results are published in leaderboard/ yet")
    assert not stale(ROOT / "leaderboard"), RENEW


def test_the_findings_are_those_of_the_published_runs():
    assert not stale_findings(ROOT), RENEW


def stale_findings(root):
    """What of the findings is not of the published runs: a list of sentences."""
    spec = importlib.util.spec_from_file_location("_findings", root / "docs/_findings.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    there = {hashlib.sha256(path.read_bytes()).hexdigest() for path in made.STUDIES.rglob("result.json")}
    read = (
        set(pd.read_parquet(made.STUDIES / "runs.parquet")["result_sha256"])
        if (made.STUDIES / "runs.parquet").is_file()
        else set()
    )
    text = made.PAGE.read_text(encoding="utf-8")
    return [
        *(["the studies are not those that were read"] if there != read else []),
        *(["docs/findings.md is not what the runs give"] if made.page(text, made.published()) != text else []),
    ]


def test_stale_findings_are_noticed(tmp_path):
    for path in ("docs/_findings.py", "docs/findings.md", "leaderboard/runs.parquet"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    published = pd.read_parquet(tmp_path / "leaderboard/runs.parquet")
    renew = lambda: subprocess.run([sys.executable, tmp_path / "docs/_findings.py"], check=True)
    renew()
    assert stale_findings(tmp_path) == []
    published.assign(gap_to_retrain=published["gap_to_retrain"] / 2).to_parquet(tmp_path / "leaderboard/runs.parquet")
    assert stale_findings(tmp_path) == ["docs/findings.md is not what the runs give"]
    renew()
    assert stale_findings(tmp_path) == []
    added = tmp_path / "leaderboard/study_results/fashion/resnet/salun/5/x/result.json"
    added.parent.mkdir(parents=True)
    added.write_text("{}")
    assert stale_findings(tmp_path) == ["the studies are not those that were read"]


# -- what must hold of the published tables ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    return Board(pd.read_parquet(ROOT / "leaderboard/runs.parquet"))


def test_retraining_is_at_0_and_no_reference_has_a_rank(published):
    for table in (published.rows, published.across):
        assert (table.loc[table["method"] == "retrain", "gap_to_retrain"].dropna() == 0).all()
        assert table.loc[table["method"].isin(REFERENCES), "rank"].isna().all()


def test_ranked_rows_have_five_seeds_and_no_more_work_than_retraining(published):
    ranked = published.rows[published.rows["rank"].notna()]
    assert len(ranked) and (ranked["n"] >= SEEDS).all() and (ranked["gap_to_retrain_n"] >= SEEDS).all()
    assert (ranked["relative_flops"] <= 1 + 1e-9).all()
    few = published.rows[(published.rows["n"] < SEEDS) & ~published.rows["method"].isin(REFERENCES)]
    assert all(f"{row.n} of {SEEDS} seeds" in row.remarks for row in few.itertuples())
    means = published.across[published.across["rank"].notna()]
    assert (means["runs"] >= SEEDS * means["groups"]).all() and (means["relative_flops"] <= 1 + 1e-9).all()


def test_ranks_are_in_the_order_of_the_gap(published):
    tables = (["group", "variant"], published.rows), (["tier", "selection", "facet", "value"], published.across)
    for keys, table in tables:
        for _, part in table[table["rank"].notna()].groupby(keys):
            assert part["gap_to_retrain"].is_monotonic_increasing
            assert part["rank"].tolist() == part["gap_to_retrain"].rank(method="min").tolist()


def test_published_records_of_schema_1_migrate_and_stand_on_the_board(published, tmp_path):
    old = published.runs[published.runs["schema"] == 1]
    assert len(old) == 656 and (old["fingerprint"] == "").all() and (old["engine"] == SCHEMA_1_ENGINE).all()
    assert old["relative_seconds"].isna().all()
    for _, run in old[old["seed"] == 1].drop_duplicates("task").iterrows():
        read = read_run(ROOT / run["folder"])
        assert read.result.migrated == 1
        assert read.result.engine is read.result.budget is read.result.clock is None
        assert read.group[4] == run["checkpoint"] == "standard"
    few = old[(old["task"] == "fashion") & (old["variant"] == "default") & (old["seed"] < 2)]
    for run in few[few["method"].isin([*REFERENCES, "salun"])].itertuples():
        shutil.copytree(ROOT / run.folder, tmp_path / run.folder)
    [salun] = board(tmp_path).rows.query("method == 'salun'").to_dict("records")
    assert salun["n"] == 2 and salun["schema"] == 1
    assert salun["remarks"] == "2 of 5 seeds; all seeds from one original" and salun["gap_to_retrain"] > 0


@pytest.mark.slow
def test_the_published_numbers_follow_from_the_predictions(monkeypatch):
    if not list((ROOT / "leaderboard").rglob("result.json")):
        pytest.skip("no results are published in leaderboard/ yet")
    monkeypatch.chdir(ROOT)
    again = board([path for path in ("leaderboard/results", "leaderboard/submissions") if Path(path).is_dir()])
    assert again.markdown() == (ROOT / "leaderboard/README.md").read_text(), RENEW
    pd.testing.assert_frame_equal(
        again.rows, pd.read_parquet(ROOT / "leaderboard/board.parquet")[list(again.rows)], check_dtype=False, rtol=1e-9
    )


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
