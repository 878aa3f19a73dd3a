"""How far a result may be believed: what each level establishes, what takes it away, and what is flagged."""

import contextlib
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import mubench
from hub import Hub, commit
from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard import submission
from mubench.leaderboard.trust.flags import raise_flags
from mubench.leaderboard.trust.levels import Level, Unavailable, level_of
from mubench.leaderboard.trust.re_evaluation import re_evaluate, task_network
from mubench.leaderboard.trust.reading import read_run
from mubench.leaderboard.trust.reproduction import reproduce
from mubench.leaderboard.trust.suite import compare_original, compare_with_suite
from mubench.models import originals
from mubench.models.networks import weights_hash
from submissions import Altered, tiny


@pytest.fixture
def good(tmp_path):
    return Altered(tiny(), tmp_path)


def check(folder, **options):
    return "\n".join(submission.check(folder, **options))


# -- levels


def test_levels_have_an_order():
    assert [level.rank for level in Level] == [0, 1, 2, 3] and str(Level.RE_EVALUATED) == "re-evaluated"


def test_unchecked_is_reported_checked_is_recomputed(good):
    assert level_of(good.result) == (Level.REPORTED, ())
    assert "recomputed: fashion/resnet/neggrad/5/" in check(good.root, record=True)
    assert level_of(good.result) == (Level.RECOMPUTED, ())


@pytest.mark.parametrize("name", ["result.json", "predictions.parquet"])
def test_a_changed_file_loses_the_level(good, name):
    check(good.root, record=True)
    good.path(name).write_bytes(good.path(name).read_bytes() + b"\n")
    assert level_of(good.result) == (Level.REPORTED, (f"{name} was changed after it was checked",))


def test_predictions_are_made_again_from_the_weights(good):
    assert "predictions made again from weights" in check(good.root, weights=True, record=True)
    assert level_of(good.result)[0] is Level.RE_EVALUATED


def test_the_run_is_done_again(good):
    said = check(good.root, rerun=True, record=True)
    assert re.search(r"run again in .* s: the same weights, metrics within 0.0000", said)
    assert level_of(good.result)[0] is Level.REPRODUCED


@pytest.mark.parametrize("costs", [{"flops": 1}, {"examples": 1}, {"steps": 99}])
def test_claimed_work_is_compared_when_the_run_is_done_again(good, costs):
    good.edit(**{f"costs__{name}": value for name, value in costs.items()})
    with pytest.raises(MubenchError, match=f"costs.{next(iter(costs))} is"):
        check(good.root, rerun=True)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"costs__examples": 10**9}, "used 1,000,000,000 examples of a budget of 50"),
        (
            {"status": "complete", "spec__limit": None, "costs__stopped_by": "examples"},
            "said to be complete, but stopped by examples",
        ),
    ],
)
def test_how_a_run_ended_is_what_its_costs_say(good, changes, said):
    good.edit(**changes)
    with pytest.raises(MubenchError, match=said):
        check(good.root)


def test_a_level_that_a_submission_claims_itself_is_overwritten(good):
    check(good.root, rerun=True, record=True)
    check(good.root, record=True)
    assert level_of(good.result)[0] is Level.RECOMPUTED


def test_own_results_are_what_their_owner_did(tmp_path):
    ran = mubench.run("fashion", "original", limit=5, out=tmp_path)
    assert level_of(next(tmp_path.rglob("result.json")).parent) == (Level.REPRODUCED, ())
    folder = mubench.load_task("fashion").originals_dir("resnet")
    values = mubench.evaluate(
        "fashion", folder, limit=5, name="elsewhere", out=tmp_path, seconds=2.0, paper="Somebody 2026"
    )
    assert values == ran.metrics
    found = next(tmp_path.glob("fashion/resnet/elsewhere/5/*"))
    assert level_of(found) == (Level.RE_EVALUATED, ())
    run = read_run(found)
    assert (
        run.metrics == ran.metrics
        and run.spec.method == f"elsewhere@{run.result.weights[:12]}"
        and compare_with_suite(run) == []
    )
    assert (
        run.result.costs["unlearning_seconds"] == 2.0
        and run.result.costs["flops"] is None
        and run.result.method["paper"] == "Somebody 2026"
    )
    with pytest.raises(MubenchError, match="cannot run that code"):
        mubench.load_method(run.spec.method)


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"name": "salun", "out": "x"}, "no method of mubench"),
        ({"name": "My Method", "out": "x"}, "snake_case"),
        ({"name": "mine"}, "belong together"),
        ({"out": "x"}, "belong together"),
        ({"name": "mine", "out": "x", "seconds": -1.0}, "seconds -1.0"),
    ],
)
def test_what_cannot_be_recorded_is_said_before_anything_is_measured(options, complaint):
    with pytest.raises(MubenchError, match=complaint):
        mubench.evaluate("fashion", "nowhere", **options)


def test_numbers_without_predictions_are_reported(good):
    good.path("predictions.parquet").unlink()
    with pytest.raises(MubenchError, match="predictions.parquet is no file"):
        read_run(good.result)
    good.edit(predictions={})
    assert "reported: " in check(good.root, record=True)
    assert level_of(good.result) == (Level.REPORTED, ("no predictions",))
    with pytest.raises(MubenchError, match="nothing could be re-evaluated: .* has no predictions"):
        check(good.root, weights=True)


# -- compared with the suite


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"task__labels": list("abcdefghij")}, "task.labels"),
        ({"task__metric_options": {"positive_labels": [1]}}, "takes no arguments"),
        ({"task__also": ["accuracy"]}, "task.also"),
        ({"checkpoint__sha256": "0" * 64}, "checkpoint.sha256"),
        ({"split__checksum": "0" * 64}, "split.checksum"),
        ({"split__data": "0" * 64}, "split.data"),
        ({"split__forget": 1}, "split.forget"),
        ({"id": "0" * 12}, "id is 000000000000"),
        ({"spec__seed": 7}, "seed of the original is '7'"),
        ({"spec__seed": 7, "checkpoint__seed": 7}, "id is"),
        ({"spec__limit": None}, "limited is True"),
        ({"status": "complete"}, "limited is False"),
        ({"method__hyperparameters__lr_factor": 5.0}, "hyperparameters.lr_factor is 5.0 .* but 0.03"),
        ({"method__recipe__lr": 5.0}, "recipe.lr is 5.0"),
        ({"budget__examples": 10**9}, "budget is .*1000000000"),
        ({"method__taxonomy__retain": "Rep"}, "taxonomy.retain is Rep"),
        ({"spec__model": "vit"}, "spec's model is 'vit'"),
        ({"spec__ratio": "10"}, "spec's ratio"),
        ({"method__name": "salun"}, "spec's method"),
    ],
)
def test_facts_are_those_of_the_suite(good, changes, complaint):
    good.edit(**changes)
    with pytest.raises(MubenchError, match=complaint):
        run = read_run(good.result)
        compare_with_suite(run)


def test_a_convenient_random_guess(good):
    good.edit(task__random_guess=0.9).frame(lambda frame: frame)  # with the overall score that follows from it
    with pytest.raises(MubenchError, match="task.random_guess is 0.9 in result.json, but 0.1 in the suite"):
        compare_with_suite(read_run(good.result))


def test_the_score_of_the_original_is_that_of_its_card(tmp_path):
    mubench.run("fashion", "original", max_steps=1, out=tmp_path)
    store = Altered(tmp_path, tmp_path / "copy")
    store.__class__ = type("Stored", (Altered,), {"result": property(lambda self: next(self.root.glob("*/*/*/*/*")))})
    assert compare_with_suite(read_run(store.result)) == []
    store.edit(checkpoint__test_score=0.5).frame(lambda frame: frame)
    with pytest.raises(MubenchError, match="checkpoint.test_score is 0.5 in result.json, but 0.87625"):
        compare_with_suite(read_run(store.result))


def test_originals_of_other_seeds_are_compared_with_those_trained_here(good, tmp_path, monkeypatch):
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    task, seed = mubench.load_task("fashion"), 1
    run = read_run(good.edit(spec__seed=seed, checkpoint__seed=seed).result)
    assert compare_original(run, task) == ["original of seed 1 not compared: it does not ship with the suite"]
    folder = originals.trained_dir(task, "resnet", seed)
    folder.mkdir(parents=True)
    other = ["original of seed 1 is another than the one trained here"]
    for sha, said in ((run.result.checkpoint["sha256"], []), ("0" * 64, other)):
        (folder / originals.CARD).write_text(json.dumps({"sha256": sha, "scores": {"test": 0.5}}))
        assert compare_original(run, task) == said


def test_other_code_of_a_method_of_the_suite_is_flagged(good):
    good.edit(method__fingerprint="0" * 16)
    assert compare_with_suite(read_run(good.result)) == ["made with other code of neggrad than the suite's"]
    good.edit(method__hyperparameters__lr_factor=5.0)
    with pytest.raises(MubenchError, match="hyperparameters.lr_factor is 5.0"):
        compare_with_suite(read_run(good.result))


@pytest.mark.parametrize("changes", [{"method__version": 99}, {"engine": 99}, {"task__version": 99}])
def test_other_versions_are_flagged(good, changes):
    good.edit(**changes)
    try:
        assert compare_with_suite(read_run(good.result)) == ["made with another version of task, method or engine"]
    except MubenchError as error:
        assert "task.version is 99" in str(error)


def relabel(frame):
    return frame.assign(
        target=(frame["target"] + 1) % 10,
        prediction=(frame["prediction"] + 1) % 10,
        logits=[row if row is None else np.roll(row, 1) for row in frame["logits"]],
    )


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda f: f.iloc[1:], "examples of the .* set are others"),
        (lambda f: f.assign(index=f["index"] + 100_000), "are others than the task's"),
        (lambda f: f[f["set"] != "transfer"], "examples of the transfer set|predictions, the task"),
        (relabel, "targets of the .* set are not the task's own"),
        (lambda f: f.assign(prediction=f["target"], score=1.0), "prediction of .* does not follow"),
        (lambda f: f.assign(score=1.0), "score of .* does not follow"),
        (
            lambda f: f.assign(loss=f["loss"].sample(frac=1, random_state=0).values),
            "does not follow from the other columns",
        ),
        (lambda f: f.assign(confidence=np.float32(0.5)), "confidence of .* does not follow"),
    ],
)
def test_predictions_are_of_the_tasks_examples_and_say_one_thing(good, change, complaint):
    good.frame(change)  # and the metrics are those of the altered predictions
    run = read_run(good.result)
    with pytest.raises(MubenchError, match=complaint):
        compare_with_suite(run)


@pytest.mark.parametrize("name", [n for n in registry.tasks.names() if registry.tasks.get(n).tier == "mini"])
def test_weights_are_read_into_the_tasks_own_network(name):
    task = mubench.load_task(name)
    for model in task.models:
        folder = task.originals_dir(model)
        assert weights_hash(task_network(task, model, folder)) == weights_hash(originals.load(task, model)[0])


# -- predicted again, run again


def turned(frame):
    """The predictions of another model, all columns in agreement."""
    there = frame["logits"].notna()  # the retain set has none
    rows = frame[there]
    logits = np.stack(rows["logits"])[:, ::-1].astype("float64")
    loss, said = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(rows)), rows["target"]], logits.argmax(1)
    rows = rows.assign(
        logits=[*np.float32(logits)],
        prediction=said,
        score=(said == rows["target"]).astype(float),
        loss=loss.astype("float32"),
        confidence=np.exp(-loss).astype("float32"),
    )
    return pd.concat([rows, frame[~there]]).sort_index()


def test_predictions_of_another_model_pass_until_its_weights_are_asked_for(good):
    good.frame(turned)
    assert "recomputed" in check(good.root)
    with pytest.raises(
        MubenchError,
        match=(
            "of .* in 20 examples .*drawn by seed 3.* is not what the weights give, claimed for one .*, found .*;"
            " tolerance: 0.01"
        ),
    ):
        re_evaluate(read_run(good.result), seed=3)
    with pytest.raises(MubenchError, match=r"metric \w+ is .* but .* when run again \(tolerance 1e-12\)"):
        reproduce(read_run(good.result))
    good.edit(weights="0" * 64)
    with pytest.raises(MubenchError, match=r"metric \w+ is .* in result.json but .* when run again \(tolerance 0.03\)"):
        reproduce(read_run(good.result))


def test_a_record_of_schema_1_of_another_seed_is_not_run_again(good):
    run = read_run(good.edit(spec__seed=3, checkpoint__seed=3).result)
    run.result.migrated, run.result.checkpoint["seed"] = 1, None
    with pytest.raises(Unavailable, match="its original is not that of seed 3"):
        reproduce(run)


def test_a_run_of_another_machine_is_compared_by_its_metrics(good):
    good.edit(weights="0" * 64)
    assert "other weights, as on another machine, metrics within 0.0000" in reproduce(read_run(good.result))


def test_other_weights_than_those_evaluated(good, tmp_path):
    from safetensors.torch import load_file, save_file

    path = good.path("model") / "model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    for change, complaint in (
        (weights | {name: weights[name] + 1}, "those evaluated"),
        (weights | {name: torch.zeros(3)}, "missing or of another shape, among them"),
        ({k: v for k, v in weights.items() if k != name}, "1 weights of resnet of fashion are missing"),
    ):
        save_file(change, path)
        with pytest.raises(MubenchError, match=complaint):
            re_evaluate(read_run(good.result))
    path.write_bytes(b"\x80\x04" + b"x" * 100)
    with pytest.raises(MubenchError, match="model.safetensors is no use"):
        re_evaluate(read_run(good.result))


def test_weights_on_the_hub(good, tmp_path, mubench):
    with Hub(tmp_path / "hub") as hub:
        target = hub.root / "models" / "me" / "weights" / good.result.name
        target.mkdir(parents=True)
        shutil.move(good.path("model") / "model.safetensors", target)
        good.path("model").rmdir()
        good.edit("submission.json", weights=f"me/weights@{commit(target.parent)}")
        done = mubench("check", good.root, "--weights", "--sample", 0, env=hub.environment(tmp_path / "cache"))
        assert done.code == 0 and "re-evaluated: fashion" in done.out and "20 predictions made again" in done.out, (
            done.err
        )
        target.rename(target.parent / "elsewhere")
        good.edit("submission.json", weights=f"me/weights@{commit(target.parent)}")
        done = mubench("check", good.root, "--weights", env=hub.environment(tmp_path / "cache2"))
        assert done.code == 1 and "nothing could be re-evaluated" in done.err


def test_code_of_strangers_is_never_imported(good, tmp_path):
    canary = tmp_path / "canary"
    code = tmp_path / "trap.py"
    code.write_text(f"open({str(canary)!r}, 'w')\n")
    for changes in (
        {"spec__method": f"{code}:Trap", "method__name": "trap"},
        {"spec__task": f"{code}:Trap", "task__name": "trap"},
    ):
        copy = Altered(good.root, tmp_path / "-".join(changes)).edit(**changes)
        for act in (
            lambda altered: check(altered.root),
            lambda altered: reproduce(read_run(altered.result)),
            lambda altered: re_evaluate(read_run(altered.result)),
            lambda altered: level_of(altered.result),
            lambda altered: check(altered.root, weights=True, rerun=True),
        ):
            with contextlib.suppress(MubenchError):
                act(copy)
    with pytest.raises(Unavailable, match="a stranger's code is not run"):
        reproduce(
            read_run(
                Altered(good.root, tmp_path / "again").edit(spec__method=f"{code}:Trap", method__name="trap").result
            )
        )
    assert not canary.exists()


# -- flags


def test_nothing_is_strange_about_ordinary_runs(stored):
    runs = [read_run(stored("salun", seed, seconds=60.0)) for seed in range(5)] + [
        read_run(stored("retrain", seed)) for seed in range(5)
    ]
    assert all(found == [] for found in raise_flags(runs).values())


def flagged(run, others, references=()):
    return " ".join(raise_flags([run, *others], references)[run])


def test_a_seed_far_from_the_others(stored):
    runs = [read_run(stored("salun", seed)) for seed in range(4)]
    wrong = stored.predictions(99)
    wrong["prediction"], wrong["score"] = (wrong["target"] + 1) % 3, 0.0
    odd = read_run(stored("salun", 4, frame=wrong))
    assert re.search(r"outlier seed: test_score 0.000, median of 5 seeds 0.\d", flagged(odd, runs))
    assert not any(raise_flags([*runs, odd])[run] for run in runs)


def test_equal_predictions_of_several_seeds(stored):
    frame = stored.predictions(5)
    one, two, other = (
        read_run(stored("salun", seed, frame=f)) for seed, f in ((0, frame), (1, frame), (2, stored.predictions(6)))
    )
    assert "equal to those of seed 1" in flagged(one, [two, other]) and not flagged(other, [one, two])


def test_retraining_passed_off_as_a_method(stored):
    frame, retrain = stored.predictions(7), stored.predictions(8)
    frame.loc[frame["set"] == "forget"] = retrain[retrain["set"] == "forget"]
    run, reference = read_run(stored("salun", frame=frame)), read_run(stored("retrain", frame=retrain))
    assert "forget predictions are those of retrain, seed 0" in flagged(run, [], [reference])


def test_times_that_the_machine_cannot_do(stored):
    reference = read_run(stored("retrain", seconds=100.0))
    assert "time claim: 3e+09 FLOPs in 1 cpu seconds, retrain on the same machine does 3e+08" in (
        flagged(read_run(stored("salun", seconds=1.0)), [], [reference])
    )
    assert not flagged(read_run(stored("salun", 1, seconds=50.0)), [], [reference])
    assert not flagged(read_run(stored("salun", 2, seconds=1.0, machine="another")), [], [reference])
    old = read_run(stored("salun", 3, seconds=1.0, schema=1))  # which does not say the machine
    assert not flagged(old, [], [reference])
