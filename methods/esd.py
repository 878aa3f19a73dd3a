from mubench.methods.base import Method, Term


class Esd(Method):
    """Erased stable diffusion: on the prompts of D_f the student predicts the noise that leads away from what they ask for.

    The target is ε(∅) − ``eta`` · (ε(prompt) − ε(∅)), both of the frozen original: classifier-free guidance turned round. (The
    authors' newer code begins at ε(prompt): its η is ours plus 1.) They draw the noisy picture from the model itself, by sampling; ours is
    the noised picture of D_f, as it is single pictures that are deleted. ``within``: which modules are trained, by a part of
    their names; ``attn2``, cross-attention, is the paper's ESD-x; empty: all. Theirs are 200 to 1000 steps; rate and epochs are ours.
    """

    paper = "Gandikota et al. 2023, Eq. 7; code rohitgandikota/erasing, train-scripts/train-esd.py"
    schedule = "forget_only"
    parameters = "sparse internal"
    requires = frozenset({"prompts"})
    eta: float = 1.0
    within: str = "attn2"
    lr_factor = 0.3
    epochs = 10
    search = {"eta": (0.5, 3.0), "epochs": (3, 30)}

    @property
    def terms(self):
        return (Term("forget", "logit", "original", how=self.erased, corruption="Data"),)

    def prepare(self, context):
        context.only([module for name, module in context.student.named_modules() if self.within in name.rpartition(".")[2]])

    def erased(self, context, batch, mine, theirs):
        from mubench.behaviour import Output

        free = context.teacher("original").answer(context.task.asked(batch, "nothing"), slice(None))
        return context.task.divergence(mine, Output(None, self.target(theirs.logits, free.logits)))

    def target(self, asked, free):
        return free - self.eta * (asked - free)
