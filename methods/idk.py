from mubench.methods.base import Method, Term


class IDK(Method):
    """Teach the student to answer questions of D_f with "I do not know", while it goes on learning D_r."""

    paper = (
        "Maini et al. 2024 (TOFU), preference optimisation; code licong-lin/negative-preference-optimization,"
        " TOFU/dataloader.py:compute_loss"
    )
    deviations = (
        "An epoch ends with the longer set; theirs with D_f, paired with as many of D_r (epoch_length=forget).",
        "Partners in D_r are drawn anew in every epoch; in their code those of an example stay the same.",
        "The mean losses of both sets are added; theirs is one mean over all tokens: short refusals weigh little.",
        "Refusals are a few of our own; theirs are TOFU's list of 100.",
        "Optimiser and batch size are the recipe's; theirs: AdamW, batches of 16.",
        "Rate and epochs are ours: 0.1 of the recipe's, 1 epoch; theirs: 1e-5, linear after warm-up, 10 epochs.",
    )
    official = {  # of TOFU with Llama 2 7B
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "batch_size": 16,
        "lr": 1e-5,
        "epochs": 10,
        "lr_schedule": "linear",
        "warmup": 0.1,
        "epoch_length": "forget",
    }
    schedule = "joint"
    terms = Term("forget", "loss", "refusal"), Term("retain", "loss", "true")
    lr_factor = 0.1
