from mubench.methods.base import Method, Term


class IDK(Method):
    """Teach the student to answer questions of D_f with "I do not know", while it goes on learning D_r.

    The authors run both sets through one forward pass, so that each token weighs the same and short refusals little; we add the mean
    losses of the two. Their refusals are TOFU's list of 100, ours a few of our own. Rate and epochs are ours.
    """

    paper = "Maini et al. 2024 (TOFU), preference optimisation; code licong-lin/negative-preference-optimization, TOFU/dataloader.py:compute_loss"
    schedule = "joint"
    terms = Term("forget", "loss", "refusal"), Term("retain", "loss", "true")
    lr_factor = 0.1
