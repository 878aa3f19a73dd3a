from mubench.methods._retain import HOLDS, retained
from mubench.methods.base import Corruption, Method, Term


class DPO(Method):
    """Direct preference optimisation on D_f: "I do not know" is preferred to the true answer, both relative to the
    original.

    −(2/β)·log σ(β·((NLL_θ − NLL_o)(true) − (NLL_θ − NLL_o)(refusal))), NLL summed over an answer's tokens; the factor 2
    is NPO's. ``retain`` as in `NPO`. Default: β of the authors' TOFU configuration.
    """

    paper = (
        "Rafailov et al. 2023, as in Zhang et al. 2024; code licong-lin/negative-preference-optimization,"
        " TOFU/dataloader.py:compute_loss"
    )
    deviations = (
        "An epoch ends with the longer set; theirs with D_f, paired with as many of D_r (epoch_length=forget).",
        "Partners in D_r are drawn anew in every epoch; in their code those of an example stay the same.",
        "A refusal is one of a few of ours, the same at every visit; theirs is drawn anew from TOFU's list of 100.",
        "Optimiser and batch size are the recipe's; theirs: AdamW, batches of 16.",
        "Rate and epochs are ours: 0.1 of the recipe's, 1 epoch; theirs: 1e-5, linear after warm-up, 10 epochs.",
    )
    official = {  # of TOFU with Llama 2 7B
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "batch_size": 16,
        "lr": 1e-5,
        "epochs": 10,
        "lr_schedule": "linear",
        "warmup": 0.1,
        "epoch_length": "forget",
    }
    schedule = "joint"
    requires = frozenset({"text"})
    beta: float = 0.1
    retain: HOLDS = "gdiff"
    lr_factor = 0.1
    search = {"beta": (0.01, 1.0, "log")}

    @property
    def terms(self):
        return Term(
            "forget", "loss", "original", how=self.preference, corruption=(Corruption.DATA, Corruption.GRADIENT)
        ), *retained(self.retain)

    def preference(self, context, batch, student, teacher):
        from torch.nn.functional import logsigmoid

        refused = context.task.refuse(batch, slice(None))
        with context.counted("refused", refused):
            mine_refused = context.task.forward(context.student, refused)
        won = mine_refused.total - context.teacher("original").answer(refused, slice(None)).total
        return -2 / self.beta * logsigmoid(self.beta * (student.total - teacher.total - won))
