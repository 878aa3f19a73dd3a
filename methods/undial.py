from dataclasses import replace

from mubench.methods.base import Corruption, Method, Term


class Undial(Method):
    """Distil the original on D_f with the logit of the true token lowered by ``strength``; no D_r.

    The loss is KL(target ‖ student), the authors' cross-entropy less the target's entropy, which no weight can change;
    averaged over an answer's tokens. A class is one token. Open-unlearning's port lowers a wrong logit at padding.
    Default: ``strength`` of the authors' code (their README says 3, open-unlearning 10).
    """

    paper = "Dong et al. 2024, Eq. 3; code dong-river/LLM_unlearning, utils/ft_utils.py:DITrainer"
    deviations = (
        "The loss is averaged over an answer's tokens; theirs over every position of the text.",
        "The batch size is the recipe's; theirs is 64.",
        "Rate and epochs are ours: 0.2 of the recipe's, 1 epoch; theirs are searched, 1e-7 to 1e-4 and 3 to 100.",
    )
    official = {"batch_size": 64}  # rate and epochs are searched
    schedule = "forget_only"
    requires = frozenset({"classes"})
    strength: float = 5.0
    lr_factor = 0.2
    search = {"strength": (1.0, 20.0, "log")}

    @property
    def terms(self):
        return (Term("forget", "logit", "original", how=self.lowered, corruption=Corruption.DATA),)

    def lowered(self, context, batch, student, teacher):
        truth = batch["labels"].clamp(min=0)[..., None]
        lower = teacher.logits.scatter(-1, truth, teacher.logits.gather(-1, truth) - self.strength)
        return context.task.divergence(student, replace(teacher, logits=lower))
