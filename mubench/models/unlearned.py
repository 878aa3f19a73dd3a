"""What an unlearning method leaves: a model that one can call, what it cost, and how it is stored and loaded."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mubench.models import networks, originals, wrappers


@dataclass
class Unlearned:
    """What `mubench.unlearn` gives back. It is called as the model that was unlearned.

    model: the unlearned network, or the `Wrapper` it is, on its device, in eval mode.
    costs: the `mubench.train.costs.Costs`; None where other code has unlearned.
    adapters: with LoRA the `Adapters`, which are merged into the network.
    """

    model: Any
    costs: Any = None
    adapters: Any = None

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        return self.model(*args, **inputs)

    @property
    def kind(self) -> str:
        """How it is loaded from its files: a ``network`` as any checkpoint of its class, a ``wrapper`` by its name.

        ``own wrapper``: by nobody, as its class is not the package's; its parts are kept.
        """
        if not isinstance(self.model, wrappers.Wrapper):
            return "network"
        return "wrapper" if self.model.loads() else "own wrapper"

    @property
    def facts(self) -> dict:
        """What a record says of it: parameters; with LoRA, and of a wrapper, what these are."""
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            **({"lora": self.adapters.asdict()} if self.adapters else {}),
            **({"wrapper": self.model.asdict()} if isinstance(self.model, wrappers.Wrapper) else {}),
        }

    def save(self, folder: str | Path, adapter: bool = False) -> None:
        """Write it into a folder: safetensors and JSON.

        adapter: of LoRA the adapters alone.
        """
        model = self.adapters if adapter else self.model
        if isinstance(model, wrappers.Wrapper):
            model.save(folder)
        else:
            networks.save(model, folder)


def load(task, model, checkpoint, original):
    """The unlearned model in a folder: a network of a task's model, or a `Wrapper`.

    checkpoint: the folder, or a hub id.
    original: () → the original that a wrapper holds.

    Raises `MubenchError` for what is neither, or fits neither the task nor its own description.
    """
    folder = originals.located(task, model, checkpoint)
    if not (folder / networks.WRAPPER).exists():
        return originals.load(task, model, checkpoint)[0]
    return wrappers.load(folder, original, functools.partial(originals.part, task, model))
