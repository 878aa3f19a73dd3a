import math

from mubench.methods.base import Method, Parameters


class Ssd(Method):
    """Selective synaptic dampening: weights that matter far more to D_f than to all of D are made smaller; no training
    at all.

    The importance of a weight is the mean squared gradient of the loss over groups of ``batch`` examples; of 1 it is
    the diagonal of the Fisher information that the paper writes. Where that of D_f exceeds ``alpha`` times that of D
    (all training data, D_f included), the weight is multiplied by ``dampening`` (the paper's λ) × importance in D /
    importance in D_f, never by more than 1. With ``batch`` = 1 a weight's ratio of importances cannot exceed |D| /
    |D_f|: ``alpha`` must be below that. None is the authors' later rule (ASSD), as share of the weights: ln(1 + 100
    |D_f| / |D|) % are selected.
    """

    paper = (
        "Foster, Schoepf & Brintrup 2024, Eq. 3–7; code if-loops/selective-synaptic-dampening, src/ssd.py; alpha:"
        " Schoepf et al. 2024 (ASSD)"
    )
    deviations = (
        "Importance is over single examples; theirs over batches of the loader, so it depends on their size.",
        "alpha follows their later rule, ASSD; in their code it is chosen for each model (5, 10, 50).",
    )
    official = {"alpha": 10.0, "batch": 128}  # of ResNet-18; 5 of ViT
    prunes = False
    adapts = False
    parameters = Parameters.SPARSE
    requires = frozenset({"loss", "retain", "union", "examples"})
    alpha: float | None = None
    dampening: float = 1.0
    batch: int = 1
    search = {"dampening": (0.1, 1.0)}

    def finish(self, context):
        import torch

        from mubench.train.gradients import importance

        everything = context.forget + context.retain
        order = torch.randperm(len(everything), generator=context.generator("importance"))
        forget = importance(context, context.forget, self.batch)
        full = importance(context, everything if self.batch == 1 else everything.select(order), self.batch)
        alpha = (
            self.threshold(forget, full, len(context.forget) / len(everything)) if self.alpha is None else self.alpha
        )
        with torch.no_grad():
            for name, weight in context.student.named_parameters():
                if name in forget:
                    factor = (self.dampening * full[name] / forget[name]).clamp(max=1)
                    weight.mul_(torch.where(forget[name] > alpha * full[name], factor, 1))

    def threshold(self, forget, full, share):
        """The ratio of importances that ln(1 + 100 · ``share``) % of the weights that matter at all exceed."""
        import torch

        ratios = (
            torch.cat([(forget[name] / full[name])[full[name] > 0] for name in forget]).sort(descending=True).values
        )
        return ratios[int(len(ratios) * math.log1p(100 * share) / 100)].item() if len(ratios) else math.inf
