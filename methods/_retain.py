"""What holds D_r in methods that were published without, with the loss, and with the divergence."""

from mubench.errors import nearest
from mubench.methods.base import Term


def retained(how, weight=1.0):
    """The terms on D_r: ``none``, ``gdiff`` (the task loss, as in GradDiff) or ``kl`` (KL(original ‖ student))."""
    terms = {
        "none": (),
        "gdiff": (Term("retain", "loss", "true", weight),),
        "kl": (Term("retain", "logit", "original", weight),),
    }
    if how not in terms:
        raise nearest("retain", how, terms, "`mubench ls METHOD`")
    return terms[how]
