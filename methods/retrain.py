from mubench.methods.base import Method, Term


class Retrain(Method):
    """Exact unlearning: a freshly initialised model trained on D_r alone by the recipe of the original, the row to come
    near.
    """

    paper = "Cheng & Amiri 2024, Table 2"
    official = {}  # the same in both protocols: the recipe of the original
    start = "fresh"
    schedule = "retain_only"
    terms = (Term("retain", "loss", "true"),)
    epochs = batch_size = lr_schedule = warmup = keep_best = None
