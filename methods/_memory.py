"""How well a model knows examples by heart: the measures of Jang et al. 2023, for `Context.measure`."""


def accuracy(task, model, batch):
    """[B]: memorisation accuracy, the share of a text's tokens that are ranked first given those before; of a class 0
    or 1.
    """
    out = task.forward(model, batch)
    right = (out.logits.argmax(-1) == batch["labels"]).double()
    return right if out.mask is None else (right * out.mask).sum(-1) / out.mask.sum(-1)


def extraction(task, model, batch, n):
    """[B]: extraction likelihood EL_n. Of every prefix of an answer the model completes the rest greedily; what share
    of the rest's n-grams it finds, averaged over the prefixes (those that leave fewer than n tokens count 0)."""
    import torch

    true, ends = batch["labels"].tolist(), (batch["labels"] != -100).sum(1).tolist()  # answers begin at 0
    found = torch.zeros(len(true), dtype=torch.float64)
    grams = lambda tokens: list(zip(*(tokens[i:] for i in range(n)), strict=False))
    for given in range(1, max(ends) - n + 1):
        said = task.complete(model, batch, given, len(true[0]) - given).tolist()
        for row, end in enumerate(ends):
            if end - given >= n:
                wanted = grams(true[row][given:end])
                found[row] += (
                    sum(gram in set(wanted) for gram in grams(said[row][: end - given])) / len(wanted) / (end - n)
                )
    return found
