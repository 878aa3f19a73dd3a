"""Metrics: closed forms, invariances, and what they answer when something is missing, contradictory or not finite."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mubench.errors import MubenchError
from mubench.measure.metrics import METRICS, Predictions, arrays, compute_all, metric
from mubench.measure.metrics.primary import load_primary
from mubench.measure.predict import rounded

FACTS = {"num_labels": 3, "random_guess": 1 / 3, "original_test_score": 0.9, "accuracy": True, "verbatim": True}
SIZES = {"test": 40, "forget": 30, "retain": 80, "transfer": 12}


def rows(name, logits, target, incompetent=None, start=0):
    logits, target = np.asarray(logits, "float32"), np.asarray(target)
    features = arrays.membership_features(logits.astype("float64"), target)
    loss = np.logaddexp.reduce(logits.astype("float64"), axis=1) - logits[np.arange(len(target)), target]
    return pd.DataFrame(
        {
            "set": name,
            "index": np.arange(start, start + len(target)),
            "target": target,
            "prediction": logits.argmax(1),
            "score": features["correctness"],
            "loss": loss.astype("float32"),
            "confidence": features["confidence"].astype("float32"),
            "logits": list(logits),
            "incompetent": None if incompetent is None else list(np.asarray(incompetent, "float32")),
        }
    )


def frame(seed=0, sizes=SIZES, classes=3):
    rng, parts = np.random.default_rng(seed), []
    for name, n in sizes.items():
        target = np.arange(n) % classes
        logits = rng.normal(size=(n, classes)) + 2 * np.eye(classes)[target] * (name != "test")
        parts.append(rows(name, logits, target, rng.normal(size=(n, classes)) if name == "forget" else None))
    return pd.concat(parts, ignore_index=True)


def put(predictions, column, value, where):
    predictions = predictions.copy()
    for i in predictions.index[where]:
        predictions.at[i, column] = value
    return predictions


@pytest.fixture(scope="module")
def predictions():
    return frame()


# --- closed forms
# -------------------------------------------------------------------------------------------------------


def test_scores_are_means(predictions):
    values = compute_all(predictions)
    for name in SIZES:
        assert values[f"{name}_score"] == predictions[predictions.set == name].score.mean()


def test_a_scorer_replaces_the_mean(predictions):
    scorer = load_primary("micro_f1", positive_labels=[1, 2]).score
    values = compute_all(predictions, {"scorer": scorer})
    test = predictions[predictions.set == "test"]
    tp = ((test.target == test.prediction) & (test.target > 0)).sum()
    assert values["test_score"] == pytest.approx(2 * tp / ((test.target > 0).sum() + (test.prediction > 0).sum()))


def test_auc_counts_pairs():
    assert arrays.auc([3, 1], [2, 0]) == 0.75
    assert arrays.auc([1, 1], [1]) == 0.5
    assert arrays.auc([np.inf], [0.0, np.inf]) == 0.75


def test_tpr_admits_the_false_positives_it_may_and_no_more():
    nonmembers = np.arange(100.0)
    assert arrays.tpr_at_fpr(np.array([0.5, 1.0, 1.5]), nonmembers) == 1 / 3  # one false positive: the threshold is 1
    assert arrays.tpr_at_fpr(np.array([0.0, -1.0]), nonmembers[:99]) == 0.5  # none allowed
    assert arrays.tpr_at_fpr(nonmembers, nonmembers) == 0.01
    assert (
        arrays.tpr_at_fpr(np.zeros(5), np.zeros(100)) == 0
    )  # a tie is called alike, and 100 false positives are too many
    assert arrays.tpr_at_fpr(np.arange(7.0), np.arange(100.0), fpr=0.07) == 1


def test_separable_losses_are_found_and_equal_ones_are_not():
    low, high = np.full(50, 0.1) + np.linspace(0, 0.01, 50), np.full(50, 5.0) + np.linspace(0, 0.01, 50)
    assert arrays.logistic_attack(low, high).tolist() == [1.0] * 5
    assert arrays.svc_attack(-low, -high, nonmembers=-high) == 1
    assert arrays.svc_attack(-low, -high, members=-low, nonmembers=-low) == 0.5
    assert arrays.logistic_attack(np.ones(50), np.ones(50)).tolist() == [0.5] * 5


def test_which_way_the_metrics_point():
    """The forget set is remembered like the retain set, better than the test set; then like the test set, then
    worse.
    """

    def losses(**of):
        parts = [
            rows(name, np.zeros((100, 2)), np.zeros(100, int)).assign(
                loss=loss + np.linspace(0, 0.01, 100), score=float(loss < 1)
            )
            for name, loss in of.items()
        ]
        return compute_all(pd.concat(p.assign(confidence=np.exp(-p.loss)) for p in parts))

    kept, gone = losses(test=2.0, forget=0.1, retain=0.1), losses(test=2.0, forget=2.0, retain=0.1)
    names = ["mia_loss_auc", "mia_tpr_at_1_fpr", "mia_logistic", "mia_svc_confidence", "knowledge_gap"]
    assert [kept[name] for name in names] == [1, 1, 1, 0, 0.5]
    assert gone["mia_loss_auc"] == 0.5 and gone["mia_tpr_at_1_fpr"] == 0.01
    assert gone["mia_svc_confidence"] == gone["knowledge_gap"] == 1
    assert losses(test=2.0, forget=5.0, retain=0.1)["mia_loss_auc"] == 0


def test_divergences():
    same, sure, opposite = [[0.0, 0.0]], [[800.0, 0.0]], [[0.0, 800.0]]
    assert arrays.js_divergence(same, same) == arrays.reversed_js(same, same) == 0
    assert arrays.js_divergence(sure, opposite) == np.log(2)
    assert np.isfinite(arrays.reversed_js(sure, opposite))
    with pytest.raises(MubenchError, match="shapes"):
        arrays.js_divergence([[0.0]], same)


def test_zrf_is_one_for_the_incompetent_model_itself():
    logits = np.random.default_rng(0).normal(size=(9, 4))
    values = compute_all(rows("forget", logits, np.arange(9) % 4, incompetent=logits))
    assert values["zrf"] == values["zrf_official"] == 1
    far = compute_all(rows("forget", [[99.0, 0.0]], [0], incompetent=[[0.0, 99.0]]))
    assert far["zrf"] == pytest.approx(1 - np.log(2))


def test_knowledge_gap_is_its_closed_form(predictions):
    values = compute_all(predictions)
    assert values["knowledge_gap"] == pytest.approx(
        0.5 + (values["retain_score"] - values["forget_score"]) / 2, abs=1e-15
    )


@pytest.mark.parametrize("test, forget, expected", [(1, 0, 1), (0, 0, 0), (1, 1, 0), (0.5, 0.5, 0.5)])
def test_overall(test, forget, expected):
    scores = {"test": test, "forget": forget}
    predictions = pd.concat(rows(name, [[1.0, 0.0]] * 2, [0, 0]).assign(score=score) for name, score in scores.items())
    assert compute_all(predictions, {"random_guess": 0, "original_test_score": 1})["overall"] == expected


def test_distances_to_retrain(predictions):
    assert compute_all(predictions, references={"retrain": [predictions]})["gap_to_retrain"] == 0
    assert compute_all(predictions, references={"retrain": [predictions]})["js_to_retrain"] == 0
    other = frame(seed=1)
    a, b, both = compute_all(predictions), compute_all(other), compute_all(predictions, references={"retrain": [other]})
    parts = ["test_score", "forget_score", "retain_score", "mia_svc_confidence"]
    assert both["gap_to_retrain"] == pytest.approx(np.mean([abs(a[k] - b[k]) for k in parts]))
    assert 0 < both["js_to_retrain"] < 1
    sure, opposite = rows("forget", [[999.0, 0.0]], [0]), rows("forget", [[0.0, 999.0]], [0])
    assert compute_all(sure, references={"retrain": [opposite]})["js_to_retrain"] == 1


# --- invariances
# --------------------------------------------------------------------------------------------------------

losses = st.lists(st.integers(0, 1000).map(lambda k: k / 100), min_size=1, max_size=40).map(np.array)


@given(losses, losses)
def test_auc_agrees_with_scikit_learn_and_ignores_monotone_transforms(members, nonmembers):
    from sklearn.metrics import roc_auc_score

    value = arrays.auc(members, nonmembers)
    label = np.repeat([1, 0], [len(members), len(nonmembers)])
    assert value == pytest.approx(roc_auc_score(label, np.concatenate([members, nonmembers])))
    assert value == arrays.auc(np.exp(members), np.exp(nonmembers))
    assert value == pytest.approx(1 - arrays.auc(nonmembers, members))


@given(losses, losses)
def test_tpr_is_the_best_that_a_threshold_reaches(members, nonmembers):
    thresholds = np.append(nonmembers, np.inf)
    reached = [np.mean(members < t) for t in thresholds if np.mean(nonmembers < t) <= 0.01 + 1e-12]
    assert arrays.tpr_at_fpr(members, nonmembers) == max(reached)
    assert arrays.tpr_at_fpr(np.exp(members), np.exp(nonmembers)) == arrays.tpr_at_fpr(members, nonmembers)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_rows_changes_no_bit_and_ranges_hold(seed):
    a, b = frame(seed), frame(seed + 1)
    values = compute_all(a, FACTS, {"retrain": [b]})
    assert set(values) == set(METRICS)
    shuffled = [x.sample(frac=1, random_state=seed) for x in (a, b)]
    assert compute_all(shuffled[0], FACTS, {"retrain": [shuffled[1]]}) == values
    assert compute_all(a, FACTS, {"retrain": [b]}) == values
    assert all(0 <= value <= 1 for value in values.values())


def test_no_global_randomness(predictions):
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = compute_all(predictions, FACTS)
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(2)
    assert compute_all(predictions, FACTS) == first


def test_survives_parquet(predictions, tmp_path):
    predictions.to_parquet(tmp_path / "p.parquet")
    assert compute_all(pd.read_parquet(tmp_path / "p.parquet"), FACTS) == compute_all(predictions, FACTS)


def test_inputs_are_left_as_they_are(predictions):
    copy = predictions.copy(deep=True)
    p = Predictions(predictions)
    with pytest.raises(ValueError):
        p["forget"]["loss"][0] = 0
    compute_all(predictions, FACTS, {"retrain": [predictions]})
    pd.testing.assert_frame_equal(predictions, copy)


# --- what is missing
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", list(SIZES))
def test_a_missing_set_takes_only_its_metrics_along(predictions, missing):
    values = compute_all(predictions[predictions.set != missing], FACTS, {"retrain": [predictions]})
    assert set(values) == {name for name, m in METRICS.items() if missing not in m.needs}


@pytest.mark.parametrize("column", ["score", "loss", "confidence", "logits", "incompetent"])
def test_a_missing_or_null_column_takes_only_its_metrics_along(predictions, column):
    expected = {name for name, m in METRICS.items() if column not in m.columns}
    assert set(compute_all(predictions.drop(columns=column), FACTS, {"retrain": [predictions]})) == expected
    assert set(compute_all(predictions.assign(**{column: None}), FACTS, {"retrain": [predictions]})) == expected


def test_missing_facts_and_retrain(predictions):
    assert set(METRICS) - set(compute_all(predictions)) == {
        "overall",
        "gap_to_retrain",
        "js_to_retrain",
        "test_accuracy",
        "forget_accuracy",
        "forget_verbatim",
        "retain_verbatim",
    }
    assert "overall" not in compute_all(predictions, {**FACTS, "random_guess": None})


def test_nothing_at_all(predictions):
    assert compute_all(predictions[:0], FACTS) == {}


def test_one_row_of_one_class_each():
    values = compute_all(pd.concat(rows(s, [[1.0, 0.0]], [0]) for s in ("test", "forget", "retain")), FACTS)
    assert values["mia_loss_auc"] == values["knowledge_gap"] == 0.5
    assert values["mia_tpr_at_1_fpr"] == 0
    assert values["mia_logistic"] is None  # too few for a split
    assert values["mia_svc_confidence"] in (0, 1)


def test_six_each_are_enough_for_the_logistic_attack():
    sizes = {"test": 9, "forget": 6}
    assert 0 <= compute_all(frame(sizes=sizes))["mia_logistic"] <= 1


# --- what contradicts itself
# --------------------------------------------------------------------------------------------


def test_other_examples_than_the_retrained_model(predictions):
    forget = predictions[predictions.set == "forget"]
    with pytest.raises(MubenchError, match="other forget examples"):
        compute_all(forget, references={"retrain": [forget.assign(index=forget["index"] + 1)]})
    with pytest.raises(MubenchError, match="other forget examples"):
        compute_all(forget, references={"retrain": [forget[1:]]})
    with pytest.raises(MubenchError, match="shapes"):
        compute_all(forget, references={"retrain": [rows("forget", np.zeros((30, 4)), np.zeros(30, int))]})


def test_malformed_predictions(predictions):
    with pytest.raises(MubenchError, match="example 0 of the test set twice"):
        compute_all(pd.concat([predictions, predictions[:1]]))
    with pytest.raises(MubenchError, match="lack the column 'set'"):
        compute_all(predictions.drop(columns="set"))
    first = predictions.index[predictions.set == "forget"][:1]
    for broken in (None, np.zeros(2), 7.0, ["a", "b", "c"]):
        with pytest.raises(MubenchError, match="'logits'"):
            compute_all(put(predictions, "logits", broken, first), FACTS)
    with pytest.raises(MubenchError, match="'loss'"):
        compute_all(predictions.assign(loss="low"), FACTS)


# --- what is not finite
# -------------------------------------------------------------------------------------------------


def test_a_nan_loss_is_an_infinite_one(predictions):
    some = (predictions["index"] % 3 == 0).to_numpy()
    nan, inf = (put(predictions, "loss", value, some) for value in (np.nan, np.inf))
    assert compute_all(nan, FACTS) == compute_all(inf, FACTS)
    assert None not in compute_all(nan, FACTS).values()


def test_infinite_losses_everywhere_tell_nothing(predictions):
    values = compute_all(predictions.assign(loss=np.inf), FACTS)
    assert (values["mia_loss_auc"], values["mia_tpr_at_1_fpr"], values["mia_logistic"]) == (0.5, 0, 0.5)


def test_a_diverged_model_has_undefined_values_but_no_crash(predictions):
    everywhere = np.ones(len(predictions), bool)
    for value in (np.nan, np.inf):
        broken = put(predictions, "logits", np.full(3, value, "float32"), everywhere)
        broken = broken.assign(loss=np.nan, confidence=np.nan, score=0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = compute_all(broken, FACTS, {"retrain": [predictions]})
        assert values["zrf"] is values["zrf_official"] is values["js_to_retrain"] is None
        assert not any(name.startswith("mia") for name in values)  # NaN in every row: as if not recorded
        assert values["forget_score"] == 0


def test_stray_nan(predictions):
    forget = (predictions.set == "forget").to_numpy() & (predictions["index"] == 0).to_numpy()
    assert compute_all(put(predictions, "confidence", np.nan, forget), FACTS)["mia_svc_confidence"] is not None
    assert compute_all(put(predictions, "logits", np.array([np.nan, 0, 0]), forget), FACTS)["zrf"] is None


def test_a_nan_score_is_an_undefined_mean(predictions):
    values = compute_all(put(predictions, "score", np.nan, [predictions.index[predictions.set == "forget"][0]]), FACTS)
    assert values["forget_score"] is values["knowledge_gap"] is values["overall"] is None
    assert values["test_score"] is not None


def test_a_class_ruled_out_by_minus_infinity_is_no_divergence():
    values = compute_all(rows("forget", [[0.0, 0.0, -np.inf]], [0], incompetent=[[0.0, 0.0, 0.0]]))
    assert 0 < values["zrf"] < 1
    assert values["zrf_official"] is None  # KL(m‖p) is infinite there


# --- the registry and the primary metrics
# -------------------------------------------------------------------------------


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from mubench.measure.metrics import METRICS\nfor m in METRICS.values(): print(m.name, m.better,"
        " m.description)\nheavy = {'numpy', 'pandas', 'torch', 'scipy', 'sklearn', 'evaluate', 'datasets', 'pyarrow'} &"
        " set(sys.modules)\nsys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(METRICS)


@pytest.mark.parametrize("m", METRICS.values(), ids=list(METRICS))
def test_every_metric_says_what_it_is(m):
    assert m.description.endswith(".") and len(m.description) < 110
    assert m.better in ("higher", "lower", "retrain") or 0 <= float(m.better) <= 1


def test_a_metric_of_ones_own(predictions):
    @metric(better="lower", needs=["forget"], columns=["loss"])
    def mean_loss(run, references):
        """Mean loss on the forget set."""
        return run["forget"]["loss"].mean()

    try:
        assert METRICS["mean_loss"].description == "Mean loss on the forget set."
        assert compute_all(predictions)["mean_loss"] == pytest.approx(
            predictions[predictions.set == "forget"].loss.mean()
        )
    finally:
        del METRICS["mean_loss"]


def test_primary_metrics():
    true, guess = [0, 1, 2, 2, 0], [0, 1, 1, 2, 2]
    accuracy = load_primary("accuracy")
    assert accuracy.compute(predictions=guess, references=true) == {"accuracy": 0.6}
    assert accuracy.per_example(guess, true).tolist() == [1, 1, 0, 1, 0]
    assert accuracy.score({"prediction": np.array(guess), "target": np.array(true)}) == 0.6
    f1 = load_primary("micro_f1", positive_labels=[1, 2])
    assert f1.compute(predictions=guess, references=true) == {"micro_f1": pytest.approx(4 / 7)}
    assert f1.compute(predictions=guess, references=true, positive_labels=[1]) == {"micro_f1": pytest.approx(2 / 3)}
    assert f1.compute(predictions=[0], references=[0]) == {"micro_f1": 0}
    assert load_primary("micro_f1").compute(predictions=guess, references=true) == {"micro_f1": pytest.approx(0.6)}
    with pytest.raises(MubenchError, match="did you mean 'accuracy'"):
        load_primary("acuracy")


def test_subsamples_are_fixed_and_equal():
    a, b = arrays.balanced(np.arange(10), np.arange(100), limit=7)
    assert len(a) == len(b) == 7 and (np.diff(b) > 0).all()
    assert np.array_equal(b, arrays.balanced(np.arange(10), np.arange(100), limit=7)[1])
    assert np.array_equal(arrays.balanced(np.arange(10), np.arange(20))[0], np.arange(10))


@given(st.floats(width=32, allow_subnormal=False))
def test_stored_floats_are_the_nearest_with_ten_bits_of_mantissa(value):
    found = rounded(torch.tensor([value]))[0]
    assert found.view(np.uint32) % 2**13 == 0 or math.isnan(value)
    assert math.isnan(found) == math.isnan(value) and (
        not math.isfinite(found) or abs(found - value) <= abs(value) * 2**-11
    )
    assert found == value or not math.isinf(value)
