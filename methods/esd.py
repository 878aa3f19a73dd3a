from mubench.methods.base import Corruption, Method, Term


class Esd(Method):
    """Erased stable diffusion: on the prompts of D_f the student predicts the noise that leads away from what they ask
    for.

    The target is ε(∅) − ``eta`` · (ε(prompt) − ε(∅)), both of the frozen original: classifier-free guidance turned
    round. ``within``: which modules are trained, by a part of their names; ``attn2``, cross-attention, is the paper's
    ESD-x; empty: all.
    """

    paper = "Gandikota et al. 2023, Eq. 7; code rohitgandikota/erasing, train-scripts/train-esd.py"
    deviations = (
        "The noisy picture is one of D_f, as single pictures are deleted; theirs is sampled from the model.",
        "The target begins at ε(∅), as in the paper; in their newer code at ε(prompt): its η is ours plus 1.",
        "Optimiser and batch size are the recipe's; theirs: Adam without weight decay, batches of 1.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.3 of the recipe's rate, 10 epochs; theirs: 1e-5, 1000 steps.",
    )
    official = {"optimizer": "adam", "weight_decay": 0.0, "clip": 0.0, "batch_size": 1, "lr": 1e-5}
    schedule = "forget_only"
    requires = frozenset({"prompts"})
    eta: float = 1.0
    within: str = "attn2"
    lr_factor = 0.3
    epochs = 10
    search = {"eta": (0.5, 3.0), "epochs": (3, 30)}

    @property
    def terms(self):
        return (Term("forget", "logit", "original", how=self.erased, corruption=Corruption.DATA),)

    def trainable(self, student, head):
        return [module for name, module in student.named_modules() if self.within in name.rpartition(".")[2]]

    def erased(self, context, batch, student, teacher):
        from mubench.models.behaviour import Output

        free = context.teacher("original").answer(context.task.asked(batch, "nothing"), slice(None))
        return context.task.divergence(student, Output(None, self.target(teacher.logits, free.logits)))

    def target(self, asked, free):
        return free - self.eta * (asked - free)
