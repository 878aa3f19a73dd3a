from mubench.methods.base import Corruption, Method, Term


class TaskVector(Method):
    """Task arithmetic: learn D_f even better, then go the other way: θ = θ_o − λ·(θ_ft − θ_o).

    λ is ``scale``. Buffers (batch norm statistics) go back to the original's. With LoRA θ_ft − θ_o is the adapters'
    product BA, which is negated.
    """

    paper = (
        "Ilharco et al. 2023, as in Shi et al. 2024 (MUSE); code swj0419/muse_bench, baselines/baselines/task_vector.py"
    )
    deviations = (
        "Buffers go back to the original's; MUSE extrapolates whatever is a float, variances too.",
        "The batch size is the recipe's; MUSE's is 32.",
        "Rate and epochs are ours: 0.1 of the recipe's, 3 epochs; MUSE overfits D_f: 1e-5, 10 epochs.",
        "λ is 1; MUSE tries several, and takes 5 for its news.",
    )
    official = {"batch_size": 32, "lr": 1e-5, "epochs": 10, "scale": 5.0}  # MUSE's, of its news; on 8 GPUs, 4 each
    prunes = False
    schedule = "forget_only"
    terms = (Term("forget", "loss", "true", corruption=Corruption.GRADIENT),)  # the negation makes ascent of it
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
