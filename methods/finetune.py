from mubench.methods.base import Method, Term


class Finetune(Method):
    """Keep training the original on D_r and trust it to forget D_f (the FT baseline of Jia et al. 2023, SalUn's codebase)."""

    paper = "Jia et al. 2023; code OPTML-Group/Unlearn-Saliency, Classification/unlearn/FT.py"
    schedule = "retain_only"
    terms = (Term("retain", "loss", "true"),)
    epochs = 3
    lr_factor = 0.3
