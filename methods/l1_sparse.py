from mubench.methods.base import Method, Term


class L1Sparse(Method):
    """Fine-tune on D_r while an l1 norm over all weights drives to zero what only D_f needed.

    In epoch e (from 0) of E the norm weighs α·(1 − e/(E − n₀)), and nothing in the last n₀ (``no_l1_epochs``). The paper's main
    recipe prunes first and unlearns then; this is its joint variant, and the row of MU-Bench. The authors' parser shares one
    ``alpha`` (0.2) between methods and gives none for this one; MU-Bench's port reads settings that do not exist, so its norm
    weighs 0. Ours is chosen on validation data. The update is dense: weights become small, not exactly zero.
    """

    paper = "Jia et al. 2023, Eq. 3; code OPTML-Group/Unlearn-Sparse, unlearn/FT.py:FT_l1"
    schedule = "retain_only"
    shards = False
    terms = (Term("retain", "loss", "true"),)
    parameters = "sparse internal"
    alpha: float = 1e-4
    no_l1_epochs: int = 0
    epochs: int = 3
    lr_factor = 0.3
    search = {"alpha": (1e-6, 1e-2, "log"), "no_l1_epochs": [0, 1]}

    def penalty(self, context):
        decay, e = self.epochs - self.no_l1_epochs, context.epoch - 1
        if e < decay:
            return self.alpha * (1 - e / decay) * sum(p.abs().sum() for p in context.student.parameters())
