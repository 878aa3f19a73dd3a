from mubench.methods.base import Corruption, Method, Term


class SalUn(Method):
    """Random labels on D_f, true labels on D_r, and only the weights move that matter to D_f.

    Saliency is |Σ over D_f batches of the gradient of the batch-mean loss|, ranked over all parameters at once; the
    ``saliency_ratio`` largest may change. Each epoch passes over D_f with new labels, then over D_r (the authors'
    CIFAR-10 code; ``schedule="union"`` is their CIFAR-100 code). ``labels``: ``wrong`` (different from the truth),
    ``random`` (uniform over all classes), or ``prompt``, their form for pictures that are drawn after prompts: the
    noise predicted for a prompt of D_f is pulled to what the student itself predicts for the prompt of the next class.
    ``hold``: masked-out weights stay bit-equal, also under weight decay and momentum; without it only gradients are
    masked, as in the authors' code before February 2026. With LoRA all of this is over the adapters' weights.
    """

    paper = (
        "Fan et al. 2024, Eq. 3–5; code OPTML-Group/Unlearn-Saliency, Classification/{generate_mask.py,unlearn/RL.py}"
    )
    deviations = (
        "Labels of D_f differ from the truth, as in the paper; in their code some are true (labels=random).",
        "Optimiser and batch size are the recipe's; theirs: SGD, momentum 0.9, weight decay 5e-4, batches of 256.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.3 of the recipe's rate, 3 epochs; theirs: 0.013, 10 epochs.",
    )
    official = {  # of CIFAR-10, 10 % at random
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "clip": 0.0,
        "batch_size": 256,
        "lr": 0.013,
        "epochs": 10,
        "labels": "random",
    }
    schedule = "alternate"
    masks = True
    saliency_ratio: float = 0.5
    labels: str = "wrong"
    redraw: bool = True
    hold: bool = True
    lr_factor = 0.3
    epochs = 3
    search = {"saliency_ratio": (0.1, 0.9)}

    @property
    def terms(self):
        retain = Term("retain", "loss", "true")
        if self.labels == "prompt":
            return Term("forget", "logit", "none", how=self.misled, corruption=Corruption.DATA), retain
        return Term("forget", "loss", self.labels, redraw=self.redraw), retain

    @property
    def needs(self):
        return super().needs | ({"prompts"} if self.labels == "prompt" else set())

    def misled(self, context, batch, student, teacher):
        import torch

        with torch.no_grad():
            other = context.task.forward(context.student, context.task.asked(batch, "next"))
        return context.task.divergence(student, other)

    def prepare(self, context):
        context.mask(self.mask(context.saliency("forget")), hold=self.hold)

    def mask(self, saliency):
        """Name → boolean tensor: true for the int(n · ``saliency_ratio``) largest of all n saliencies."""
        import torch

        scores = torch.cat([s.flatten() for s in saliency.values()])
        chosen = torch.zeros_like(scores, dtype=torch.bool)
        chosen[scores.argsort(descending=True, stable=True)[: int(len(scores) * self.saliency_ratio)]] = True
        parts = chosen.split([s.numel() for s in saliency.values()])
        return {name: part.view_as(s) for (name, s), part in zip(saliency.items(), parts, strict=True)}
