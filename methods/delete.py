from dataclasses import replace

from mubench.methods.base import Corruption, Method, Term


class Delete(Method):
    """Distil the original on D_f with the true class removed: the dark knowledge stays, so nothing else need hold D_r.

    Target: the softmax of the original, in eval mode, with the logit of the true class at −10⁹, so that its probability
    is 0; loss: T²·KL(target ‖ student), of texts token by token. With T = 1 this is the authors' loss.
    """

    paper = "Zhou et al. 2025 (DELETE); code shaaaaron/DELETE, method/delete.py"
    deviations = (
        "T is a hyperparameter; their code has none.",
        "Batch norm is in train mode; in their code it may be in eval mode (disable_bn).",
        "Optimiser and batch size are the recipe's; theirs: SGD, momentum 0.9, no weight decay, batches of 128.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.2 of the recipe's rate, 1 epoch; theirs: 1e-4, 20 epochs.",
        "Of texts it is taken token by token; their code is for classes.",
    )
    official = {  # of CIFAR-10 with ResNet-18
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "clip": 0.0,
        "batch_size": 128,
        "lr": 1e-4,
        "epochs": 20,
    }
    schedule = "forget_only"
    requires = frozenset({"classes"})
    temperature: float = 1.0
    lr_factor = 0.2
    search = {"temperature": (0.5, 4.0)}

    @property
    def terms(self):
        return (
            Term(
                "forget", "logit", "original", self.temperature**2, how=self.without_truth, corruption=Corruption.DATA
            ),
        )

    def without_truth(self, context, batch, student, teacher):
        truth = batch["labels"].clamp(min=0)[..., None]  # padding is -100, and counts nowhere
        return context.task.divergence(
            student, replace(teacher, logits=teacher.logits.scatter(-1, truth, -1e9)), self.temperature
        )
