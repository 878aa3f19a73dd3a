"""Where the answers of texts in one piece are."""

from mubench.errors import MubenchError
from mubench.models.behaviour import at


def width(lengths, most, step=8):
    """The columns that the longest row fills, in multiples of ``step``: few distinct shapes."""
    return min(most, -(-int(lengths.max()) // step) * step)


def shifted(tokens, by, width):
    """[B, width]: rows of tokens, each moved ``by[i]`` columns to the right; its first and its last go on at the
    edges.
    """
    import torch

    columns = torch.arange(width, device=tokens.device) - by[:, None]
    return tokens.gather(1, columns.clamp(0, tokens.shape[1] - 1))


def as_wide(*labels):
    """Copies of labels, [n, L] each, as wide as the widest."""
    from torch.nn.functional import pad

    most = max(some.shape[1] for some in labels)
    return [pad(some, (0, most - some.shape[1]), value=-100) for some in labels]


class Asked:
    """Inside, the head of a causal model is asked about some positions alone: a head has a vocabulary for each.

    model: the model, or what is made of several.
    head: the name of the head's module in each of them.
    places: the positions, [B, L]; None: all.
    """

    def __init__(self, model, head, places):
        self.places, self.heads = places, []
        if places is not None:
            self.heads = [module for name, module in model.named_modules() if name.rpartition(".")[2] == head]
            if not self.heads:
                raise MubenchError(f"{type(model).__name__} has no module {head!r}: a task names the head as `head`")

    def pick(self, _, given):
        return at(given[0], self.places), *given[1:]

    def __enter__(self):
        self.hooks = [head.register_forward_pre_hook(self.pick) for head in self.heads]

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()
