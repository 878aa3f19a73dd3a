"""What may move: the modules that are trained, and the masks over their weights."""

import torch

from mubench.train.distributed import own, own_part


def keep_statistics(modules):
    """Normalisations that count running statistics use them, and count no further. Returns handles whose ``remove``
    ends that.
    """
    counting = [m for m in modules if getattr(m, "running_mean", None) is not None]
    return [m.register_forward_pre_hook(_rest) for m in counting]


def _rest(module, _):
    module.train(False)


def resting(model):
    """The modules that have parameters, none of which may move."""
    parameters_of = {m: [*m.parameters(recurse=False)] for m in model.modules()}
    return [m for m, parameters in parameters_of.items() if parameters and not any(p.requires_grad for p in parameters)]


class Frozen:
    """All of a student but some modules, and what is below them: it has no gradients, and keeps its statistics.

    student: the model.
    modules: those that are trained.
    """

    def __init__(self, student, modules):
        trained = {id(m) for module in modules for m in module.modules()}
        chosen = {id(p) for module in modules for p in module.parameters()}
        for p in student.parameters():
            p.requires_grad_(p.requires_grad and id(p) in chosen)
        self._handles = keep_statistics(m for m in student.modules() if id(m) not in trained)

    def release(self):
        """Statistics are counted again."""
        for handle in self._handles:
            handle.remove()


class Masks:
    """Single weights that stay, while the others of their parameters are trained.

    student: the model.
    masks: name of a parameter → boolean tensor of its shape, true where a weight may move.
    hold: put weights back that an optimiser moved without a gradient (by weight decay or momentum).
    """

    def __init__(self, student, masks, hold):
        self.hold = hold
        self._masked = [
            (parameter, own_part(masks[name], parameter), own(parameter).detach().clone())
            for name, parameter in student.named_parameters()
            if name in masks
        ]

    def stop_gradients(self):
        """Before a step: weights that stay have no gradient."""
        for parameter, mask, _ in self._masked:
            if parameter.grad is not None:
                own(parameter.grad).mul_(mask)

    @torch.no_grad()
    def put_back(self):
        """After a step: weights that stay are what they were."""
        if self.hold:
            for parameter, mask, before in self._masked:
                torch.where(mask, own(parameter), before, out=own(parameter))
