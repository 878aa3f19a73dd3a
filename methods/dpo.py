from mubench.methods._retain import retained
from mubench.methods.base import Method, Term


class DPO(Method):
    """Direct preference optimisation on D_f: "I do not know" is preferred to the true answer, both relative to the original.

    −(2/β)·log σ(β·((NLL_θ − NLL_o)(true) − (NLL_θ − NLL_o)(refusal))), NLL summed over an answer's tokens; the factor 2 is NPO's. The
    authors draw a refusal anew at every visit from TOFU's list of 100, ours is one of a few, the same at every visit.
    ``retain`` as in `NPO`. Defaults: β of the authors' TOFU configuration; rate and epochs are ours.
    """

    paper = "Rafailov et al. 2023, as in Zhang et al. 2024; code licong-lin/negative-preference-optimization, TOFU/dataloader.py:compute_loss"
    schedule = "joint"
    requires = frozenset({"text"})
    beta: float = 0.1
    retain: str = "gdiff"
    lr_factor = 0.1
    search = {"beta": (0.01, 1.0, "log")}

    @property
    def terms(self):
        return Term("forget", "loss", "original", how=self.preference, corruption="Data + Grad"), *retained(self.retain)

    def preference(self, context, batch, mine, theirs):
        from torch.nn.functional import logsigmoid

        refused = context.task.refuse(batch, slice(None))
        won = context.task.forward(context.student, refused).total - context.teacher("original").answer(refused, slice(None)).total
        return -2 / self.beta * logsigmoid(self.beta * (mine.total - theirs.total - won))
