from mubench.methods.base import Method, Term


class TaskVector(Method):
    """Task arithmetic: learn D_f even better, then go the other way: θ = θ_o − λ·(θ_ft − θ_o).

    The authors of MUSE fine-tune until D_f is overfitted and try several λ (``scale``). Buffers (batch norm statistics) go back to the
    original's, where MUSE extrapolates whatever is a float, variances too. With LoRA θ_ft − θ_o is the adapters' product BA, which is
    negated. The rate and epochs are ours.
    """

    paper = "Ilharco et al. 2023, as in Shi et al. 2024 (MUSE); code swj0419/muse_bench, baselines/baselines/task_vector.py"
    schedule = "forget_only"
    terms = (Term("forget", "loss", "true", corruption="Grad"),)  # the negation makes ascent of it
    scale: float = 1.0
    lr_factor = 0.1
    epochs = 3
    search = {"scale": (0.2, 5.0, "log")}

    def prepare(self, context):
        self.keep(context)

    def keep(self, context):
        """Arithmetic starts from the student as it is now."""
        self.origin = context.snapshot()

    def finish(self, context):
        context.rescale(-self.scale, self.origin)
