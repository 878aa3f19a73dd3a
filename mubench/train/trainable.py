"""What may move: the masks of a run."""

import torch

from mubench.train.distributed import own, own_part


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
