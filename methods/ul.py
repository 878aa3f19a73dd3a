import functools
import typing

from mubench.methods._memory import accuracy, extraction
from mubench.methods.base import Method, Term


class UL(Method):
    """Knowledge unlearning: gradient ascent on all of D_f at once, until it is known no better than text never seen.

    One step per epoch, the batch being D_f (of 1 to 128 texts in the paper). It ends when the memorisation accuracy of D_f and, of
    texts, its extraction likelihood EL_n have fallen below those the original has on the validation set (as many examples as D_f
    has), or below the thresholds given (the authors', measured on other corpora, for GPT-Neo 125M: 0.2994 and 0.0499); at least
    ``min_epochs`` steps, at most ``epochs``. Both are measured on answers, given their prompts. Dropout is off, and batch norm
    keeps its statistics. Of a classifier the accuracy alone counts. ``el_n`` and ``epochs`` are the authors'; the rate is ours.
    """

    paper = "Jang et al. 2023, Eq. 1–3; code joeljang/knowledge-unlearning, models/Neo_Model.py"
    schedule = "forget_only"
    requires = frozenset({"classes"})
    terms = (Term("forget", "loss", "true", weight=-1.0),)
    el_n: int = 10
    ma_threshold: typing.Optional[float] = None
    el_threshold: typing.Optional[float] = None
    min_epochs: int = 1
    epochs = 20
    lr_factor = 0.01
    search = {"epochs": (10, 40)}

    def prepare(self, context):
        context.student.eval()
        context.forget_batch_size = len(context.forget)
        texts = {"el_threshold": functools.partial(extraction, n=self.el_n)} if "text" in context.task.provides else {}
        self.measures = {"ma_threshold": accuracy} | texts
        given = {name: getattr(self, name) for name in self.measures}
        unseen = context.validation.select(slice(len(context.forget))) if None in given.values() else None
        self.thresholds = {name: self.known(context, unseen, name) if value is None else value for name, value in given.items()}

    def known(self, context, view, name):
        return context.measure(view, self.measures[name]).mean().item()

    def after_epoch(self, context):
        if context.epoch >= self.min_epochs:
            return all(self.known(context, context.forget, name) <= most for name, most in self.thresholds.items())
