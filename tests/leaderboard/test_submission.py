"""Submissions: what is packed, what is refused before that, what a row needs to be ranked, and the ways in."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mubench
from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard import submission
from mubench.leaderboard.submission import submit
from mubench.leaderboard.trust.description import Submission
from mubench.leaderboard.trust.one_method import disagreements
from mubench.leaderboard.trust.reading import read_run
from mubench.leaderboard.trust.schema import Taxonomy
from mubench.leaderboard.trust.unranked import why_unranked
from mubench.spec import ENGINE
from submissions import Altered, tiny

ROOT = Path(__file__).parent.parent.parent
METHOD = """
from mubench.methods.base import Method, Term


class Mine(Method):
    \"\"\"Descend on the retain set, ascend on the forget set.\"\"\"
    paper = "Somebody 2026"
    schedule = "joint"
    terms = Term("retain", "loss", "true"), Term("forget", "loss", "true", weight=-0.1)
"""


@pytest.fixture
def results(tmp_path):
    """A copy of the results that `tiny` packs."""
    return shutil.copytree(tiny().parent / "results", tmp_path / "results")


def names(folder):
    return sorted(
        re.sub("[0-9a-f]{12}", "ID", p.relative_to(folder).as_posix()) for p in Path(folder).rglob("*") if p.is_file()
    )


RUN = "results/fashion/resnet/neggrad/5/ID/"


def test_what_is_packed():
    assert names(tiny()) == [
        RUN + "model/model.safetensors",
        RUN + "predictions.parquet",
        RUN + "result.json",
        "submission.json",
    ]
    said = json.loads((tiny() / "submission.json").read_text())
    assert said == {
        "schema": 1,
        "name": "tiny",
        "title": "Tiny",
        "description": "A small one",
        "paper": "https://example.org/paper",
        "code": None,
        "contact": None,
        "taxonomy": mubench.load_method("neggrad").taxonomy(),
        "selection": "default",
        "trials": 0,
        "budget": "",
        "weights": None,
    }


def test_a_zip_holds_the_same_and_is_checked_the_same(cli, results, tmp_path):
    done = cli(
        "submit",
        results,
        "--name",
        "My Method (v2)",
        "--out",
        tmp_path / "it.zip",
        "--contact",
        "me@example.org",
        "--code",
        "https://example.org",
        "--taxonomy",
        "Loss",
        "Grad",
        "-",
        "dense internal",
        "forget_only",
    )
    assert done.code == 0 and "not ranked: fashion/resnet/neggrad/5 ran on a few rows only" in done.out, done.err
    with zipfile.ZipFile(tmp_path / "it.zip") as archive:
        archive.extractall(tmp_path / "out")
    assert names(tmp_path / "out/my_method_v2") == [
        RUN + "predictions.parquet",
        RUN + "result.json",
        "submission.json",
    ]  # weights only where asked for
    assert (
        "recomputed: " in cli("check", tmp_path / "it.zip").out
        and "recomputed: " in cli("check", tmp_path / "out/my_method_v2").out
    )
    assert "unpack the .zip first" in cli("check", tmp_path / "it.zip", "--record").err
    assert "is there already" in cli("submit", results, "--name", "x", "--out", tmp_path / "it.zip").err
    assert "is no submission" in cli("check", "fashion", "--rerun").err


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"paper": "javascript:alert(1)"}, "paper='javascript"),
        ({"code": "http://example.org"}, "code="),
        ({"weights": "me/weights@main"}, "weights="),
        ({"weights": "me/weights"}, "weights="),
        ({"name": ""}, "name="),
        ({"name": "x" * 200}, "title="),
        ({"description": "a\u202eb"}, "U\\+202E"),
        ({"trials": -1}, "trials=-1"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(results, tmp_path, options, complaint):
    with pytest.raises(MubenchError, match=complaint):
        list(submit(results, **{"name": "Mine", "out": tmp_path / "out"} | options))
    assert not (tmp_path / "out").exists()


def test_an_altered_result_is_refused(results, tmp_path):
    path = next(results.rglob("result.json"))
    path.write_text(path.read_text().replace('"test_score": ', '"test_score": 0.1', 1))
    with pytest.raises(MubenchError):
        list(submit(results, "Mine", out=tmp_path / "out"))
    with pytest.raises(MubenchError, match="no results below"):
        list(submit(tmp_path / "nothing", "Mine"))
    assert not (tmp_path / "out").exists()


def test_one_submission_is_one_method_with_its_references(results, tmp_path):
    for method in ("original", "finetune"):
        mubench.run("fashion", method, limit=5, out=results)
    with pytest.raises(MubenchError, match="it holds results of finetune, neggrad: one submission is one method"):
        list(submit(results, "Both", out=tmp_path))
    shutil.rmtree(results / "fashion/resnet/finetune")
    list(submit(results, "One", out=tmp_path))
    assert len(list((tmp_path / "one").rglob("result.json"))) == 2


def test_how_hyperparameters_were_chosen_is_said(tmp_path):
    mubench.run("fashion", "neggrad", limit=5, params={"lr": 1e-3}, out=tmp_path / "results")
    with pytest.raises(MubenchError, match="hyperparameters are the defaults, but lr were set: say --trials"):
        list(submit(tmp_path / "results", "Tuned", out=tmp_path))
    said = "\n".join(submit(tmp_path / "results", "Tuned", trials=20, budget="20 s", out=tmp_path))
    assert "hyperparameters tuned, 20 trials" in said
    with pytest.raises(MubenchError, match="it says its hyperparameters are default"):
        list(
            submission.check(
                Altered(tmp_path / "tuned", tmp_path / "copy").edit("submission.json", selection="default").root
            )
        )


def test_a_method_of_ones_own_goes_without_its_code(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(METHOD)
    mubench.run("fashion", f"{file}:Mine", limit=5, out=tmp_path / "results")
    file.write_text("raise SystemExit")  # neither packing nor checking looks at it
    said = "\n".join(submit(tmp_path / "results", "Mine", out=tmp_path / "out"))
    file.unlink()
    assert "recomputed: fashion/resnet/mine/5/" in said and "recomputed" in "\n".join(
        submission.check(tmp_path / "out/mine")
    )
    assert names(tmp_path / "out/mine") == [
        p.replace("neggrad", "mine") for p in (RUN + "predictions.parquet", RUN + "result.json")
    ] + ["submission.json"]
    assert json.loads((tmp_path / "out/mine/submission.json").read_text())["taxonomy"]["corruption"] == "Grad"
    with pytest.raises(MubenchError, match="nothing could be reproduced: .*a stranger's code is not run"):
        list(submission.check(tmp_path / "out/mine", rerun=True))


def test_weights_of_other_code(cli, tmp_path):
    folder = mubench.load_task("fashion").originals_dir("resnet")
    words = (
        "evaluate",
        "fashion",
        folder,
        "--limit",
        5,
        "--name",
        "elsewhere",
        "--out",
        tmp_path / "results",
        "--seconds",
        3,
        "--save-model",
    )
    assert cli(*words).code == 0
    done = cli("submit", tmp_path / "results", "--name", "Elsewhere", "--weights", "local", "--out", tmp_path)
    assert "flag: time as its author claims it, without FLOPs" in done.out, done.err
    assert "re-evaluated: fashion/resnet/elsewhere/5/" in cli("check", tmp_path / "elsewhere", "--weights").out
    table = mubench.board(tmp_path / "results").rows
    assert "elsewhere" not in set(table["method"])  # a trial on five rows


# -- what a ranked row needs


def made(stored, seeds=5, references=("original", "retrain"), **options):
    runs = [read_run(stored("salun", seed, **options)) for seed in range(seeds)]
    return runs + [read_run(folder) for folder in stored.five(*references)]


def test_nothing_is_missing(stored):
    assert why_unranked(made(stored)) == []
    assert why_unranked(made(stored, references=()), made(stored, 0)) == []  # references may be the leaderboard's own


@pytest.mark.parametrize(
    "options, said",
    [
        ({"seeds": 3}, "has 3 of 5 seeds: mubench run fashion salun --model resnet --ratio 5 --seed 3 4"),
        ({"flops": 40 * 10**9}, r"takes 4e\+10 FLOPs, retraining 3e\+10: it is more work than what it replaces"),
        (
            {"references": ["retrain"]},
            "no original of seed 0 1 2 3 4 beside it: mubench run fashion original --model resnet --ratio 5 --seed 0 1",
        ),
        ({"references": ["original"]}, "no retrain of seed 0 1 2 3 4 beside it: mubench run fashion retrain"),
        ({"seeds": 0}, "there is no result but"),
        ({"engine": ENGINE + 1}, "is of an older version of task, method or engine: run it again"),
        ({"limit": 5}, "on a few rows only: run it without --limit"),
        ({"checkpoint": "mine"}, "starts from another original: run it without --checkpoint"),
    ],
)
def test_what_is_missing_is_said(stored, options, said):
    assert any(re.search(said, sentence) for sentence in why_unranked(made(stored, **options)))


def test_no_time_and_unknown_work(stored):
    assert why_unranked(made(stored, seconds=1e6, machine="another")) == []
    runs = made(stored, 4)
    runs[0].result.costs["flops"] = None
    said = "is of unknown work: `mubench run` counts FLOPs, weights from elsewhere are not ranked"
    assert f"fashion/resnet/salun/5 {said}" in why_unranked(runs)


def test_one_original_is_enough_for_seeds_that_start_from_it(stored):
    runs = [read_run(folder) for folder in stored.five("salun", "retrain", schema=1, original="c" * 64)]
    assert why_unranked([*runs, read_run(stored("original", 3, schema=1, original="c" * 64))]) == []


# -- one row, one code


def refused(runs):
    return [*disagreements(Submission(name="x", title="X"), [read_run(folder) for folder in runs])]


def test_two_states_of_a_methods_code_are_refused(stored):
    said = refused([stored("salun", 0), stored("salun", 1, code="b" * 16), stored("retrain", 0, code="c" * 16)])
    codes = f"{'a' * 16}, {'b' * 16}"
    [said] = said
    assert said == f"it holds results of salun from 2 states of its code (fingerprints {codes}): run all seeds with one"


def test_the_same_settings_with_other_hyperparameters_are_refused(stored):
    [said] = refused([stored("salun", 0), stored("salun", 1, hyperparameters={"epochs": 4})])
    assert said.startswith("it holds results of salun that were passed the same settings, {}, but record different")
    assert refused([stored("scrub", 0), stored("scrub", 1, protocol="official", hyperparameters={"epochs": 4})]) == []


def test_two_results_of_one_seed_are_refused(stored):
    first, other = stored("elsewhere@aaaaaaaaaaaa", 0), stored("elsewhere@bbbbbbbbbbbb", 0)
    [said] = refused([first, other])
    ids = ", ".join(sorted([first.name, other.name]))
    assert said == f"it holds 2 results of fashion/resnet/elsewhere/5, seed 0 (ids {ids}): keep the one that is meant"


def test_a_method_file_edited_between_two_seeds_is_refused_and_one_reformatted_is_not(tmp_path):
    file, results = tmp_path / "mine.py", tmp_path / "results"
    original = mubench.load_task("fashion").originals_dir("resnet")
    run = lambda seed: mubench.run("fashion", f"{file}:Mine", limit=5, seed=seed, checkpoint=str(original), out=results)
    file.write_text(METHOD)
    run(0)
    file.write_text(METHOD.replace("    schedule", "    # another line\n    schedule"))
    run(1)
    list(submit(results, "Mine", out=tmp_path / "reformatted"))
    file.write_text(METHOD.replace("-0.1", "-0.2"))
    run(2), run(0)
    with pytest.raises(MubenchError, match=r"it holds results of mine from 2 states of its code \(fingerprints"):
        list(submit(results, "Mine", out=tmp_path / "edited"))
    assert not (tmp_path / "edited").exists()
    there = tmp_path / "reformatted/mine/results"
    shutil.copytree(results, there, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    with pytest.raises(MubenchError, match="2 states of its code"):
        list(submission.check(tmp_path / "reformatted/mine"))


# -- ways in


def test_pushed_to_a_data_set_on_the_hub(hub, tmp_path, mubench):
    environment = hub.environment(tmp_path / "cache") | {"HF_TOKEN": "hf_of_mine"}
    done = mubench(
        "submit",
        tiny().parent / "results",
        "--name",
        "Tiny",
        "--push-to-hub",
        "me/unlearned",
        env=environment,
        cwd=tmp_path,
    )
    assert done.code == 0 and "pushed to me/unlearned: http" in done.out, done.err
    there = tmp_path / "hub/datasets/me/unlearned/tiny"
    assert (
        names(there) == [RUN + "predictions.parquet", RUN + "result.json", "submission.json"]
        and not (tmp_path / "tiny").exists()
    )
    assert "recomputed" in mubench("check", there).out
    hub.refused["me/other"] = 403
    done = mubench(
        "submit",
        tiny().parent / "results",
        "--name",
        "Tiny",
        "--push-to-hub",
        "me/other",
        env=environment,
        cwd=tmp_path,
    )
    assert (
        done.code == 1
        and "me/other could not be written" in done.err
        and "hf auth login" in done.err
        and "Traceback" not in done.err
    )


def test_the_workflow_checks_what_a_pull_request_adds(tmp_path):
    import yaml

    workflow = yaml.safe_load((ROOT / ".github/workflows/submissions.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"} and "pull_request_target" not in str(workflow)
    [job] = workflow["jobs"].values()
    script = job["steps"][-1]["run"]
    # The very script, in a shell, on two folders: one of the base's, one of the request's.
    (tmp_path / "request/leaderboard/submissions").mkdir(parents=True)
    shutil.copytree(tiny(), tmp_path / "request/leaderboard/submissions/tiny")

    def run(*changed):
        (tmp_path / "changed.txt").write_bytes(b"".join(name.encode() + b"\0" for name in changed))
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)

    good = "leaderboard/submissions/tiny/submission.json"
    done = run(good)
    assert done.returncode == 0 and "recomputed" in done.stdout, done
    for bad in (
        "leaderboard/submissions/tiny/verified.json",
        "leaderboard/results/x",
        "leaderboard/submissions/../../x",
        "leaderboard/submissions/$(id)/x",
    ):
        done = run(good, bad)
        assert done.returncode and "by themselves" in done.stdout, done
    assert run("README.md").returncode == 0  # another kind of pull request
    Altered(tiny(), tmp_path / "altered").edit(metrics__test_score=1.0).root.rename(
        tmp_path / "request/leaderboard/submissions/bad"
    )
    assert run("leaderboard/submissions/bad/submission.json").returncode


@pytest.mark.parametrize("name", registry.methods.names())
def test_every_method_has_a_row_of_the_taxonomy(name):
    assert Taxonomy(**mubench.load_method(name).taxonomy())


def test_a_row_of_the_taxonomy_is_the_methods_own(tmp_path):
    good = Altered(tiny(), tmp_path).edit("submission.json", taxonomy__retain="Loss")
    with pytest.raises(MubenchError, match="its taxonomy is not that of neggrad"):
        list(submission.check(good.root))


def test_no_field_is_free():
    fields = Submission.model_json_schema()["properties"]
    assert {"schema", "name", "title", "taxonomy", "selection", "trials", "budget", "weights"} < {*fields}
    assert not Submission.model_json_schema()["additionalProperties"]
