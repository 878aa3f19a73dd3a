"""How well the model does on each set, in the task's own score, a fraction in [0, 1]."""

from mubench.measure.metrics.base import mean_score, metric


@metric(better="higher", needs=["test"])
def test_score(run, references):
    """Score on the test set."""
    return mean_score(run["test"], run)


@metric(better="retrain", needs=["forget"])
def forget_score(run, references):
    """Score on the forget set."""
    return mean_score(run["forget"], run)


@metric(better="higher", needs=["retain"])
def retain_score(run, references):
    """Score on the retain set."""
    return mean_score(run["retain"], run)


@metric(better="higher", needs=["transfer"])
def transfer_score(run, references):
    """Score on the transfer set, which comes from another distribution than the training set."""
    return mean_score(run["transfer"], run)


@metric(better="higher", needs=["test"], columns=["prediction", "target"], facts=["accuracy"])
def test_accuracy(run, references):
    """Share of right labels on the test set, where the score is something else."""
    return _accuracy(run["test"])


@metric(better="retrain", needs=["forget"], columns=["prediction", "target"], facts=["accuracy"])
def forget_accuracy(run, references):
    """Share of right labels on the forget set, where the score is something else.

    Of generated pictures: how often a classifier recognises what the prompt asked for.
    """
    return _accuracy(run["forget"])


@metric(better="retrain", needs=["forget"], columns=["prediction", "target"], facts=["verbatim"])
def forget_verbatim(run, references):
    """Share of the forget set's texts that the model recites word for word.

    The first 50 words of the reference (or all, if fewer) must be generated exactly: "extractable" in Carlini et al.
    2023 (Quantifying memorization across neural language models), with greedy decoding and words for tokens.
    """
    return _verbatim(run["forget"])


@metric(better="higher", needs=["retain"], columns=["prediction", "target"], facts=["verbatim"])
def retain_verbatim(run, references):
    """Share of the retain set's texts that the model recites word for word."""
    return _verbatim(run["retain"])


def _accuracy(rows):
    return (rows["prediction"] == rows["target"]).mean()


def _verbatim(rows, words=50):
    pairs = zip(rows["prediction"], rows["target"], strict=True)
    return sum(str(text).split()[:words] == str(true).split()[:words] for text, true in pairs) / len(rows)


test_score.__test__ = test_accuracy.__test__ = False  # or pytest collects them wherever they are imported
