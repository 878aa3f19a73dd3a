import typing

from mubench.methods._memory import accuracy
from mubench.methods.scrub import Scrub


class ScrubR(Scrub):
    """SCRUB with rewinding: of its epochs the one that forgets D_f just enough, since an error too high betrays
    membership too.

    A copy of the weights is kept after every epoch, in main memory. The reference is the final student's error on
    validation examples of the classes in D_f (of texts: on all of them); back to the epoch whose error on D_f is
    ``nearest`` to it (the authors' MIA experiments), or the ``first_above`` it (their BadT notebook). The error is 1 −
    accuracy, of texts over tokens. Settings as in `Scrub`, with more epochs to choose from.
    """

    paper = "Kurmanji et al. 2023, §4.3 (SCRUB+R); code meghdadk/SCRUB, MIA_experiments.ipynb"
    deviations = (
        "Checkpoints begin at epoch 1; theirs would begin at 0, of which none is ever written.",
        "Optimiser and batch sizes are the recipe's; theirs: 16 of D_f and 32 of D_r.",
        "Gradients are clipped to norm 1; theirs are not.",
        "2 of 5 epochs have a max pass, and T is 2; theirs: 3 of 5, and 4.",
        "The rate is ours, 0.3 of the recipe's.",
    )
    official = {  # of their MIA experiments
        "clip": 0.0,
        "batch_size": 32,
        "forget_batch_size": 16,
        "temperature": 4.0,
        "msteps": 3,
    }
    requires = frozenset({"classes"})
    rule: typing.Literal["nearest", "first_above"] = "nearest"
    epochs = 5

    def prepare(self, context):
        self.kept, self.errors, self.validation = [], [], context.validation

    def after_epoch(self, context):
        self.kept.append({name: tensor.to("cpu", copy=True) for name, tensor in context.student.state_dict().items()})
        errors, self.classes = context.measure(context.forget, error).unbind(1)
        self.errors.append(errors.mean().item())

    def finish(self, context):
        if self.kept:
            errors, classes = context.measure(self.validation, error).unbind(1)
            reference = errors[(classes[:, None] == self.classes.unique()).any(1)].mean().item()
            context.student.load_state_dict(self.kept[self.rewind(self.errors, reference)])

    def rewind(self, errors, reference):
        """The position among ``errors`` of the checkpoint to go back to; the last, where none is above."""
        rules = {
            "nearest": lambda: min(range(len(errors)), key=lambda i: abs(errors[i] - reference)),
            "first_above": lambda: next((i for i, e in enumerate(errors) if e > reference), len(errors) - 1),
        }
        return rules[self.rule]()


def error(task, model, batch):
    """[B, 2]: the error, and the class (0 of texts)."""
    import torch

    wrong = 1 - accuracy(task, model, batch)
    return torch.stack([wrong, batch["labels"].to(wrong) if batch["labels"].ndim == 1 else torch.zeros_like(wrong)], 1)
