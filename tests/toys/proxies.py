import datasets
import torch
from transformers import PretrainedConfig, PreTrainedModel

from mubench.tasks.base import Model, Task
from mubench.train.recipe import Recipe

KINDS, COARSE = 6, 2  # kinds 0, 2 and 4 are siblings, and 1, 3 and 5


class ProxiesConfig(PretrainedConfig):
    model_type = "toy_proxies"


class ProxiesNetwork(PreTrainedModel):
    """A small classifier."""

    config_class = ProxiesConfig

    def __init__(self, config):
        super().__init__(config)
        self.body, self.classifier = torch.nn.Linear(6, 16), torch.nn.Linear(16, KINDS)
        self.post_init()

    def forward(self, x):
        return self.classifier(self.body(x).tanh())


class Proxies(Task):
    """Concepts are forgotten by pictures that were never trained on, and nothing of D is at hand to retain."""

    source = licence = "made here"
    labels = tuple("abcdef")
    random_guess = 1 / KINDS
    fits = 0.5
    provides = Task.provides - {"retain"}
    unit_kinds = ("concept",)
    scored_sets = {
        "siblings": "test rows of the concepts nearest to the forgotten ones",
        "others": "all other test rows",
    }
    recipe = Recipe(lr=0.05, epochs=6, batch_size=16)
    models = {"mlp": Model("ProxiesNetwork")}

    def model_class(self, model):
        return ProxiesNetwork

    def read(self):
        draw = torch.Generator().manual_seed(0)
        centres = torch.randn(KINDS, 6, generator=draw)

        def rows(n):
            kinds = torch.arange(n) % KINDS
            x = centres[kinds] + 0.5 * torch.randn(n, 6, generator=draw)
            return datasets.Dataset.from_dict({"x": x.tolist(), "label": kinds.tolist()})

        return datasets.DatasetDict(train=rows(60), proxies=rows(36), test=rows(60))

    def prepare(self, dataset, model):
        return {"x": torch.tensor(dataset["x"]), "labels": torch.tensor(dataset["label"])}

    def units(self, kind):
        """The concept that a row shows."""
        return self.data["train"]["label"]

    def sets(self, model, split=None, limit=None):
        """D_f are the proxies of the concepts that the split forgets; the test rows of the others are told apart."""
        sets = super().sets(model, split, limit)
        if split is None:
            return sets
        concepts = {self.units("concept")[row] for row in split.forget}
        near = {other for other in range(KINDS) if other % COARSE in {c % COARSE for c in concepts}} - concepts
        of = lambda view, kinds: view.select(
            [i for i, label in enumerate(view.columns["labels"][view.rows].tolist()) if label in kinds][:limit]
        )
        return sets | {
            "forget": of(self.prepared(model, "proxies"), concepts),
            "siblings": of(sets["test"], near),
            "others": of(sets["test"], {*range(KINDS)} - near - concepts),
        }
