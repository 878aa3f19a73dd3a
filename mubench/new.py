"""`mubench new`: commented starting files that run as they are."""

import re
from pathlib import Path

from mubench import registry
from mubench.errors import MubenchError

METHOD = '''from mubench.methods.base import Method, Term


class {Class}(Method):
    """One paragraph as in a paper: what is pulled where, and why D_f is forgotten. (`mubench ls` shows the first.)"""

    paper = "who, year, equation; code owner/repository"
    schedule = "joint"  # what a step sees: forget_only, retain_only, union, joint or alternate
    alpha: float = 0.9  # annotated attributes are hyperparameters: --set alpha=0.8
    lr_factor = 0.5  # learning rate, as a share of the rate the original was trained with
    epochs = 2

    @property
    def terms(self):
        # Term(on, measure, target, weight): the summands of the loss; see `mubench.methods.base.Term`.
        return (Term("retain", "loss", "true", weight=self.alpha),
                Term("forget", "logit", "incompetent", weight=1 - self.alpha))

    # What terms cannot say has hooks, each optional (`mubench.methods.base.Method` has all):
    # def trainable(self, student, head): ...  the modules that are trained; without it all
    # def prepare(self, context): ...          before the first step: context.mask, context.replace
    # def penalty(self, context): ...          a scalar added to every step's loss
    # def select(self, context): ...           positions of the forget set to visit in this epoch
    # def perturb(self, context, gradients): ...  name → what is added to a weight for D_f's gradient
    # def combine(self, context, gradients): ...  name → one gradient from those of D_f and D_r
    # def before_step(self, context, seen): ...   gradients are made: change .grad of context.trainable
    # def after_epoch(self, context): ...      after each epoch: context.measure, keep weights; true ends the run
    # def finish(self, context): ...           after the last step: edit context.student, and prunes = False
    # def wrap(self, context): ...             last of all: a wrapper in place of the student
'''

TASK = '''from mubench import Recipe
from mubench.tasks.base import Model
from mubench.tasks.image import ImageClassification


class {Class}(ImageClassification):
    """What the data is, in one line. (This file runs as it is, on scikit-learn's handwritten digits.)"""

    tier = "mini"
    source = "where the data comes from"
    licence = "under which terms"
    citation = "whom to cite"
    labels = tuple("0123456789")
    random_guess = 1 / 10
    # How originals are trained (and retrained): until the model fits its training set, so that there is something
    # to forget.
    recipe = Recipe(lr=5e-3, epochs=8, batch_size=64, lr_schedule="linear", warmup=0.1)
    models = {{  # name → a transformers class and its configuration; the first is the default
        "resnet": Model("ResNetForImageClassification", dict(
            num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic"),
            inputs=dict(mean=0.3, std=0.38)),
    }}

    def read(self):
        # A datasets.DatasetDict with train and test (and, if there are such, validation and transfer);
        # pictures in "image", classes in "label". `datasets.load_dataset("imagefolder", data_dir=…)` gives just that.
        import datasets
        from PIL import Image
        from sklearn.datasets import load_digits

        digits = load_digits()
        rows = [{{"image": Image.fromarray((picture * 15).astype("uint8")), "label": int(label)}}
                for picture, label in zip(digits.images, digits.target)]
        train, test = (datasets.Dataset.from_list(part) for part in (rows[:1400], rows[1400:]))
        return datasets.DatasetDict(train=train, test=test)

    # What is no row-wise classifier states more, each optional (see "Add your task"):
    # unit_kinds = ("person", "row")               with units(kind): rows that are forgotten together
    # scored_sets = {{"siblings": "what they are"}}  further sets of read() that are scored
    # batchwise = True                             the loss couples the examples of a batch
    # def world(self, rows): ...                   tensors that belong to no row, built from the rows that remain
    # provides = ImageClassification.provides - {{"retain"}}  there is no retain set
'''


def new(kind, name, folder="."):
    """Write ``NAME.py``, a starting file.

    kind: ``method`` or ``task``.
    name: in snake_case.
    folder: where to.

    Returns what to do next, as text. Raises `MubenchError` for a name that is taken, or is none.
    """
    existing = {"method": registry.methods, "task": registry.tasks}[kind]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise MubenchError(f"{kind} name {name!r} must be snake_case, such as my_{kind}")
    if name in existing.modules:
        raise MubenchError(f"{name} is already a {kind} of mubench: choose another name")
    path = Path(folder) / f"{name}.py"
    if path.exists():
        raise MubenchError(f"{path} exists already: choose another name or remove it")
    title = "".join(part.capitalize() for part in name.split("_"))
    path.write_text({"method": METHOD, "task": TASK}[kind].format(Class=title), encoding="utf-8")
    then = {
        "method": f"mubench run fashion {path}:{title}",
        "task": f"mubench original {path}:{title} --train && mubench run {path}:{title} salun",
    }
    return f"written: {path}\nnext:    {then[kind]}\nthen:    mubench check {path}:{title}"
