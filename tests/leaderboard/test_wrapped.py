"""Wrappers on the leaderboard: from the command line to the board, flagged and not ranked, their weights checked."""

import json
import shutil

import pytest

import mubench
from hub import Hub, commit
from mubench.leaderboard import submission
from mubench.leaderboard.board import board
from mubench.leaderboard.trust.layout import FILES
from mubench.leaderboard.trust.levels import Level, level_of
from mubench.leaderboard.trust.reading import read_run
from mubench.leaderboard.trust.unranked import why_unranked
from mubench.records.store import Store
from submissions import Altered

FILE, LIMIT = "tests/assistant.py", 16


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """Class in `FILE` → the folder of a submission of a run with its weights."""
    made = {}

    def one(name="Assistant", **options):
        key = name, *options.items()
        if key not in made:
            folder = tmp_path_factory.mktemp(name)
            where = {"task": "fashion", "limit": LIMIT} | options
            mubench.run(method=f"{FILE}:{name}", out=folder / "results", save_model=True, **where)
            about = {"description": "A wrapper", "paper": "https://example.org/paper", "weights": "local"}
            list(mubench.submit(folder / "results", name, out=folder, **about))
            made[key] = folder / name.lower()
        return made[key]

    return one


@pytest.fixture
def good(submitted, tmp_path):
    return Altered(submitted(), tmp_path)


def check(folder, **options):
    return "\n".join(submission.check(folder, **options))


def test_from_the_command_line_to_the_board(cli, tmp_path):
    results, where = tmp_path / "results", ("--ratio", "1")
    done = cli("run", "fashion", f"{FILE}:Assistant", *where, "--save-model", "--out", results)
    assert not done.code, done.err
    (folder,) = Store(results).results()
    done = cli("evaluate", "fashion", folder / "model", *where, "--name", "again", "--out", results)
    assert not done.code, done.err
    again = next(path for path in Store(results).results() if path != folder)
    assert (again / "predictions.parquet").read_bytes() == (folder / "predictions.parquet").read_bytes()
    assert "predictions made again from weights" in cli("check", folder).out
    about = ("--name", "Assistant", "--weights", "local", "--paper", "https://example.org/paper")
    packed = cli("submit", folder, *about, "--out", tmp_path)
    assert not packed.code, packed.err
    assert "is the wrapper logit_difference at inference: it is shown, and not ranked among weights" in packed.out
    checked = cli("check", tmp_path / "assistant", "--weights", "--record")
    assert not checked.code and "re-evaluated: fashion/resnet/assistant" in checked.out
    assert level_of(next((tmp_path / "assistant").glob("results/*/*/*/*/*")))[0] is Level.RE_EVALUATED
    assert not cli("board", results, tmp_path / "assistant", "--out", tmp_path / "tables").code
    table = (tmp_path / "tables/README.md").read_text()
    rows = [line for line in table.splitlines() if "a wrapper at inference: logit_difference" in line]
    assert len(rows) == 3 and any("again" in row for row in rows), table[:3000]


def test_a_wrapper_is_flagged_and_has_no_rank(stored, monkeypatch):
    from mubench.leaderboard import index
    from mubench.leaderboard import stored as reading

    stored.five("original", "retrain", "salun", "neggrad")
    read = reading.read_record

    def wrapped(folder):
        result = read(folder)
        if result.method["name"] == "salun":
            result.model["wrapper"] = {"name": "logit_difference"}
        return result

    before = board(stored.root).rows.set_index("label")
    monkeypatch.setattr(reading, "read_record", wrapped)
    (stored.root / index.INDEX).unlink()
    made = board(stored.root)
    after = made.rows.set_index("label")
    assert {before.loc["salun", "rank"], before.loc["neggrad", "rank"]} == {1, 2}
    assert (
        after.loc["salun", "rank"] is not None and after["rank"].isna()["salun"] and after.loc["neggrad", "rank"] == 1
    )
    assert after.loc["salun", "remarks"] == "a wrapper at inference: logit_difference"
    assert after.loc["salun", "gap_to_retrain"] == before.loc["salun", "gap_to_retrain"]
    assert after.loc["neggrad", "remarks"] == before.loc["neggrad", "remarks"]
    assert list(made.runs.loc[made.runs["wrapper"] != "", "method"].unique()) == ["salun"]


def test_its_files_are_those_of_a_submission(submitted):
    files = {path.relative_to(submitted()).as_posix() for path in submitted().rglob("*") if path.is_file()}
    inner = {name.partition("/model/")[2] for name in files if "/model/" in name}
    assert inner == {"wrapper.json", "assistant/model.safetensors"} and all(map(FILES.fullmatch, files))
    home = next(name for name in files if name.endswith("wrapper.json")).removesuffix("wrapper.json")
    for odd in (
        "wrapper.py",
        "../wrapper.json",
        "assistant/wrapper.json",
        "assistant/config.json",
        "a/b/m.safetensors",
    ):
        assert not FILES.fullmatch(home + odd)


def test_predictions_are_made_again_from_its_parts(good):
    assert "predictions made again from weights" in check(good.root, weights=True)
    assert any("is the wrapper logit_difference" in s for s in why_unranked([read_run(good.result)]))


def test_predictions_of_text_are_made_again(submitted):
    folder = submitted("Assistant", task="people", model="gpt2")
    assert "predictions made again from weights" in check(folder, weights=True)


def test_in_a_zip_too(good, tmp_path):
    shutil.make_archive(tmp_path / "packed", "zip", good.root.parent, good.root.name)
    assert "predictions made again from weights" in check(tmp_path / "packed.zip", weights=True)


def test_a_wrapper_of_somebodys_own_can_only_be_recomputed_or_rerun(submitted):
    folder = submitted("Own")
    assert "recomputed: fashion/resnet/assistant" in check(folder)
    with pytest.raises(mubench.MubenchError, match="halves is a wrapper of somebody's own.*recomputed.*--rerun"):
        check(folder, weights=True)


def test_ones_own_result_says_so(cli, submitted):
    (folder,) = Store(submitted("Own").parent / "results").results()
    done = cli("check", folder)
    assert not done.code and "not re-evaluated" in done.out and "wrapper of somebody's own" in done.out


def forged(**changes):
    def change(good):
        path = good.result / "model/wrapper.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


FORGED = {
    "other options": (forged(options={"alpha": 0.25}), "the weights given have hash|model.wrapper is"),
    "options of the record": (
        lambda good: good.edit(model__wrapper__options={"alpha": 0.25}),
        "model.wrapper is .* in result.json",
    ),
    "no wrapper in the record": (lambda good: good.edit(model__wrapper=None), "model.wrapper is None in result.json"),
    "loads what is not ours": (
        lambda good: (forged(name="halves")(good), good.edit(model__wrapper__name="halves")),
        "the wrapper halves is none of mubench's",
    ),
    "no JSON": (lambda good: (good.result / "model/wrapper.json").write_text("{"), "describes no wrapper"),
    "a part is gone": (lambda good: shutil.rmtree(good.result / "model/assistant"), "lacks its part assistant"),
    "no description": (lambda good: (good.result / "model/wrapper.json").unlink(), "has no weights in safetensors"),
    "a script": (lambda good: (good.result / "model/run.py").write_text("x"), "is no file of a submission"),
    "a configuration": (
        lambda good: (good.result / "model/assistant/config.json").write_text("{}"),
        "is no file of a submission",
    ),
    "a path": (
        lambda good: good.edit(model__wrapper__parts=lambda p: {"../x": p["assistant"]}),
        r"model.wrapper.parts.\.\./x",
    ),
    "damaged weights": (
        lambda good: (good.result / "model/assistant/model.safetensors").write_bytes(b"x" * 99),
        "is no use",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_wrappers_are_refused(good, name):
    forge, sentence = FORGED[name]
    forge(good)
    with pytest.raises(mubench.MubenchError, match=sentence):
        check(good.root, weights=True)


def test_its_weights_may_lie_on_the_hub(good, tmp_path, mubench):
    with Hub(tmp_path / "hub") as hub:
        target = hub.root / "models/me/weights" / good.result.name
        target.parent.mkdir(parents=True)
        (good.result / "model").rename(target)
        (target / "assistant/run.py").write_text("not fetched")
        good.edit("submission.json", weights=f"me/weights@{commit(target.parent)}")
        done = mubench("check", good.root, "--weights", env=hub.environment(tmp_path / "cache"))
    assert not done.code and "predictions made again from weights" in done.out, done.err
