import itertools

import datasets
import torch
from transformers import PretrainedConfig, PreTrainedModel

from mubench.tasks.base import Model, Task
from mubench.train.recipe import Recipe

NODES, KINDS, TRAIN = 30, 3, 24
STEPS = (1, 3, 6)  # a node's neighbours, two of three of its own kind


class GraphConfig(PretrainedConfig):
    model_type = "toy_graph"


class GraphNetwork(PreTrainedModel):
    """Two graph convolutions of the features of all nodes; those of the nodes asked for are classified."""

    config_class = GraphConfig

    def __init__(self, config):
        super().__init__(config)
        self.first, self.second = torch.nn.Linear(8, 16), torch.nn.Linear(16, 16)
        self.classifier = torch.nn.Linear(16, KINDS)
        self.post_init()

    def forward(self, node, neighbour, world):
        adjacency = world["adjacency"]
        hidden = (adjacency @ self.first(world["features"])).relu()
        return self.classifier((adjacency @ self.second(hidden))[node].relu())


class Graph(Task):
    """Nodes of a small graph and their kinds. A row is a node and one of its neighbours, so an edge is two rows."""

    source = licence = "made here"
    labels = ("a", "b", "c")
    random_guess = 1 / 3
    fits = 0.9
    unit_kinds = ("node", "edge")
    recipe = Recipe(lr=0.05, epochs=12, batch_size=16)
    models = {"gcn": Model("GraphNetwork")}

    def model_class(self, model):
        return GraphNetwork

    def read(self):
        edges = [(u, u + step) for u, step in itertools.product(range(NODES), STEPS) if u + step < NODES]
        rows = sorted(edges + [(v, u) for u, v in edges])
        inside = lambda u, v: u < TRAIN and v < TRAIN
        of = lambda pairs: datasets.Dataset.from_dict(
            {"node": [u for u, _ in pairs], "neighbour": [v for _, v in pairs], "label": [u % KINDS for u, _ in pairs]}
        )
        return datasets.DatasetDict(
            train=of([pair for pair in rows if inside(*pair)]), test=of([pair for pair in rows if pair[0] >= TRAIN])
        )

    def prepare(self, dataset, model):
        return {
            "node": torch.tensor(dataset["node"]),
            "neighbour": torch.tensor(dataset["neighbour"]),
            "labels": torch.tensor(dataset["label"]),
        }

    def units(self, kind):
        """The node that a row asks about, or its edge in both directions."""
        rows = self.data["train"]
        if kind == "node":
            return rows["node"]
        return [f"{min(pair)}-{max(pair)}" for pair in zip(rows["node"], rows["neighbour"], strict=True)]

    def world(self, rows):
        """The normalised adjacency and the features of all nodes. Edges of test rows are there whatever is forgotten,
        those of training rows while both directions remain.
        """
        train, test = self.data["train"].select(rows), self.data["test"]
        there = {*zip(train["node"], train["neighbour"], strict=True)}
        edges = [pair for pair in there if pair[::-1] in there] + [*zip(test["node"], test["neighbour"], strict=True)]
        adjacency = torch.eye(NODES)
        for u, v in edges:
            adjacency[u, v] = adjacency[v, u] = 1
        degree = adjacency.sum(1).rsqrt()
        features = torch.randn(NODES, 8, generator=torch.Generator().manual_seed(0))
        features[torch.arange(NODES), torch.arange(NODES) % KINDS] += 1
        return {"adjacency": degree[:, None] * adjacency * degree, "features": features}
