import functools

from mubench.methods._memory import accuracy, extraction
from mubench.methods.base import Method, Term


class UL(Method):
    """Knowledge unlearning: gradient ascent on all of D_f at once, until it is known no better than text never seen.

    One step per epoch, the batch being D_f (of 1 to 128 texts in the paper). It ends when the memorisation accuracy of
    D_f and, of texts, its extraction likelihood EL_n have fallen below those the original has on the validation set (as
    many examples as D_f has), or below the thresholds given; at least ``min_epochs`` steps, at most ``epochs``. Both
    are measured on answers, given their prompts. Dropout is off, and batch norm keeps its statistics. Of a classifier
    the accuracy alone counts. ``el_n`` and ``epochs`` are the authors'.
    """

    paper = "Jang et al. 2023, Eq. 1–3; code joeljang/knowledge-unlearning, models/Neo_Model.py"
    deviations = (
        "Thresholds are measured on our validation set; theirs are 0.2994 and 0.0499, on other corpora (GPT-Neo 125M).",
        "Both measures are of answers, given their prompts; theirs are of whole texts.",
        "The optimiser is the recipe's, with β 0.9 and 0.999; theirs FusedAdam, with 0.9 and 0.98.",
        "The rate is ours, 0.01 of the recipe's; theirs 5e-5.",
    )
    official = {"optimizer": "adamw", "lr": 5e-5}  # DeepSpeed's FusedAdam
    schedule = "forget_only"
    full_batch = True
    train_mode = False
    requires = frozenset({"classes"})
    terms = (Term("forget", "loss", "true", weight=-1.0),)
    el_n: int = 10
    ma_threshold: float | None = None
    el_threshold: float | None = None
    min_epochs: int = 1
    epochs = 20
    lr_factor = 0.01
    search = {"epochs": (10, 40)}

    def prepare(self, context):
        texts = {"el_threshold": functools.partial(extraction, n=self.el_n)} if "text" in context.task.provides else {}
        self.measures = {"ma_threshold": accuracy} | texts
        given = {name: getattr(self, name) for name in self.measures}
        unseen = context.validation.select(slice(len(context.forget))) if None in given.values() else None
        self.thresholds = {
            name: self.known(context, unseen, name) if value is None else value for name, value in given.items()
        }

    def known(self, context, view, name):
        return context.measure(view, self.measures[name]).mean().item()

    def after_epoch(self, context):
        if context.epoch >= self.min_epochs:
            return all(self.known(context, context.forget, name) <= most for name, most in self.thresholds.items())
