from mubench.methods.base import Method, Term


class NegGradPlus(Method):
    """Descent on D_r and ascent on D_f in the same step: α·CE(D_r) − (1−α)·CE(D_f).

    ``l2_init`` > 0 adds α·l2_init/2·‖θ − θ_o‖², as a second version in the authors' notebooks does; with LoRA, θ are
    the adapters' weights.
    """

    paper = "Kurmanji et al. 2023, §4; code meghdadk/SCRUB, thirdparty/repdistiller/helper/loops.py:train_negrad"
    deviations = (
        "Batches of D_f are shuffled anew in every epoch; theirs are replayed in the order of the first pass.",
        "Where D_f has more batches than D_r an epoch ends with D_f; theirs always with D_r.",
        "The optimiser is the recipe's; theirs is SGD.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.3 of the recipe's rate, 1 epoch; theirs: 0.01, 10 epochs.",
    )
    official = {"optimizer": "sgd", "clip": 0.0, "lr": 0.01, "epochs": 10}
    schedule = "joint"
    alpha: float = 0.95
    l2_init: float = 0.0
    lr_factor = 0.3
    epochs = 1
    search = {"alpha": (0.8, 0.999)}

    @property
    def terms(self):
        return (
            Term("retain", "loss", "true", weight=self.alpha),
            Term("forget", "loss", "true", weight=-(1 - self.alpha)),
        )

    @property
    def shards(self):
        return not self.l2_init

    def penalty(self, context):
        if self.l2_init:
            pairs = zip(context.student.parameters(), context.original.parameters(), strict=True)
            return self.alpha * self.l2_init / 2 * sum((p - o).square().sum() for p, o in pairs)
