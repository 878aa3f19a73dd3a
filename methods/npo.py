from mubench.methods._retain import HOLDS, retained
from mubench.methods.base import Corruption, Method, Term


class NPO(Method):
    """Negative preference optimisation: ascent on D_f that slows down for what the student already knows less than the
    original.

    −(2/β)·log σ(β·(NLL_θ − NLL_o)), NLL being that of a whole sequence, summed over its tokens; a class is a sequence
    of one. As β → 0 this is gradient ascent. ``retain``: ``gdiff`` adds the loss of D_r, ``kl`` KL(original ‖ student)
    there, ``none`` nothing. MU-Bench's port takes the log-sigmoid of a batch mean. Default: β of the authors' TOFU
    configuration.
    """

    paper = (
        "Zhang et al. 2024, Eq. 3; code licong-lin/negative-preference-optimization, TOFU/dataloader.py:compute_loss"
    )
    deviations = (
        "An epoch ends with the longer set; theirs with D_f, paired with as many of D_r (epoch_length=forget).",
        "Partners in D_r are drawn anew in every epoch; in their code those of an example stay the same.",
        "The KL of retain=kl is averaged over the answer; theirs over all positions, prompt and padding included.",
        "Optimiser and batch size are the recipe's; theirs: AdamW, batches of 16.",
        "Rate and epochs are ours: 0.01 of the recipe's, 1 epoch; theirs: 1e-5, linear after warm-up, 10 epochs.",
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
    beta: float = 0.1
    retain: HOLDS = "gdiff"
    lr_factor = 0.01
    search = {"beta": (0.01, 1.0, "log")}

    @property
    def terms(self):
        return Term("forget", "loss", "original", how=self.bounded, corruption=Corruption.GRADIENT), *retained(
            self.retain
        )

    def bounded(self, context, batch, student, teacher):
        from torch.nn.functional import logsigmoid

        return -2 / self.beta * logsigmoid(self.beta * (student.total - teacher.total))
