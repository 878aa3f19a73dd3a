from mubench.methods._retain import retained
from mubench.methods.base import Method, Term


class NPO(Method):
    """Negative preference optimisation: ascent on D_f that slows down for what the student already knows less than the original.

    −(2/β)·log σ(β·(NLL_θ − NLL_o)), NLL being that of a whole sequence, summed over its tokens; a class is a sequence of one. As β → 0
    this is gradient ascent. ``retain``: ``gdiff`` adds the loss of D_r, ``kl`` KL(original ‖ student) there, ``none`` nothing.
    The authors' KL averages over all positions of prompt and padding, ours over the answer; their epoch pairs every example of D_f
    with one of D_r, ours is as long as D_r (D_f with ``retain=none``). MU-Bench's port takes the log-sigmoid of a batch mean.
    Defaults: β of the authors' TOFU configuration; rate and epochs are ours.
    """

    paper = "Zhang et al. 2024, Eq. 3; code licong-lin/negative-preference-optimization, TOFU/dataloader.py:compute_loss"
    schedule = "joint"
    beta: float = 0.1
    retain: str = "gdiff"
    lr_factor = 0.01
    search = {"beta": (0.01, 1.0, "log")}

    @property
    def terms(self):
        return Term("forget", "loss", "original", how=self.bounded, corruption="Grad"), *retained(self.retain)

    def bounded(self, context, batch, mine, theirs):
        from torch.nn.functional import logsigmoid

        return -2 / self.beta * logsigmoid(self.beta * (mine.total - theirs.total))
