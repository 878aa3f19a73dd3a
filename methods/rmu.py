from mubench.methods.base import Method, Term


class Rmu(Method):
    """Representation misdirection: an inner layer's states are pulled to one random direction on D_f, held where they were on D_r.

    The layer lies at ``depth`` (0: the first, 1: the last) of the model's list of layers; it and the ``trained`` − 1 before it
    are trained. The direction is uniform on [0, 1)^H, as in the official code, so never negative; its length is ``scale`` times the mean
    norm of the original's states on D_f, as Dang et al. 2025 do (the authors give a constant, 20, for models of one family). Means are over
    the states that count; the official code also counts padding. It trains one matrix of each layer, we all of its weights, as
    other models' layers are made otherwise. Theirs is layer 7 of 32 with ``alpha`` 100; of the three or four layers of small models so early a one
    is too general, and D_r held so tightly that nothing moves: the last layer and a tenth of it, ours, were chosen on validation data.
    """

    paper = "Li et al. 2024 (WMDP), §4; code centerforaisafety/wmdp, rmu/unlearn.py; scale: Dang et al. 2025"
    schedule = "joint"
    parameters = "sparse internal"
    alpha: float = 10.0
    scale: float = 5.0
    depth: float = 1.0
    trained: int = 3
    lr_factor = 1.0
    epochs = 1
    search = {"alpha": (1.0, 1000.0, "log"), "scale": (1.0, 20.0, "log")}

    @property
    def terms(self):
        return (Term("forget", "rep", "none", how=self.misdirected, corruption="Data"),
                Term("retain", "rep", "original", weight=self.alpha))

    def prepare(self, context):
        import torch

        from mubench import networks
        from mubench.behaviour import States

        layers = networks.layers(context.student, context.task.head)
        at = round(self.depth * (len(layers) - 1))
        context.task = States(context.task, layers[at])
        context.only([context.student.get_submodule(name) for name in layers[max(0, at + 1 - self.trained):at + 1]])
        some = context.batch(context.forget, torch.arange(min(len(context.forget), 256)), "states")
        states = context.teacher("original").answer(some, slice(None), features=True)
        norms = states.features.norm(dim=-1)
        length = (norms if states.mask is None else norms[states.mask]).mean()
        direction = torch.rand(states.features.shape[-1], generator=context.generator("direction")).to(states.features)
        self.direction = self.scale * length * direction / direction.norm()

    def misdirected(self, context, batch, mine, theirs):
        from mubench.behaviour import Output

        return context.task.distance(mine, Output(None, features=self.direction))
