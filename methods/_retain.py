"""What holds D_r in methods that were published without, with the loss, and with the divergence."""

import typing

from mubench.methods.base import Term

HOLDS = typing.Literal["none", "gdiff", "kl"]


def retained(how, weight=1.0):
    """The terms on D_r: ``none``, ``gdiff`` (the task loss, as in GradDiff) or ``kl`` (KL(original ‖ student))."""
    terms = {
        "none": (),
        "gdiff": (Term("retain", "loss", "true", weight),),
        "kl": (Term("retain", "logit", "original", weight),),
    }
    return terms[how]
