"""The optimiser of a recipe, and its rate at every step."""

import math

import torch

from mubench.errors import MubenchError
from mubench.train.sophia import Sophia

FUSED = ("cpu", "cuda")  # devices with fused kernels


def make_optimizer(recipe, parameters):
    """The optimiser that a recipe names. Raises `MubenchError` where there is none of that name."""
    options = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sophia":
        return Sophia(parameters, **options)
    known = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    if recipe.optimizer not in known:
        raise MubenchError(f"optimizer {recipe.optimizer!r}: {', '.join(known)} or sophia")
    if recipe.optimizer == "sgd":
        options["momentum"] = recipe.momentum
    fused = all(p.is_floating_point() and p.device.type in FUSED for p in parameters)  # all parameters in one kernel
    return known[recipe.optimizer](parameters, fused=fused, **options)


def rate(recipe, progress, epoch):
    """The learning rate of a step.

    progress: the share of all steps that lies behind it, in [0, 1).
    epoch: its epoch, from 1.
    """
    if progress < recipe.warmup:
        factor = progress / recipe.warmup
    else:
        left = (1 - progress) / (1 - recipe.warmup) if recipe.warmup < 1 else 1.0
        cosine = 0.5 * (1 - math.cos(math.pi * left))
        factor = {"constant": 1.0, "linear": left, "cosine": cosine}[recipe.lr_schedule]
    return recipe.lr * factor * recipe.lr_decay ** sum(milestone < epoch for milestone in recipe.milestones)
