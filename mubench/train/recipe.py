"""How a model is trained: the numbers an optimisation needs, for originals, for retraining and for unlearning alike."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Numbers of one training.

    lr: learning rate.
    epochs: passes over the examples.
    batch_size: examples of a batch, all processes together.
    forget_batch_size: of a batch of the forget set where it has batches of its own (0: as batch_size).
    optimizer: ``adamw``, ``adam``, ``sgd`` (with ``momentum``) or ``sophia``; each with ``weight_decay``.
    clip: norm to which gradients are clipped (0: never).
    lr_schedule: what becomes of the rate after the warm-up: ``constant``, ``linear`` or ``cosine`` down to 0.
    warmup: share of the steps over which the rate is ramped up.
    milestones: epochs, counted from 1, after each of which the rate is times ``lr_decay``.
    accumulate: pieces that a batch is cut into: less memory, more time, the same maths.
    recompute: forget activations until the backward pass asks for them (gradient checkpointing): likewise.
    keep_best: end with the weights of the epoch that scored best on the validation set (of equals the first).
    """

    lr: float
    epochs: int
    batch_size: int
    forget_batch_size: int = 0
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.01
    clip: float = 1.0
    lr_schedule: str = "constant"
    warmup: float = 0.0
    milestones: tuple = ()
    lr_decay: float = 0.1
    accumulate: int = 1
    recompute: bool = False
    keep_best: bool = False
