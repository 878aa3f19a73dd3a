"""How much is forgotten, judged without a retrained model."""

from mubench.measure.metrics.base import metric
from mubench.measure.metrics.performance import forget_score, test_score


@metric(better="retrain", needs=["forget"], columns=["logits", "incompetent"])
def zrf(run, references):
    """Zero-retrain forgetting: likeness of the outputs on the forget set to a freshly initialised model's.

    1 - mean over D_f of JS(model, incompetent) in nats; in [1 - ln 2, 1], 1 if equal, and the retrained model's value
    is ideal. Chundawat et al. 2023 (Bad-T), as in the paper.
    """
    from mubench.measure.metrics.arrays import js_divergence

    return 1 - js_divergence(run["forget"]["logits"], run["forget"]["incompetent"]).mean()


@metric(better="retrain", needs=["forget"], columns=["logits", "incompetent"])
def zrf_official(run, references):
    """Zero-retrain forgetting as the official code of Bad-T computes it.

    1 - ½ (KL(m‖p) + KL(m‖q)) summed and divided by examples *and classes*, m the mean of p and q: the reverse of
    `zrf`'s divergence, and closer to 1 the more classes there are. At most 1, 1 if equal; the retrained model's value
    is ideal.
    """
    from mubench.measure.metrics.arrays import reversed_js

    logits = run["forget"]["logits"]
    return 1 - reversed_js(logits, run["forget"]["incompetent"]).mean() / logits.shape[1]


@metric(better="retrain", needs=["forget", "retain"])
def knowledge_gap(run, references):
    """AUC of telling retain from forget examples by their higher score.

    In [0, 1]; 0.5: known equally well, above: D_r is known better. For scores of 0 and 1 it is ½ + (a_r - a_f) / 2, a
    the
    mean score: the exact value of what Cheng & Amiri 2024 (MU-Bench) average over 500 random draws of |D_f| from D_r.
    """
    import numpy as np

    from mubench.measure.metrics.arrays import auc

    retain, forget = run["retain"]["score"], run["forget"]["score"]
    return float("nan") if np.isnan(retain).any() or np.isnan(forget).any() else auc(retain, forget)


@metric(better="higher", needs=["test", "forget"], facts=["random_guess", "original_test_score"])
def overall(run, references):
    """Overall: test score near the original's and forget score near random guess, without retraining.

    Harmonic mean of 1 - |test - original test| and 1 - |forget - random guess|, in [0, 1]. The selection score of
    Cheng & Amiri 2024 (MU-Bench), without its cut-offs, which depend on the method's name.
    """
    from mubench.measure.metrics.arrays import harmonic_mean

    return harmonic_mean(
        1 - abs(run.value(test_score) - run.facts["original_test_score"]),
        1 - abs(run.value(forget_score) - run.facts["random_guess"]),
    )
