from dataclasses import replace

from mubench.methods.base import Method, Term


class Delete(Method):
    """Distil the original on D_f with the true class removed: the dark knowledge stays, so nothing else need hold D_r.

    Target: the original's softmax with the logit of the label at −10⁹; loss: T²·KL(target ‖ student), of texts token by token. MU-Bench's
    code does the same for classes, with T = 1 (the authors' own was not compared). Rate and epochs are ours.
    """

    paper = "Zhou et al. 2025 (DELETE); code CLU-UML/MU-Bench, mubench/trainer/delete.py"
    schedule = "forget_only"
    requires = frozenset({"classes"})
    temperature: float = 1.0
    lr_factor = 0.2
    search = {"temperature": (0.5, 4.0)}

    @property
    def terms(self):
        return (Term("forget", "logit", "original", self.temperature**2, how=self.without_truth, corruption="Data"),)

    def without_truth(self, context, batch, mine, theirs):
        truth = batch["labels"].clamp(min=0)[..., None]  # padding is -100, and counts nowhere
        return context.task.divergence(mine, replace(theirs, logits=theirs.logits.scatter(-1, truth, -1e9)), self.temperature)
