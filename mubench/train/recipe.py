"""How a model is trained: the numbers an optimisation needs, for originals, for retraining and for unlearning alike."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Numbers of one training.

    ``epochs`` passes in batches of ``batch_size`` examples (all processes together; ``forget_batch_size`` for the
    forget set where it has batches of its own; ``accumulate`` cuts a batch into as many pieces and ``recompute``
    forgets activations until the backward pass asks for them (gradient checkpointing): both change memory and time, not
    maths), by ``optimizer`` (``adamw``, ``adam``, ``sgd`` or ``sophia``) at rate ``lr``: ramped up over the first
    ``warmup`` share of the steps, then ``lr_schedule`` (``constant``, ``linear`` or ``cosine`` down to 0), and times
    ``lr_decay`` for each of the ``milestones`` strictly below the current epoch, counted from 1. Gradients are clipped
    to norm ``clip`` (0: never). ``keep_best`` ends with the weights of the epoch that scored best on the validation set
    (of equals the first), not the last.
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
