from mubench.methods.base import Method, Term


class RandLabel(Method):
    """Keep training on all of D with every example of D_f given another class, drawn once (``redraw``: anew in every
    epoch).

    ``labels`` is ``wrong`` (always another class, as in the paper) or ``random`` (uniform over all, as OPTML's RL
    does).
    """

    paper = "Graves et al. 2021 ('Amnesiac'), unlearning by relabelling; code lmgraves/AmnesiacML"
    deviations = (
        "Optimiser and batch size are the recipe's; theirs: Adam without weight decay, batches of 64.",
        "Rate and epochs are ours: 0.1 of the recipe's rate, 3 epochs; theirs: 1e-3, 10 epochs.",
    )
    official = {"optimizer": "adam", "weight_decay": 0.0, "batch_size": 64, "lr": 1e-3, "epochs": 10}
    schedule = "union"
    labels: str = "wrong"
    redraw: bool = False
    lr_factor = 0.1
    epochs = 3
    search = {"redraw": [False, True]}

    @property
    def terms(self):
        return Term("forget", "loss", self.labels, redraw=self.redraw), Term("retain", "loss", "true")
