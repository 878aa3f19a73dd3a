from mubench.methods.base import Method, Parameters, Term


class L1Sparse(Method):
    """Fine-tune on D_r while an l1 norm over all weights drives to zero what only D_f needed.

    In epoch e (from 0) of E the norm weighs α·(1 − e/(E − n₀)), and nothing in the last n₀ (``no_l1_epochs``). The
    paper's main recipe prunes first and unlearns then; this is its joint variant, and the row of MU-Bench, in whose
    code the norm weighs 0, as it reads settings that do not exist. The update is dense: weights become small, not
    exactly zero.
    """

    paper = "Jia et al. 2023, Eq. 3; code OPTML-Group/Unlearn-Sparse, unlearn/FT.py:FT_l1"
    deviations = (
        "alpha is ours, chosen on validation data; their parser has one, 0.2, for several methods, none for this.",
        "Optimiser and batch size are the recipe's; theirs: SGD, momentum 0.9, weight decay 5e-4, batches of 256.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.3 of the recipe's rate, 3 epochs; theirs: 0.01, 10 epochs.",
    )
    official = {
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "clip": 0.0,
        "batch_size": 256,
        "lr": 0.01,
        "epochs": 10,
    }
    schedule = "retain_only"
    shards = False
    terms = (Term("retain", "loss", "true"),)
    parameters = Parameters.SPARSE
    alpha: float = 1e-4
    no_l1_epochs: int = 0
    epochs: int = 3
    lr_factor = 0.3
    search = {"alpha": (1e-6, 1e-2, "log"), "no_l1_epochs": [0, 1]}

    def penalty(self, context):
        decay, e = self.epochs - self.no_l1_epochs, context.epoch - 1
        if e < decay:
            return self.alpha * (1 - e / decay) * sum(p.abs().sum() for p in context.student.parameters())
