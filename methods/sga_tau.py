from mubench.methods._memory import accuracy
from mubench.methods.base import Term, after, first
from mubench.methods.task_vector import TaskVector


class SgaTau(TaskVector):
    """Selective gradient ascent, then task arithmetic: each text of D_f is unlearned as far as it is memorised.

    In each of ``sga_epochs`` the examples whose memorisation accuracy is above ``threshold`` (None: the mean the
    original has on the validation set) are ascended on, measured anew before every epoch; with none left, no step is
    made. The remaining epochs fine-tune on all of D_f and θ = θ_sga − λ·(θ_ft − θ_sga). The ascent removes outliers,
    the arithmetic lowers the mean. Dropout is off, and batch norm keeps its statistics, as in `UL`: few examples may be
    left.
    """

    paper = "Barbulescu & Triantafillou 2024 (SGA, TAU)"
    deviations = (
        "There is no official code: none was found, the method is built from the paper.",
        "That the vector starts from θ_sga, λ, the rate and the epochs are ours.",
    )
    official = None
    requires = frozenset({"classes"})
    train_mode = False
    parameters = "sparse internal"  # as Table 2 counts it: not every example in every epoch
    threshold: float | None = None
    sga_epochs: int = 3
    scale = 0.3
    lr_factor = 0.01
    epochs = 4
    search = {"scale": (0.1, 1.0), "epochs": (4, 6)}

    @property
    def terms(self):
        return (
            Term("forget", "loss", "true", weight=-1.0, when=first(self.sga_epochs)),
            Term("forget", "loss", "true", when=after(self.sga_epochs), corruption="Grad"),
        )

    def prepare(self, context):
        super().prepare(context)
        self.most = context.measure(context.validation, accuracy).mean() if self.threshold is None else self.threshold

    def select(self, context):
        if context.epoch <= self.sga_epochs:
            return (context.measure(context.forget, accuracy) > self.most).nonzero().flatten().cpu()

    def after_epoch(self, context):
        if context.epoch == self.sga_epochs:
            self.origin = None  # let go before another copy is made
            self.keep(context)
