"""An attack and metrics of an installed package, from the command line to the board and through a submission."""

import hashlib
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mubench as library
from mubench.errors import MubenchError
from mubench.leaderboard import submission
from mubench.leaderboard.trust.levels import Level, level_of
from mubench.leaderboard.trust.reading import read_run
from mubench.measure.metrics import compute_all
from mubench.records.result import read
from submissions import Altered

PLUGINS = Path(__file__).parent.parent / "plugins"
RELEARN = f"{PLUGINS / 'relearn.py'}:Relearn"
POINTS = """[mubench.metrics]
loss_deviation = population:loss_deviation
relearned = population:relearned
relearn_gap = population:relearn_gap
[mubench.probes]
again = relearn:Relearn
"""


def install(folder, points=POINTS):
    """Put the plugins into a folder as an installed package; gives the environment of a process that finds it."""
    info = folder / "population-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: population\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    for path in PLUGINS.glob("*.py"):
        shutil.copy(path, folder)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install(tmp_path_factory.mktemp("site"))


def losses(folder, step=None):
    """Those of the forget set, of the evaluation or of a step of the attack."""
    frame = pd.read_parquet(folder / ("predictions.parquet" if step is None else "probes/relearn.parquet"))
    frame = frame[(frame["set"] == "forget") & (True if step is None else frame["step"] == step)]
    return frame.sort_values("index")["loss"].to_numpy("float64")


def values(text):
    """What `mubench score` prints of one result, name → number."""
    return {name: float(value) for name, value in re.findall(r"^  (\w+) +(-?[\d.]+)$", text, re.M)}


def test_from_the_command_line_to_the_board(installed, tmp_path, forked):
    here = {"cwd": tmp_path, "env": installed}
    assert forked("new", "task", "my_task", **here).code == 0
    task = tmp_path / "my_task.py"
    task.write_text(re.sub(r"epochs=\d+", "epochs=2", task.read_text()))
    assert forked("original", "my_task.py:MyTask", "--train", **here).code == 0
    done = forked("run", "my_task.py:MyTask", "neggrad,retrain", "--seed", 0, 1, "--attack", RELEARN, **here)
    assert done.code == 0, done.err
    assert re.search(r"loss_deviation ↓ +relearned +relearn_gap ↓", done.out)
    folder = {
        (method, seed): path.parent
        for method in ("neggrad", "retrain")
        for path in tmp_path.glob(f"results/my_task/*/{method}/**/result.json")
        for seed in [read(path.parent).spec["seed"]]
    }
    assert len(folder) == 4

    made = forked("board", "results", "--out", "tables", **here)
    assert made.code == 0, made.err
    rows = pd.read_csv(tmp_path / "tables/board.csv").set_index("method")
    runs = pd.read_parquet(tmp_path / "tables/runs.parquet").set_index(["method", "seed"])
    retrained = [losses(folder["retrain", seed]) for seed in (0, 1)]
    fall = {key: losses(place, 0).mean() - losses(place, 4).mean() for key, place in folder.items()}
    for seed in (0, 1):
        run, retrain = runs.loc[("neggrad", seed)], runs.loc[("retrain", seed)]
        expected = np.abs(losses(folder["neggrad", seed]) - np.mean(retrained, 0)).mean()
        assert run["loss_deviation"] == pytest.approx(expected, rel=1e-12)
        others = np.abs(retrained[seed] - retrained[1 - seed]).mean()
        assert retrain["loss_deviation"] == pytest.approx(others, rel=1e-12)
        assert run["relearned"] == pytest.approx(fall["neggrad", seed], rel=1e-9)
        assert run["relearn_gap"] == pytest.approx(abs(fall["neggrad", seed] - fall["retrain", seed]), rel=1e-9)
        assert retrain["relearn_gap"] == 0
        assert read(folder["neggrad", seed]).metrics["relearned"] == run["relearned"]  # no references: known at once
    assert rows.loc["neggrad", "loss_deviation"] == pytest.approx(runs.loc["neggrad", "loss_deviation"].mean())
    assert "loss_deviation" in (tmp_path / "tables/README.md").read_text()

    place = folder["neggrad", 1]
    beside = [folder["retrain", 1], folder["retrain", 0]]
    scored = values(forked("score", place, "--retrain", *beside, **here).out)
    for name in ("loss_deviation", "relearned", "relearn_gap", "gap_to_retrain"):
        assert scored[name] == pytest.approx(runs.loc[("neggrad", 1), name], abs=1e-4)
    assert "loss_deviation" not in values(forked("score", place, "--retrain", beside[0], **here).out)

    # a retrained model more is another population: nothing old is taken from the cache
    more = forked("run", "my_task.py:MyTask", "retrain", "--seed", 2, "--out", "more", **here)
    assert more.code == 0, more.err
    forked("board", "results", "more", "--out", "tables", **here)
    again = pd.read_parquet(tmp_path / "tables/runs.parquet").set_index(["method", "seed"])
    third = losses(next((tmp_path / "more").rglob("result.json")).parent)
    expected = np.abs(losses(place) - np.mean([*retrained, third], 0)).mean()
    assert again.loc[("neggrad", 1), "loss_deviation"] == pytest.approx(expected, rel=1e-12)
    same = [name for name in runs.columns if name not in ("loss_deviation", "environment")]
    first, second = (frame.loc[[("neggrad", 0), ("neggrad", 1)], same] for frame in (runs, again))
    shares = ["relative_seconds", "relative_flops"]  # of the mean retraining
    pd.testing.assert_frame_equal(first.drop(columns=shares), second.drop(columns=shares))

    # and where the package is not installed, the records are read and its metrics are not shown
    without = forked("board", "results", cwd=tmp_path)
    assert without.code == 0 and "loss_deviation" not in without.out and "left out" not in without.out
    refused = forked("score", place, cwd=tmp_path)
    assert refused.code == 1 and "metric relearned is not known here: install the package that brings it" in refused.err


def test_names_of_installed_probes_and_metrics(installed, forked, tmp_path):
    assert re.search(r"^loss_deviation +lower +Mean distance", forked("ls", "metrics", env=installed).out, re.M)
    done = forked("run", "fashion", "original", "--limit", 10, "--out", tmp_path, "--attack", "again", env=installed)
    assert done.code == 0, done.err
    [path] = tmp_path.rglob("result.json")
    assert [*read(path.parent).probes] == ["again"] and read(path.parent).command.endswith("--attack again")


@pytest.mark.parametrize(
    "points, complaint",
    [
        ("[mubench.metrics]\nloss_deviation = nowhere:loss_deviation\n", "loss_deviation .*cannot be imported"),
        ("[mubench.metrics]\nother = population:loss_deviation\n", "other .*is no function of that name"),
        ("[mubench.metrics]\nfall = population:fall\n", "fall .*is no function of that name"),
    ],
)
def test_packages_whose_metrics_are_none_are_named(points, complaint, tmp_path, forked):
    done = forked("ls", "metrics", env=install(tmp_path, points))
    assert done.code == 1 and re.search(f"metric {complaint}", done.err)


# -- submissions


@pytest.fixture(scope="module")
def packed(tmp_path_factory, installed):
    """A submission of a run with an attack, made where the package is installed."""
    root = tmp_path_factory.mktemp("packed")
    library.run("fashion", "neggrad", limit=10, out=root / "results", attack=[RELEARN])
    list(library.submit(root / "results", "Attacked", out=root))
    return root / "attacked"


@pytest.fixture
def attacked(packed, tmp_path):
    return Altered(packed, tmp_path)


def check(folder, **options):
    return "\n".join(submission.check(folder, **options))


def test_a_submission_carries_what_probes_predicted(installed, attacked, tmp_path, forked):
    assert attacked.path("probes/relearn.parquet").is_file()
    assert "recomputed: " in check(attacked.root, record=True)
    assert level_of(attacked.result)[0] is Level.RECOMPUTED
    assert [*read_run(attacked.result).probes] == ["relearn"]
    zipped = tmp_path / "zipped.zip"
    done = forked("submit", attacked.root / "results", "--name", "Attacked", "--out", zipped, env=installed)
    assert done.code == 0, done.err
    assert "recomputed: " in check(zipped)
    # its metrics are recomputed where they are known, also those that the record does not claim
    assert "relearned" in values(forked("score", attacked.result, env=installed).out)


def test_metrics_that_are_not_known_here_are_not_shown(attacked):
    attacked.edit(metrics=lambda found: found | {"relearned": 0.25})
    assert "metrics that are not known here, and not shown: relearned" in check(attacked.root)
    run = read_run(attacked.result)
    assert run.unknown == ["relearned"] and "relearned" not in run.metrics


def test_a_claim_about_a_probe_is_held_to_its_predictions(attacked, installed, forked):
    attacked.edit(metrics=lambda found: found | {"relearned": 0.25})
    done = forked("check", attacked.root, env=installed)
    assert done.code == 1 and "metric relearned is 0.25 in result.json but" in done.err


def test_a_changed_probe_file_loses_the_level(attacked):
    check(attacked.root, record=True)
    path = attacked.path("probes/relearn.parquet")
    path.write_bytes(path.read_bytes() + b"\n")
    assert level_of(attacked.result) == (Level.REPORTED, ("probes/relearn.parquet was changed after it was checked",))
    with pytest.raises(MubenchError, match="relearn.parquet was changed after its result was written"):
        check(attacked.root)


def seal(attacked, change):
    """Alter the predictions of the attack, with the checksum of what comes out."""
    buffer = io.BytesIO()
    frame = change(pd.read_parquet(attacked.path("probes/relearn.parquet")))
    frame.to_parquet(buffer, index=False)
    data = buffer.getvalue()
    attacked.path("probes/relearn.parquet").write_bytes(data)
    honest = {"sha256": hashlib.sha256(data).hexdigest(), "rows": len(frame)}
    attacked.edit(probes__relearn=lambda facts: facts | honest)


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda f: f.drop(columns="step"), "lacks the column 'step'"),
        (lambda f: f.assign(step=f["step"] + 1), "holds other steps than its record says"),
        (lambda f: pd.concat([f, f[:1]]), "holds an example twice"),
        (lambda f: f.assign(score=7.0), "a score outside of"),
        (lambda f: f.assign(set="../test"), "holds the set '../test'"),
        (lambda f: f.assign(extra=1), "column 'extra' .* is not expected"),
        (lambda f: f.assign(index=f["index"] + 100_000), "are of no example of the task's sets"),
        (lambda f: f.assign(target=(f["target"] + 1) % 10), "have other targets than the task's own"),
        (lambda f: f.assign(loss=f["loss"] + 1), "does not follow from the other columns"),
    ],
)
def test_predictions_of_a_probe_are_read_as_strangers(attacked, change, complaint):
    seal(attacked, change)
    with pytest.raises(MubenchError, match=complaint):
        check(attacked.root)


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"probes": lambda p: {"../relearn": p["relearn"]}}, "probes"),
        ({"probes": lambda p: {"relearn": p["relearn"], "wild": p["relearn"]}}, "wild.parquet is no file"),
        ({"probes": lambda p: {}}, "holds relearn.parquet, of which result.json says nothing"),
        ({"probes__relearn__rows": 1}, "rows, result.json says 1"),
        ({"probes__relearn__version": "1; rm"}, "version"),
        ({"probes__relearn__seconds": -1}, "seconds"),
        ({"probes__relearn": lambda p: {**p, "error": "broken"}}, "or the error that it ended with"),
        ({"probes__relearn": lambda p: {k: v for k, v in p.items() if k != "sha256"}}, "or the error"),
        ({"probes": lambda p: {f"p{i}": p["relearn"] for i in range(17)}}, "at most 16"),
        ({"metrics": lambda m: m | {"test_score": 1.5}}, "test_score"),
        ({"metrics": lambda m: m | {"../x": 0.5}}, "metrics"),
    ],
)
def test_records_of_probes_are_read_as_strangers(attacked, changes, complaint):
    attacked.edit(**changes)
    with pytest.raises(MubenchError, match=re.escape(complaint)):
        check(attacked.root)


@pytest.mark.parametrize("name", ["probes/x.exe", "probes/deep/x.parquet", "probes/X.parquet"])
def test_other_files_are_no_part_of_a_submission(attacked, name):
    attacked.path(name).parent.mkdir(exist_ok=True)
    attacked.path(name).write_bytes(b"x")
    with pytest.raises(MubenchError, match="is no file of a submission"):
        check(attacked.root)


def test_a_failed_probe_is_carried_as_its_error(attacked):
    shutil.rmtree(attacked.path("probes"))
    facts = attacked.json()["probes"]["relearn"]
    failed = {name: facts[name] for name in ("version", "options", "fingerprint", "seconds", "cpu_seconds")}
    attacked.edit(probes={"relearn": failed | {"error": "ValueError: broken"}})
    assert "recomputed: " in check(attacked.root)


# -- references on the board


def test_references_are_of_one_row_and_the_runs_own_seed_comes_first(stored):
    from mubench.leaderboard import frame as frames
    from mubench.leaderboard.stored import StoredRun

    for seed in (0, 1, 2):
        stored("retrain", seed)
        stored("retrain", seed, precision="bf16")
    stored("original", 1)
    stored("salun", 1), stored("salun", 7), stored("salun", 1, precision="bf16")
    runs = [StoredRun.read(path) for path in stored.store.results()]
    references = [run for run in runs if run.role]
    assert sorted(run.role for run in references) == ["original"] + ["retrain"] * 6
    everything = lambda role: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "looked_at", everything)
        for run in runs:
            found = frames.references_of(run, references)
            retrain = found["retrain"]
            assert {other.spec.precision for other in retrain} == {run.spec.precision}
            order = sorted({0, 1, 2}, key=lambda seed: (seed != run.spec.seed, seed))
            assert [other.spec.seed for other in retrain] == order
            assert run.role != "retrain" or retrain[0] is run
            assert [other.spec.seed for other in found["original"]] == [1]
    # today's metrics look at one retrained model, that of the run's own seed, and at no original
    for run in runs:
        found, seed = frames.references_of(run, references), run.spec.seed
        assert [*found] == ["retrain"] and [other.spec.seed for other in found["retrain"]] == [seed] * (seed != 7)


def test_a_population_metric_of_a_group_without_the_runs_own_seed(stored):
    from mubench.leaderboard import frame as frames
    from mubench.measure.metrics import METRICS, metric

    paths = [stored("retrain", seed) for seed in (0, 1)]
    salun = stored("salun", 5)

    def deviation(run, references):
        """Deviation of the losses."""
        means = [model["forget"]["loss"].mean() for model in references["retrain"]]
        return run["forget"]["loss"].mean() - np.mean(means)

    try:
        metric(better="lower", needs=["forget"], columns=["loss"], references={"retrain": 2})(deviation)
        notes = []
        runs = frames._verified(frames._readable([stored.root], None, notes, None)[0], notes)
        [run] = [run for run in runs if run.folder == salun.as_posix()]
        mean = lambda path: pd.read_parquet(path / "predictions.parquet").query("set == 'forget'")["loss"].mean()
        expected = mean(salun) - np.mean([mean(path) for path in paths])
        assert run.values["deviation"] == pytest.approx(expected, abs=1e-12)
        assert "gap_to_retrain" not in run.values and notes == []
    finally:
        METRICS.pop("deviation", None)


def test_metrics_without_references_are_those_of_the_record(stored):
    folder = stored("salun")
    run = read_run(folder)
    assert run.score({}) == run.score() == run.metrics == compute_all(run.predictions)
    assert json.loads((folder / "result.json").read_text())["metrics"] == run.metrics
