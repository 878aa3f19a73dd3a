from mubench.errors import MubenchError
from mubench.methods.base import Method


class Fisher(Method):
    """Fisher forgetting: add to every weight the more noise, the less D_r needs it.

    The noise has variance ``alpha`` / F, F being the diagonal of the Fisher information of D_r: over examples x and
    classes y, the mean of p(y | x) · (∂ loss of y / ∂ weight)². 1/F is at most 10³ (10² in the head), it is averaged
    over the inputs of each unit, and ten times as large in the head and in vectors (biases, batch norm). ``labels``:
    one class, or for each token one, is drawn from the model's own prediction (``drawn``); all classes are summed over
    (``expected``, as many backward passes per example as there are classes, the same in expectation); or the given
    label is taken (``given``, the empirical Fisher information). ``alpha`` does more the more weights there are; None:
    that with which, to second order, the mean loss of D_r rises by ``rise``.
    """

    paper = "Golatkar, Achille & Soatto 2020, Eq. 8; code AdityaGolatkar/SelectiveForgetting, Forgetting.ipynb"
    deviations = (
        "One class is drawn for each example; their notebook sums over all (labels=expected).",
        "alpha is that with which the loss of D_r rises by rise; theirs is chosen by model, 1e-7 to 3e-6.",
        "No row of the head is reset; theirs is, of a class that is forgotten whole.",
    )
    official = {"labels": "expected", "alpha": 1e-6}  # of 1e-7, 1e-6 and 3e-6, by model
    prunes = False
    adapts = False
    requires = frozenset({"classes", "retain", "examples"})
    alpha: float | None = None
    rise: float = 0.01
    labels: str = "drawn"
    search = {"rise": (1e-3, 0.3, "log")}

    def __init__(self, **hyperparameters):
        super().__init__(**hyperparameters)
        if self.labels not in ("drawn", "expected", "given"):
            raise MubenchError(f"labels={self.labels!r} does not fit fisher: it must be drawn, expected or given")

    def finish(self, context):
        import torch

        information, noise = self.information(context), context.generator("noise")
        weights = {name: weight for name, weight in context.student.named_parameters() if name in information}
        variances = {
            name: self.variance(information[name], self.is_head(name, weight, context.task))
            for name, weight in weights.items()
        }
        expected = sum((information[name] * variances[name]).sum() for name in weights) / 2
        alpha = self.rise / expected if self.alpha is None else self.alpha
        with torch.no_grad():
            for name, weight in weights.items():
                weight.add_(
                    (alpha * variances[name]).sqrt()
                    * torch.randn(weight.shape, generator=noise, dtype=torch.float64).to(weight)
                )

    def is_head(self, name, weight, task):
        """Whether a weight is the head's; of a model whose head has no name (one's own): whether it has a row for each
        class.
        """
        return name.startswith(f"{task.head}.") if task.head else len(weight) == task.num_labels

    def variance(self, information, head):
        """The variance of the noise with ``alpha`` = 1 for one parameter tensor's Fisher information."""
        variance = (1 / (information + 1e-8)).clamp(max=1e2 if head else 1e3)
        if variance.ndim > 1:
            variance = variance.mean(1, keepdim=True).expand_as(variance)
        return variance * 10 if head or variance.ndim == 1 else variance

    def information(self, context):
        """Parameter name → the diagonal of the Fisher information of D_r."""

        from mubench.train.gradients import gradients, importance

        if self.labels == "given":
            return importance(context, context.retain)
        if self.labels == "drawn":
            return self._mean(
                gradients(context, context.retain, change=lambda batch: self._drawn(context, batch)),
                len(context.retain),
            )
        sums = 0
        for label in range(context.task.num_labels):
            part = self._of_label(context, label)
            sums = part if not sums else {name: sums[name] + part[name] for name in part}
        return sums

    def _of_label(self, context, label):
        """What one label adds: squared gradients as if it were the truth, times its probability."""
        import torch

        from mubench.train.gradients import gradients

        labelled = lambda batch: batch | {"labels": torch.full_like(batch["labels"], label)}
        probability = lambda batch: self._predicted(context, batch)[:, label]
        return self._mean(gradients(context, context.retain, change=labelled), len(context.retain), probability)

    def _mean(self, given, n, weigh=None):
        """The mean over n examples of their squared gradients, each times the weight it has."""
        sums = {}
        for batch, found in given:
            weights = weigh(batch).sqrt() if weigh else None
            for name, values in found.items():
                values = values if weights is None else values * weights.to(values).view(-1, *[1] * (values.ndim - 1))
                sums[name] = sums.get(name, 0) + values.square().sum(0)
        return {name: total / n for name, total in sums.items()}

    def _predicted(self, context, batch):
        import torch

        with context.counted("predicted", batch, gradient=False), torch.no_grad():
            return context.task.forward(context.student, batch).logits.softmax(-1)

    def _drawn(self, context, batch):
        """The batch with labels drawn from what the model predicts, where a label counts; each example's draw is its
        own.
        """
        import torch

        draw = torch.stack(
            [
                torch.rand(batch["labels"].shape[1:], generator=context.generator(f"label/{i}"))
                for i in batch["index"].tolist()
            ]
        )
        below = self._predicted(context, batch).cumsum(-1) < draw.to(batch["labels"].device)[..., None]
        return batch | {"labels": torch.where(batch["labels"] < 0, batch["labels"], below[..., :-1].sum(-1))}
