from mubench.methods._retain import HOLDS, retained
from mubench.methods.base import Corruption, Method, Term


class SimNPO(Method):
    """NPO without a reference model: the loss per token takes the place of the difference, so short texts are not
    favoured.

    −(2/β)·log σ(β·(NLL/length − γ)). The code multiplies the margin γ by β too, as here; at γ = 0 all readings agree.
    ``weight`` is the authors' npo_coeff; β and it are those of their TOFU forget10, forget05 has 2.5 and 0.1375. Their
    MUSE code averages raw logits instead of losses, which is not the paper's method. ``retain`` as in `NPO`.
    """

    paper = "Fan et al. 2024 (SimNPO), Eq. 5; code OPTML-Group/Unlearn-Simple, TOFU/dataloader.py:compute_loss"
    deviations = (
        "An epoch ends with the longer set; theirs with D_f, paired with as many of D_r (epoch_length=forget).",
        "The batch size is the recipe's; theirs is 32, on 8 GPUs.",
        "Rate and epochs are ours: 0.3 of the recipe's, 1 epoch; theirs: 1e-5, linear after warm-up, 20 epochs.",
    )
    official = {  # of TOFU forget10 with Llama 2 7B
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "batch_size": 32,
        "lr": 1e-5,
        "epochs": 20,
        "lr_schedule": "linear",
        "warmup": 0.05,
        "epoch_length": "forget",
    }
    schedule = "joint"
    beta: float = 4.5
    gamma: float = 0.0
    weight: float = 0.125
    retain: HOLDS = "gdiff"
    lr_factor = 0.3
    search = {"beta": (1.0, 10.0), "weight": (0.03, 1.0, "log")}

    @property
    def terms(self):
        return Term("forget", "loss", "true", self.weight, how=self.bounded, corruption=Corruption.GRADIENT), *retained(
            self.retain
        )

    def bounded(self, context, batch, student, teacher):
        from torch.nn.functional import logsigmoid

        return -2 / self.beta * logsigmoid(self.beta * (student.loss - self.gamma))
