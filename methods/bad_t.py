from mubench.methods.base import Method, Term


class BadT(Method):
    """Two teachers: on D_f the student imitates an incompetent (freshly initialised) model, on D_r the original.

    D_r is a random ``retain_share`` of the retain set, drawn once. The official code divides the divergence by the number
    of classes too (PyTorch's default ``kl_div`` reduction): ``per="class"``; the paper, and we, sum over classes.
    """

    paper = "Chundawat et al. 2023, Eq. 2; code vikram2000b/bad-teaching-unlearning, unlearn.py:UnlearnerLoss"
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
        context.retain = context.sample(context.retain, self.retain_share)
