"""How well a model knows examples by heart: the measures of Jang et al. 2023, for `Context.measure`."""


def accuracy(task, model, batch):
    """[B]: memorisation accuracy, the share of a text's tokens that are ranked first given those before; of a class 0 or 1."""
    out = task.forward(model, batch)
    right = (out.logits.argmax(-1) == batch["labels"]).double()
    return right if out.mask is None else (right * out.mask).sum(-1) / out.mask.sum(-1)


def extraction(task, model, batch, n):
    """[B]: extraction likelihood EL_n. Of every prefix of an answer the model completes the rest greedily; what share of the rest's
    n-grams it finds, averaged over the prefixes (those that leave fewer than n tokens count 0)."""
    import torch

    rows = ({k: v[i:i + 1] for k, v in batch.items()} for i in range(len(batch["labels"])))
    return torch.tensor([_extraction(task, model, row, n) for row in rows], dtype=torch.float64)


def _extraction(task, model, row, n):
    """EL_n of one answer: row i of the completions has i + 1 tokens given."""
    true = row["labels"][0]
    end = int((true != -100).sum())  # answers begin at 0
    if end <= n:
        return 0.0
    said = true.repeat(end - 1, 1)
    for at in range(1, end):
        given = {k: v.expand(at, *v.shape[1:]) for k, v in row.items()} | {"labels": said[:at]}
        said[:at, at] = task.forward(model, given).logits[:, at].argmax(-1)
    grams = lambda tokens: list(zip(*(tokens[i:] for i in range(n))))
    pairs = [(grams(mine), grams(theirs)) for i in range(1, end)
             for mine, theirs in [(said[i - 1, i:end].tolist(), true[i:end].tolist())] if len(theirs) >= n]
    return sum(sum(gram in set(theirs) for gram in mine) / len(theirs) for mine, theirs in pairs) / (end - n)
