"""Membership inference: can an attacker tell that the forget set was trained on?

A NaN or infinite loss counts as the highest and a NaN confidence as the lowest, so that a diverged model has values
too.
"""

from mubench.measure.metrics.base import metric
from mubench.measure.metrics.remembered import by_content

SHADOW_LIMIT = 2000  # the official code trains on all test examples, in time quadratic in their number


@metric(better="0.5", needs=["test", "forget"], columns=["loss"])
def mia_loss_auc(run, references):
    """AUC of telling forget (members) from test examples by their lower loss.

    In [0, 1]; 0.5 is ideal, above it the forget set is still known, below it its forgetting shows.
    Loss-threshold attack of Yeom et al. 2018, over all thresholds.
    """
    from mubench.measure.metrics.arrays import auc, known

    return auc(-known(run["forget"]["loss"]), -known(run["test"]["loss"]))


@metric(better="0.01", needs=["test", "forget"], columns=["loss"])
def mia_tpr_at_1_fpr(run, references):
    """Share of the forget set that the loss attack finds while calling at most 1 % of the test set members.

    In [0, 1]; 0.01 is chance. Ties and thresholds: `arrays.tpr_at_fpr`. Carlini et al. 2022.
    """
    from mubench.measure.metrics.arrays import tpr_at_fpr

    return tpr_at_fpr(run["forget"]["loss"], run["test"]["loss"])


@metric(better="0.5", needs=["test", "forget"], columns=["loss"])
def mia_logistic(run, references):
    """Accuracy of a logistic regression telling forget from test examples by their loss.

    In [0, 1]; 0.5 is ideal. Mean over 5 splits of equally many of both, drawn with a fixed seed; undefined below 6
    each. Kurmanji et al. 2023 (SCRUB), who restrict the test set to the forgotten classes where whole classes are
    forgotten.
    """
    from mubench.measure.metrics.arrays import balanced

    forget, test = balanced(run["forget"]["loss"], run["test"]["loss"])
    return _logistic_accuracy(forget, test) if len(forget) >= 6 else float("nan")


@metric(better="retrain", needs=["test", "forget", "retain"], columns=["confidence"])
def mia_svc_confidence(run, references):
    """Forget efficacy: share of the forget set that an attack on the confidence calls not trained on.

    In [0, 1], 1 - mean(called member); the retrained model's value is ideal, not 1. The attack is trained on retain
    (member) against test examples, equally many of both and at most 2,000, drawn with a fixed seed.
    "MIA" of Jia et al. 2023 and Fan et al. 2024 (SalUn), `arrays.svc_attack`.
    """
    import numpy as np

    from mubench.measure.metrics.arrays import balanced

    retain, test, forget = (np.clip(np.nan_to_num(run[s]["confidence"]), 0, 1) for s in ("retain", "test", "forget"))
    return _called_nonmember(*balanced(retain, test, limit=SHADOW_LIMIT), forget)


@by_content
def _logistic_accuracy(members, nonmembers):
    from mubench.measure.metrics.arrays import logistic_attack

    return float(logistic_attack(members, nonmembers).mean())


@by_content
def _called_nonmember(shadow_members, shadow_nonmembers, nonmembers):
    from mubench.measure.metrics.arrays import svc_attack

    return float(svc_attack(shadow_members, shadow_nonmembers, nonmembers=nonmembers))
