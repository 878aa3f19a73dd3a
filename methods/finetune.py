from mubench.methods.base import Method, Term


class Finetune(Method):
    """Keep training the original on D_r and trust it to forget D_f (the FT baseline of Jia et al. 2023, SalUn's
    codebase).
    """

    paper = "Jia et al. 2023; code OPTML-Group/Unlearn-Saliency, Classification/unlearn/FT.py"
    deviations = (
        "Optimiser and batch size are the recipe's; theirs: SGD, momentum 0.9, weight decay 5e-4, batches of 256.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.3 of the recipe's rate, 3 epochs; theirs: 0.01, 10 epochs.",
    )
    official = {
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "clip": 0.0,
        "batch_size": 256,
        "lr": 0.01,
        "epochs": 10,
    }
    schedule = "retain_only"
    terms = (Term("retain", "loss", "true"),)
    epochs = 3
    lr_factor = 0.3
