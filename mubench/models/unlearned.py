"""What an unlearning method leaves: a model that one can call, and what it cost."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Unlearned:
    """What `mubench.unlearn` gives back.

    model: the unlearned model, on its device, in eval mode.
    costs: the `mubench.train.costs.Costs`.
    """

    model: Any
    costs: Any
