from mubench.methods.base import Corruption, Method, Term


class Rmu(Method):
    """Representation misdirection: an inner layer's states are pulled to one random direction on D_f, held where they
    were on D_r.

    The layer lies at ``depth`` (0: the first, 1: the last) of the model's list of layers; it and the ``trained`` − 1
    before it are trained. The direction is uniform on [0, 1)^H, so never negative; its length is ``scale`` times the
    mean norm of the original's states on D_f, as Dang et al. 2025 do. Means are over the states that count.
    """

    paper = "Li et al. 2024 (WMDP), §4; code centerforaisafety/wmdp, rmu/unlearn.py; scale: Dang et al. 2025"
    deviations = (
        "An epoch ends with the longer set; theirs with the shorter or after 80 batches (epoch_length=shorter).",
        "The direction is scale times as long as the original's states are; theirs has a constant length, 20.",
        "Padding counts nowhere; theirs counts in every mean.",
        "All weights of the trained layers move; of theirs one matrix each.",
        "The layer is the last and alpha 10, as early layers of small models are too general; theirs 7 of 32, 100.",
        "Optimiser and batch size are the recipe's; theirs: AdamW, batches of 4.",
        "The rate is the recipe's; theirs 5e-5.",
    )
    official = {  # of Zephyr 7B: layer 7 of 0 to 31
        "optimizer": "adamw",
        "batch_size": 4,
        "lr": 5e-5,
        "epoch_length": "shorter",
        "alpha": 100.0,
        "depth": 7 / 31,
    }
    version = 2  # batch norms of the frozen layers keep their statistics
    schedule = "joint"
    alpha: float = 10.0
    scale: float = 5.0
    depth: float = 1.0
    trained: int = 3
    lr_factor = 1.0
    epochs = 1
    search = {"alpha": (1.0, 1000.0, "log"), "scale": (1.0, 20.0, "log")}

    @property
    def terms(self):
        return (
            Term("forget", "rep", "none", how=self.misdirected, corruption=Corruption.DATA, layer=self.depth),
            Term("retain", "rep", "original", weight=self.alpha, layer=self.depth),
        )

    def trainable(self, student, head):
        from mubench.models import networks

        layers = networks.layers(student, head)
        at = round(self.depth * (len(layers) - 1))
        return [student.get_submodule(name) for name in layers[max(0, at + 1 - self.trained) : at + 1]]

    def prepare(self, context):
        import torch

        some = context.batch(context.forget, torch.arange(min(len(context.forget), 256)), "states")
        with context.counted("states", some, gradient=False):
            states = context.teacher("original").answer(some, slice(None), layer=context.layer(self.depth))
        norms = states.features.norm(dim=-1)
        length = (norms if states.mask is None else norms[states.mask]).mean()
        direction = torch.rand(states.features.shape[-1], generator=context.generator("direction")).to(states.features)
        self.direction = self.scale * length * direction / direction.norm()

    def misdirected(self, context, batch, student, teacher):
        from mubench.models.behaviour import Output

        return context.task.distance(student, Output(None, features=self.direction))
