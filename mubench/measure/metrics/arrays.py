"""The maths of the metrics, on plain arrays, with the options of the code they come from.

Losses are cross-entropies, one per example; logits are [examples, classes]. "Members" are examples that an attack
should call trained on. Logits with NaN or +inf give NaN; a NaN loss counts as an infinite one, the worst there is.
"""

import functools

import numpy as np
from scipy.special import log_softmax, rel_entr, softmax, xlogy

from mubench.errors import MubenchError
from mubench.importing import importing


def auc(positive, negative):
    """P(a positive score > a negative one) + ½ P(equal), in [0, 1]: the area under the ROC curve.

    Exact up to one rounding, and defined for infinite scores, both unlike ``sklearn.metrics.roc_auc_score``.
    """
    negative = np.sort(negative)
    doubled = np.searchsorted(negative, positive, "left").sum() + np.searchsorted(negative, positive, "right").sum()
    return doubled / (2 * len(positive) * len(negative))


def tpr_at_fpr(members, nonmembers, fpr=0.01):
    """Share of members whose loss lies below a threshold that at most ``fpr`` of the non-members lie below, in [0, 1].

    The highest such threshold, calling nobody who is *at* it a member: examples of equal loss are called alike, and the
    ROC curve is not interpolated. With fewer than 1/``fpr`` non-members no false positive is allowed at all.
    Carlini et al. 2022, "Membership inference attacks from first principles".
    """
    allowed = int(fpr * len(nonmembers) + 1e-9)  # 0.07 * 100 falls just short of 7
    return np.mean(known(members) < np.sort(known(nonmembers))[allowed])


def logistic_attack(members, nonmembers, clip=100.0, n_splits=5, random_state=0):
    """Accuracies of logistic regressions telling members from non-members by their clipped loss, one per fold.

    In [0, 1]; 0.5 is chance. Stratified shuffle splits hold out a tenth each; give equally many of both. Raises
    ValueError below 6 examples each. Kurmanji et al. 2023 (SCRUB), ``MIA_experiments.ipynb``, which clips at 100; the
    same authors' Bad-T experiments at 500.
    """
    with importing():
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedShuffleSplit

    losses = np.clip(known(np.concatenate([nonmembers, members])), -clip, clip)[:, None]
    member = np.repeat([0, 1], [len(nonmembers), len(members)])
    folds = StratifiedShuffleSplit(n_splits, random_state=random_state).split(losses, member)
    with _one_thread():
        fitted = [(LogisticRegression().fit(losses[train], member[train]), held_out) for train, held_out in folds]
        return np.array([np.mean(fit.predict(losses[held_out]) == member[held_out]) for fit, held_out in fitted])


def svc_attack(shadow_members, shadow_nonmembers, members=None, nonmembers=None):
    """Recall in [0, 1] of a support vector machine, trained on the shadow sets, on its targets, averaged over those
    given.

    Of ``members`` the share called members, of ``nonmembers`` the share called non-members. Each argument holds one
    feature, or a row of them, per example (`membership_features`). C=3 and an RBF kernel with γ = 1 / features, as in
    Jia et al. 2023 and Fan et al. 2024 (SalUn, ``SVC_MIA.py``) and in Chundawat et al. 2023 (Bad-T, ``metrics.py``).
    """
    with importing():
        from sklearn.svm import SVC

    table = [
        None if a is None else np.asarray(a, "float64").reshape(len(a), -1)
        for a in (shadow_members, shadow_nonmembers, members, nonmembers)
    ]
    shadow = np.concatenate(table[:2])
    attack = SVC(C=3, kernel="precomputed", random_state=0)  # without it fit draws from the global generator
    attack.fit(_rbf(shadow, shadow), np.repeat([1, 0], [len(table[0]), len(table[1])]))
    called = [
        (attack.predict(_rbf(a, shadow)), label) for a, label in zip(table[2:], [1, 0], strict=True) if a is not None
    ]
    return np.mean([np.mean(prediction == label) for prediction, label in called])


def _rbf(a, b):
    """exp(-|x - y|² / features) of every row x of ``a`` and y of ``b``: libsvm, asked for it, takes twice as long."""
    from scipy.spatial.distance import cdist

    kernel = cdist(a, b, "sqeuclidean")
    kernel /= -a.shape[1]
    return np.exp(kernel, out=kernel)


def _one_thread():
    """A context in which linear algebra has one thread: on matrices so small others cost several times the work."""
    return _pools().limit(limits=1, user_api="blas")


@functools.cache
def _pools():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def membership_features(logits, target):
    """What SalUn's attacks look at, name → one value (``prob``: a row of them) per example.

    ``m_entropy`` is what that code computes, -Σ w_c log p_c with w_c = 1 - p_c for every class c that is *anybody's*
    target and p_c for the others, not the modified entropy of Song & Mittal 2021 after which it is named.
    """
    p = softmax(logits, axis=1)
    log_p = np.log(np.where(p > 0, p, 1e-30))
    weight = p.copy()
    weight[:, target] = 1 - p[:, target]
    return {
        "correctness": (np.argmax(logits, axis=1) == target).astype("float64"),
        "confidence": p[np.arange(len(p)), target],
        "entropy": -xlogy(p, p).sum(axis=1),
        "m_entropy": -(weight * log_p).sum(axis=1),
        "prob": p,
    }


def js_divergence(a, b):
    """Jensen–Shannon divergence of the softmax of logits ``a`` and ``b``, per example, in nats: in [0, ln 2], 0 if
    equal.

    ½ KL(p‖m) + ½ KL(q‖m) with m = (p + q) / 2. Raises `MubenchError` where the shapes differ.
    """
    p, q = _distributions(softmax, a, b)
    m = (p + q) / 2
    return np.clip((rel_entr(p, m) + rel_entr(q, m)).sum(axis=1) / 2, 0, np.log(2))


def reversed_js(a, b):
    """½ KL(m‖p) + ½ KL(m‖q), per example, in nats, ≥ 0: what Bad-T's code computes for `js_divergence`."""
    log_p, log_q = _distributions(log_softmax, a, b)
    m = (np.exp(log_p) + np.exp(log_q)) / 2
    return (xlogy(m, m) - m * (log_p + log_q) / 2).sum(axis=1)


def harmonic_mean(a, b):
    """2ab / (a + b) for a, b ≥ 0; 0 if either is."""
    return 2 * a * b / (a + b) if a and b else 0.0


def known(losses):
    """The losses, a NaN counting as an infinite one."""
    return np.where(np.isnan(losses), np.inf, losses)


def balanced(*arrays, limit=None):
    """Equally many entries of each array, at most ``limit``: a random choice, but always the same one."""
    size = min([len(a) for a in arrays] + ([limit] if limit else []))
    # RandomState, because its stream is the same in every version of NumPy.
    return [a[np.sort(np.random.RandomState(0).permutation(len(a))[:size])] for a in arrays]


def _distributions(normalise, a, b):
    if np.shape(a) != np.shape(b):
        raise MubenchError(f"logits of shapes {np.shape(a)} and {np.shape(b)} cannot be compared")
    with np.errstate(invalid="ignore"):
        return normalise(a, axis=1), normalise(b, axis=1)
