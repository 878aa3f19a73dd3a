"""The primary metrics of tasks: made here, never downloaded; importing them imports no torch."""

import functools

import numpy as np

from mubench.errors import nearest


class Primary:
    """A score in [0, 1], higher is better, of predicted against true labels (integers)."""

    kind = "int64"  # of predictions and references
    follows = True  # whether an example's score can be computed again from its stored prediction and target

    @property
    def name(self):
        return next(name for name, cls in PRIMARY.items() if type(self) is cls)

    def as_evaluate(self):
        """The same as a metric of the `evaluate` library (which imports torch)."""
        import datasets
        import evaluate

        features = datasets.Features({name: datasets.Value(self.kind) for name in ("predictions", "references")})
        info = evaluate.MetricInfo(description=type(self).__doc__, citation="", features=features)
        members = {"_info": lambda _: info, "_compute": lambda _, *given, **options: self._compute(*given, **options)}
        return type(type(self).__name__, (evaluate.Metric,), members)(keep_in_memory=True)

    def compute(self, *, predictions, references, **options):
        """Name → score, called as `evaluate`'s metrics are."""
        return self.as_evaluate().compute(predictions=predictions, references=references, **options)

    def per_example(self, predictions, references):
        """1.0 where the label is right, else 0.0."""
        return np.equal(predictions, references).astype("float64")

    def score(self, rows):
        """The score of a set's `Rows`; give it as the fact ``scorer`` where it is not the mean of the per-example
        ones.
        """
        return self._compute(rows["prediction"], rows["target"])[self.name]


class Accuracy(Primary):
    """Share of right labels."""

    def _compute(self, predictions, references):
        return {self.name: float(self.per_example(predictions, references).mean())}


class MicroF1(Primary):
    """F1 of the ``positive_labels`` counted together, as is usual in relation extraction, where one label means "none".

    2 TP / (2 TP + FP + FN); 0 where no positive label is true or predicted. With all labels positive (None) it is the
    accuracy.
    """

    def __init__(self, positive_labels=None):
        self.positive_labels = positive_labels

    def _compute(self, predictions, references, positive_labels=None):
        from sklearn.metrics import f1_score

        labels = self.positive_labels if positive_labels is None else positive_labels
        return {self.name: float(f1_score(references, predictions, labels=labels, average="micro", zero_division=0))}


@functools.cache
def _rouge_scorer():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Stems())


@functools.lru_cache(maxsize=4096)
def _rouge_l(text, true):
    """Kept, as all metrics of a run and its board ask for the same texts."""
    return _rouge_scorer().score(true, text)["rougeL"].fmeasure


class RougeL(Primary):
    """ROUGE-L F1 of generated against reference texts, words stemmed, averaged over examples.

    Lin 2004, by the package `rouge-score`, as for summarisation in MU-Bench.
    """

    kind = "string"

    def per_example(self, predictions, references):
        """The F1 of each pair."""
        return np.array([_rouge_l(text, true) for text, true in zip(predictions, references, strict=True)])

    def _compute(self, predictions, references):
        return {self.name: float(self.per_example(predictions, references).mean())}


class _Stems:
    """`rouge-score`'s tokenizer with stems, each word stemmed once: else that is nine tenths of the work."""

    def __init__(self):
        from nltk.stem.porter import PorterStemmer

        self.stem = functools.cache(PorterStemmer().stem)

    def tokenize(self, text):
        from rouge_score.tokenize import tokenize

        return tokenize(text, self)


class ClipScore(Primary):
    """Cosine similarity of a generated picture and its prompt in a CLIP model, negative ones counting as 0, averaged.

    Hessel et al. 2021 (CLIPScore) without their factor 2.5. The similarities are stored with the predictions; pictures
    are not.
    """

    kind = "float64"
    follows = False

    def per_example(self, pictures, prompts):
        """Of [B, D] embeddings each: max(0, cosine)."""
        return np.maximum(
            0, (pictures * prompts).sum(-1) / np.linalg.norm(pictures, axis=-1) / np.linalg.norm(prompts, axis=-1)
        )

    def score(self, rows):
        return float(rows["score"].mean())


PRIMARY = {"accuracy": Accuracy, "micro_f1": MicroF1, "rouge_l": RougeL, "clip_score": ClipScore}


def load_primary(name, **options):
    """The `Primary` of that name, with its options; raises `MubenchError` for an unknown one."""
    if name not in PRIMARY:
        raise nearest("primary metric", name, PRIMARY, "mubench.measure.metrics.primary.PRIMARY")
    return PRIMARY[name](**options)
