from mubench.methods.base import Method, Term


class NegGrad(Method):
    """Gradient ascent on the task loss of D_f; nothing holds D_r, so the rate must be small."""

    paper = "Golatkar et al. 2020; code OPTML-Group/Unlearn-Saliency, Classification/unlearn/GA.py"
    deviations = (
        "Optimiser and batch size are the recipe's; theirs: SGD, momentum 0.9, weight decay 5e-4, batches of 256.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.03 of the recipe's rate, 1 epoch; theirs: 1e-4, 5 epochs.",
    )
    official = {  # as their README runs it
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "clip": 0.0,
        "batch_size": 256,
        "lr": 1e-4,
        "epochs": 5,
    }
    schedule = "forget_only"
    terms = (Term("forget", "loss", "true", weight=-1.0),)
    lr_factor = 0.03
    epochs = 1
