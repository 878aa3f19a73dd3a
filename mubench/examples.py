"""Views of prepared examples: what splits cut, what the engine draws batches from. Cutting copies indices, never
rows.
"""

import torch

from mubench.errors import MubenchError


class Examples(torch.utils.data.Dataset):
    """Rows of one prepared set, held as columns.

    columns: name → tensor of n rows; one of them ``labels`` where the task has labels.
    rows: the rows this view shows, in order (default: all).
    collate: columns of a batch → what the model takes (normalised pixels, trimmed text); default: as they are.

    ``view[positions]`` is a batch: a dict of tensors, with ``index``, the row of each example in the whole set.
    """

    def __init__(self, columns, rows=None, collate=None):
        n = len(next(iter(columns.values())))
        if any(len(c) != n for c in columns.values()):
            raise MubenchError(f"columns differ in length: { {k: len(c) for k, c in columns.items()} }")
        self.columns, self.collate = columns, collate
        self.rows = torch.arange(n) if rows is None else torch.as_tensor(rows, dtype=torch.long)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, positions):
        rows = self.rows[positions]
        batch = {name: column[rows] for name, column in self.columns.items()}
        return (self.collate(batch) if self.collate else batch) | {"index": rows}

    def select(self, positions):
        return Examples(self.columns, self.rows[positions], self.collate)

    def __add__(self, other):
        if other.columns is not self.columns:
            columns = {name: torch.cat([column, other.columns[name]]) for name, column in self.columns.items()}
            first = len(next(iter(self.columns.values())))
            return Examples(columns, torch.cat([self.rows, other.rows + first]), self.collate)
        return Examples(self.columns, torch.cat([self.rows, other.rows]), self.collate)


class Wrapped(torch.utils.data.Dataset):
    """The same view over anyone's map-style data set of dicts (a Hugging Face ``Dataset``, a list, a ``torch`` data
    set).
    """

    def __init__(self, dataset, collate=None, rows=None):
        self.dataset, self.collate = dataset, collate or torch.utils.data.default_collate
        self.rows = torch.arange(len(dataset)) if rows is None else torch.as_tensor(rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, positions):
        rows = self.rows[positions]
        batch = self.collate([self.dataset[int(row)] for row in rows])
        if not isinstance(batch, dict) and not hasattr(batch, "keys"):
            raise MubenchError(
                f"a batch must be a dict of tensors, this data set gives {type(batch).__name__}: pass collate=, a "
                "function from a list of items to a dict with the model's arguments and 'labels'"
            )
        batch = dict(batch)
        if "label" in batch:
            batch["labels"] = batch.pop("label")
        return batch | {"index": rows}

    def select(self, positions):
        return Wrapped(self.dataset, self.collate, self.rows[positions])

    def __add__(self, other):
        both = torch.utils.data.ConcatDataset([self.dataset, other.dataset])
        return Wrapped(both, self.collate, torch.cat([self.rows, other.rows + len(self.dataset)]))
