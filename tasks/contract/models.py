"""The models of a task: what a card declares of them, and how they are built and found."""

import inspect
from dataclasses import dataclass, field, replace
from pathlib import Path

from mubench.errors import nearest
from mubench.models import networks


@dataclass(frozen=True)
class Model:
    """A model of a task: a class of `transformers` or `diffusers`, what it starts from, and how its original is made.

    architecture: the class's name, in `transformers` or `diffusers`
    config: keyword arguments of its configuration; of pretrained models: what differs from theirs
    pretrained: hub id (or folder) that it and its processor start from; "": untrained
    part: the folder in there, such as ``unet``
    original: hub id (or ``id@revision``) of a published original
    recipe: what differs from the task's recipe
    inputs: options of the modality's preprocessing
    """

    architecture: str
    config: dict = field(default_factory=dict)
    pretrained: str = ""
    part: str = ""
    original: str = ""
    recipe: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)


class Models:
    """The part of a task that knows its models."""

    def model(self, name=None):
        """The name of a model of this task: ``name``, checked, or the default."""
        if name is not None and name not in self.models:
            raise nearest(f"model of {self.name}", name, self.models, f"`mubench ls {self.name}`")
        return name or next(iter(self.models))

    def model_recipe(self, model):
        """The `Recipe` an original of this task is trained with."""
        return replace(self.recipe, **self.models[model].recipe)

    def model_class(self, model):
        return networks.model_class(self.models[model].architecture)

    @property
    def head_options(self):
        """What the configuration of this task's models is told of its labels."""
        return {"num_labels": self.num_labels} if self.labels else {}

    def build(self, model, seed=0, blank=False):
        """A new model, before any training on D.

        model: its name.
        seed: initialises what is not pretrained: all of it, or the head.
        blank: leave pretrained weights out.
        """
        import torch

        declared, cls = self.models[model], self.model_class(model)
        options = declared.config | self.head_options
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if not declared.pretrained:
                return networks.make(cls, options)
            begin = networks.make_like if blank else networks.pretrained
            return begin(cls, declared.pretrained, declared.part, **options)

    def originals_dir(self, model):
        """The folder of the original checkpoint that ships with the package, whether it is there or not."""
        return Path(inspect.getfile(type(self))).parent / "originals" / self.name / model

    def fetch_model(self, model):
        """Bring what a model starts from, and its published original unless there is one here, into the Hugging Face
        cache.

        Returns the names of what was fetched.
        """
        from mubench.models.originals import trained_dir

        declared, folders = self.models[model], (self.originals_dir(model), trained_dir(self, model))
        if declared.pretrained:
            networks.download(declared.pretrained, declared.part)
        if published := declared.original if not any(map(networks.weights, folders)) else "":
            networks.local(published, declared.part)
        return [name for name in (declared.pretrained, published) if name]
