from mubench.methods.base import Method, Term


class NegGrad(Method):
    """Gradient ascent on the task loss of D_f; nothing holds D_r, so the rate must be small."""

    paper = "Golatkar et al. 2020; code OPTML-Group/Unlearn-Saliency, Classification/unlearn/GA.py"
    schedule = "forget_only"
    terms = (Term("forget", "loss", "true", weight=-1.0),)
    lr_factor = 0.03
    epochs = 1
