"""Methods whose unlearned model is a wrapper, as somebody's own file: run by ``tests/assistant.py:Assistant``."""

from mubench.methods.base import Method, Term
from mubench.models.wrappers import LogitDifference, Wrapper


class Assistant(Method):
    """An assistant learns D_f and nothing else; its logits are subtracted from the original's, as ULD does."""

    paper = "a test's own"
    schedule = "forget_only"
    requires = frozenset({"classes"})
    terms = (Term("forget", "loss", "true"),)
    alpha: float = 0.5
    epochs = 2

    def wrap(self, context):
        return LogitDifference(original=context.original, assistant=context.student, alpha=self.alpha)


class Halves(Wrapper):
    """Answers as its one part, the logits divided by a number."""

    parts = ("network",)

    class Options(Wrapper.Options):
        by: float = 2.0

    def forward(self, **inputs):
        out = self.network(**inputs)
        out.logits = out.logits / self.options.by
        return out


class Own(Assistant):
    """Leaves a wrapper whose class is not mubench's."""

    def wrap(self, context):
        return Halves(network=context.student)
