"""How well the model does on each set, in the task's own score, a fraction in [0, 1]."""
from mubench.metrics.base import metric


@metric(better="higher", needs=["test"])
def test_score(p):
    """Score on the test set."""
    return mean_score(p["test"], p)


@metric(better="retrain", needs=["forget"])
def forget_score(p):
    """Score on the forget set."""
    return mean_score(p["forget"], p)


@metric(better="higher", needs=["retain"])
def retain_score(p):
    """Score on the retain set."""
    return mean_score(p["retain"], p)


@metric(better="higher", needs=["transfer"])
def transfer_score(p):
    """Score on the transfer set, which comes from another distribution than the training set."""
    return mean_score(p["transfer"], p)


def mean_score(rows, p):
    scorer = p.facts.get("scorer")
    return scorer(rows) if scorer else rows["score"].mean()


test_score.__test__ = False  # or pytest collects it wherever it is imported
