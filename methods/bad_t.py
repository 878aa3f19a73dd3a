from mubench.methods.base import Method, Term


class BadT(Method):
    """Two teachers: on D_f the student imitates an incompetent (freshly initialised) model, on D_r the original.

    D_r is a random ``retain_share`` of the retain set, drawn once. ``per``: the divergence is summed over classes
    (``example``) or averaged over them (``class``, PyTorch's default ``kl_div`` reduction).
    """

    paper = "Chundawat et al. 2023, Eq. 2; code vikram2000b/bad-teaching-unlearning, unlearn.py:UnlearnerLoss"
    deviations = (
        "The divergence is summed over classes, as in the paper; their code averages over them (per=class).",
        "Optimiser and batch size are the recipe's; theirs: Adam without weight decay, batches of 256.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.3 of the recipe's rate, 3 epochs; theirs: 1e-4, 1 epoch.",
    )
    official = {  # as their notebooks run it
        "optimizer": "adam",
        "weight_decay": 0.0,
        "clip": 0.0,
        "batch_size": 256,
        "lr": 1e-4,
        "epochs": 1,
        "per": "class",
    }
    schedule = "union"
    temperature: float = 1.0
    retain_share: float = 0.3
    per: str = "example"
    lr_factor = 0.3
    epochs = 3
    search = {"temperature": (1.0, 4.0), "retain_share": (0.1, 1.0)}

    @property
    def terms(self):
        kl = dict(temperature=self.temperature, per=self.per)
        return Term("forget", "logit", "incompetent", **kl), Term("retain", "logit", "original", **kl)

    def prepare(self, context):
        context.replace(retain=context.sample(context.retain, self.retain_share))
