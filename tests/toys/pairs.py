import datasets
import torch
from torch.nn.functional import normalize
from transformers import PretrainedConfig, PreTrainedModel

from mubench.models.behaviour import Output, Representation
from mubench.tasks.base import Model, Task
from mubench.train.recipe import Recipe

KINDS = 8


class PairsConfig(PretrainedConfig):
    model_type = "toy_pairs"


class PairsNetwork(PreTrainedModel):
    """Two towers, and the similarity of every left part of a batch to every right one."""

    config_class = PairsConfig

    def __init__(self, config):
        super().__init__(config)
        self.left, self.right, self.classifier = torch.nn.Linear(6, 8), torch.nn.Linear(6, 8), torch.nn.Identity()
        self.post_init()

    def forward(self, left, right):
        return 5 * self.classifier(normalize(self.left(left), dim=-1)) @ normalize(self.right(right), dim=-1).T


class Pairs(Task):
    """Two views of the same thing find each other among all of the batch (a contrastive loss)."""

    source = licence = "made here"
    labels = tuple("abcdefgh")
    random_guess = 1 / KINDS
    fits = 0.5
    batchwise = True
    provides = Task.provides - {"labels", "classes"}  # logits are of the batch's own pairs
    recipe = Recipe(lr=0.05, epochs=20, batch_size=16)
    models = {"towers": Model("PairsNetwork")}

    def model_class(self, model):
        return PairsNetwork

    @property
    def head_options(self):
        return {}

    def read(self):
        draw = torch.Generator().manual_seed(0)
        centres = torch.randn(KINDS, 6, generator=draw)
        turn = torch.linalg.qr(torch.randn(6, 6, generator=draw)).Q

        def rows(n):
            kinds = torch.arange(n) % KINDS
            near = lambda: centres[kinds] + 0.2 * torch.randn(n, 6, generator=draw)
            columns = {"left": near().tolist(), "right": (near() @ turn).tolist(), "label": kinds.tolist()}
            return datasets.Dataset.from_dict(columns)

        return datasets.DatasetDict(train=rows(64), test=rows(40))

    def prepare(self, dataset, model):
        return {"labels": torch.tensor(dataset["label"]), **{k: torch.tensor(dataset[k]) for k in ("left", "right")}}

    def collate(self, batch, model):
        """With [B, B], true where two pairs are of one kind: those are no negatives of each other."""
        return batch | {"alike": batch["labels"][:, None] == batch["labels"]}

    def take(self, batch, rows):
        some = super().take(batch, rows)
        return some | {"alike": some["alike"][:, rows]}

    def forward(self, model, batch, features=False):
        with Representation(model, self.head if features else None) as representation:
            logits = model(batch["left"], batch["right"])
        others = batch["alike"] & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(others, -1e4)
        loss = -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()) / 2
        return Output(loss, logits, None, representation.value)

    def predict(self, model, batch):
        out = self.forward(model, batch)
        found = batch["labels"][model(batch["left"], batch["right"]).argmax(1)]
        right = (found == batch["labels"]).double()
        confidence = (-out.loss).exp()
        return {
            "target": batch["labels"],
            "prediction": found,
            "score": right,
            "loss": out.loss,
            "confidence": confidence,
        }
