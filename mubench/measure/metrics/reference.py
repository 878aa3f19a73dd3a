"""How far the model is from the one retrained without the forget set."""

from mubench.measure.metrics.base import metric
from mubench.measure.metrics.membership import mia_svc_confidence
from mubench.measure.metrics.performance import forget_score, retain_score, test_score


@metric(
    better="lower",
    needs=["test", "forget", "retain"],
    columns=["score", "confidence"],
    references={"retrain": 1},
    own_seed=True,
)
def gap_to_retrain(run, references):
    """Average gap to retrain over test, forget and retain score and forget efficacy.

    Mean absolute difference of the four, `mia_svc_confidence` being the last; in [0, 1], 0 is ideal.
    "Avg. Gap" of Fan et al. 2024 (SalUn).
    """
    parts, [retrain] = (test_score, forget_score, retain_score, mia_svc_confidence), references["retrain"]
    return sum(abs(run.value(part) - retrain.value(part)) for part in parts) / len(parts)


@metric(better="lower", needs=["forget"], columns=["logits"], references={"retrain": 1}, own_seed=True)
def js_to_retrain(run, references):
    """Jensen–Shannon distance to the retrained model's outputs on the forget set.

    Mean over D_f of the square root of the divergence in bits; in [0, 1], 0 is ideal.
    """
    import numpy as np

    from mubench.measure.metrics.arrays import js_divergence

    [retrain] = references["retrain"]
    return np.sqrt(js_divergence(run["forget"]["logits"], retrain["forget"]["logits"]) / np.log(2)).mean()
