"""Tuning: what is searched, that no test row is looked at, that trials are equal in number and none is lost or done
twice.
"""

import json
import os
import subprocess
import sys

import pytest
from filelock import FileLock

import mubench as mu
from mubench.contracts import check_method
from mubench.errors import MubenchError
from mubench.job import Job
from mubench.measure import predict as evaluation
from mubench.measure.metrics import METRICS, Predictions
from mubench.records.result import read
from mubench.records.store import Store
from mubench.registry import load_method, load_task, methods
from mubench.spec import make_spec
from mubench.sweep.trials import OBJECTIVE, WORST, Trials
from mubench.sweep.tuning import tune, tune_all

SMALL = {"limit": 40}


def plan(out, trials=2, method="salun", budget=None, **options):
    return Trials(make_spec(task="fashion", method=method, **SMALL | options), str(out), trials, budget)


def trials(p):
    return p.counted(p.study())


@pytest.mark.parametrize("name", methods.names())
def test_what_a_method_searches_are_its_hyperparameters_around_their_defaults(name):
    cls = methods.get(name)
    for hyperparameter, choice in cls.space().items():
        default = cls.defaults()[hyperparameter]
        if isinstance(choice, list):
            assert default in choice and len(choice) > 1
        else:
            low, high, *scale = choice
            assert low < high and low <= default <= high or default is None
            assert scale == [] or scale == ["log"] and low > 0
            assert isinstance(default, int) == isinstance(low, int) == isinstance(high, int)
        for value in choice if isinstance(choice, list) else choice[:2]:
            load_method(name, **{hyperparameter: value})
    assert bool(cls.space()) == (name not in ("original", "retrain"))


def test_the_first_trial_is_the_defaults_and_the_result_says_how_its_values_were_found(tmp_path):
    result = tune("fashion", "neggrad", 3, out=tmp_path, **SMALL)
    done = trials(plan(tmp_path, 3, "neggrad"))
    assert len(done) == 3 and done[0].params == {"lr_factor": 0.03, "epochs": 1} and done[1].params != done[2].params
    best = min(done, key=lambda t: t.value)
    assert result.spec["trials"] == result.tuning["trials"] == 3 and result.tuning["value"] == best.value
    assert {n: result.method["hyperparameters"][n] for n in best.params} == best.params
    assert result.tuning["default_value"] == done[0].value and result.tuning["space"]["epochs"] == [1, 5]
    assert (
        result.tuning["command"].startswith("mubench tune fashion neggrad") and "--trials 3" in result.tuning["command"]
    )


def test_the_objective_is_the_gap_to_retrain_on_validation_rows(tmp_path, monkeypatch):
    task, seen = load_task("fashion"), []
    sets = task.sets("resnet", task.split(5))
    test, validation = (set(sets[name].rows.tolist()) for name in ("test", "validation"))

    def spy(task, model, sets, *args, **options):
        seen.extend((name, view.rows.tolist()) for name, view in sets.items())
        return predict(task, model, sets, *args, **options)

    predict = evaluation.predict
    monkeypatch.setattr(evaluation, "predict", spy)
    p = plan(tmp_path, 1)
    with p.alone():
        p.work(report=lambda *a, **k: None)
    assert {name for name, _ in seen} == {
        "test",
        "forget",
        "retain",
    }  # "test" is what the metric calls the rows it is given
    for rows in (rows for name, rows in seen if name == "test"):
        assert set(rows) <= validation and not set(rows) & test

    frames = []
    for method in ("retrain", "salun"):
        job = Job.of(make_spec(task="fashion", method=method, **SMALL))
        job.train(progress=False)
        shown = {"test": job.sets["validation"], **{name: job.sets[name] for name in ("forget", "retain")}}
        frames.append(predict(job.task, job.context.student, shown))
    share = lambda frame, name: frame[frame["set"] == name]["score"].mean()
    gaps = [abs(share(frames[0], name) - share(frames[1], name)) for name in ("test", "forget", "retain")]
    attack = METRICS["mia_svc_confidence"].compute
    gaps.append(abs(attack(Predictions(frames[0]), {}) - attack(Predictions(frames[1]), {})))
    assert trials(p)[0].value == pytest.approx(sum(gaps) / 4, abs=1e-12)


def test_the_retrained_model_is_made_once_for_all_methods(tmp_path, monkeypatch):
    quiet, jobs = {"report": lambda *a, **k: None, "out": tmp_path}, []
    make = Job.of.__func__
    monkeypatch.setattr(
        Job,
        "of",
        classmethod(lambda cls, spec, *more, **how: jobs.append(spec.method) or make(cls, spec, *more, **how)),
    )
    tune_all([make_spec(task="fashion", method=method, **SMALL) for method in ("neggrad", "delete")], 2, **quiet)
    assert jobs.count("retrain") == 1


def test_a_second_call_goes_on_and_trials_that_were_killed_are_begun_again(tmp_path):
    quiet = {"report": lambda *a, **k: None, "out": tmp_path}
    spec = make_spec(task="fashion", method="neggrad", **SMALL)
    tune_all([spec], 2, **quiet)
    p = plan(tmp_path, 4, "neggrad")
    before = [(t.number, t.params, t.value) for t in trials(p)]
    killed = p.study().ask()
    (
        killed.suggest_float("lr_factor", 0.003, 0.3, log=True),
        killed.suggest_int("epochs", 1, 5),
    )  # and then its process died
    tune_all([spec], 4, **quiet)
    done = trials(p)
    assert len(done) == 4 and [(t.number, t.params, t.value) for t in done][:2] == before
    assert killed.params in [t.params for t in done[2:]] and killed.number not in [t.number for t in done]
    tune_all([spec], 4, **quiet)
    assert len(trials(p)) == 4


def test_a_loss_that_diverges_counts_as_the_largest_gap(tmp_path):
    p = plan(tmp_path, 1, "neggrad", params={"lr": 1e30, "clip": 0, "optimizer": "sgd", "batch_size": 8})
    assert {*p.space} == {"epochs"}  # the rate is given
    with p.alone():
        p.work(report=lambda *a, **k: None)
    assert trials(p)[0].value == WORST == 1


def test_no_trial_begins_after_the_seconds_are_used_up(tmp_path):
    assert tune("fashion", "neggrad", 50, budget_seconds=1e-6, out=tmp_path, **SMALL).tuning["trials"] == 1


def test_no_setting_is_tried_twice(tmp_path):
    result = tune("fashion", "neggrad", 30, out=tmp_path, params={"lr_factor": 0.01}, **SMALL)
    assert result.tuning["trials"] == result.spec["trials"] == 5  # epochs 1 to 5 are all there is


LATE = '''from mubench.methods.base import Method, Term


class Late(Method):
    """Ascent on D_f; after the last epoch it looks at its weights, or moves them."""

    schedule = "forget_only"
    terms = (Term("forget", "loss", "true", weight=-1.0),)
    lr_factor = 0.01

    def finish(self, context):
        for parameter in context.student.parameters():
            parameter.data.mul_(FACTOR)
'''


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_a_method_is_pruned_unless_it_says_that_weights_change_after_its_last_epoch(tmp_path, factor):
    """It is said, not guessed from there being a hook; `mubench check` finds who forgot it."""
    assert plan(tmp_path).prunes and not plan(tmp_path, method="task_vector").prunes
    assert not plan(tmp_path, method="scrub_r").prunes
    file = tmp_path / "late.py"
    file.write_text(LATE.replace("FACTOR", str(factor)))
    assert plan(tmp_path, method=str(file)).prunes
    if factor == 1:
        assert list(check_method(str(file)))
    else:
        with pytest.raises(MubenchError, match="says prunes = False"):
            list(check_method(str(file)))
        file.write_text(file.read_text().replace("    lr_factor", "    prunes = False\n    lr_factor"))
        assert list(check_method(str(file))) and not plan(tmp_path, method=str(file)).prunes


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"trials": 0}, "must be above 0"),
        ({"budget_seconds": 0}, "must be above 0"),
        ({"workers": 0}, "must be above 0"),
    ],
)
def test_numbers_that_make_no_tuning(tmp_path, wrong, sentence):
    with pytest.raises(MubenchError, match=sentence):
        tune("fashion", "neggrad", out=tmp_path, **wrong)


def test_what_has_nothing_to_tune(tmp_path):
    with pytest.raises(MubenchError, match="retrain has nothing to tune"):
        tune("fashion", "retrain", out=tmp_path)
    with pytest.raises(MubenchError, match="neggrad has nothing to tune besides what is given"):
        tune("fashion", "neggrad", out=tmp_path, params={"lr_factor": 0.1, "epochs": 2})


def test_two_processes_do_not_tune_the_same(tmp_path):
    p = plan(tmp_path)
    os.makedirs(os.path.dirname(p.journal))
    with FileLock(p.journal + ".lock"), pytest.raises(MubenchError, match="is being tuned by another process"):
        tune("fashion", "salun", 2, out=tmp_path, **SMALL)


def test_tables_keep_tuned_and_default_rows_apart(tmp_path):
    from mubench.leaderboard.board import board

    tune("fashion", "neggrad", 1, out=tmp_path, params={"epochs": 1}, max_steps=1)
    mu.run("fashion", "neggrad", out=tmp_path, params={"epochs": 1}, max_steps=1)
    rows = board([tmp_path]).rows
    rows = rows[rows["method"] == "neggrad"]
    assert sorted(rows["trials"]) == [0, 1] and len(set(rows["label"])) == 2


@pytest.mark.slow
def test_workers_share_the_trials_and_a_killed_tuning_is_gone_on_with(tmp_path):
    words = [
        sys.executable,
        "-m",
        "mubench",
        "tune",
        "fashion",
        "salun",
        "--trials",
        "6",
        "--workers",
        "2",
        "--limit",
        "200",
        "--out",
        str(tmp_path),
    ]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(words, timeout=14, capture_output=True)
    subprocess.run(words, check=True)
    done = trials(plan(tmp_path, 6, limit=200))
    assert len(done) == 6 and len({json.dumps(t.params, sort_keys=True) for t in done}) == 6
    [result] = [read(folder) for folder in Store(tmp_path).results()]
    assert result.tuning["trials"] == 6 and result.tuning["value"] <= result.tuning["default_value"]


def test_the_module_is_light():
    code = "import sys, mubench.sweep.tuning; sys.exit(any(m in sys.modules for m in ('torch', 'optuna')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert OBJECTIVE
