"""Views of prepared examples: what splits cut and what batches are drawn from. Cutting copies indices, never rows.

A view goes into a data loader as it is: ``DataLoader(view, sampler=chunks, batch_size=None, num_workers=2)``, where
``chunks`` gives the positions of each batch, a tensor.
"""

import copy

import torch

from mubench.errors import MubenchError


class World(dict):
    """Tensors that belong to no example (a graph's adjacency), name → tensor; moved to a device once, not per batch."""

    def to(self, device, non_blocking=False):
        """The same on a device."""
        places, place = vars(self).setdefault("places", {}), str(device)
        if place not in places:
            moved = {name: tensor.to(device) for name, tensor in self.items()}
            places[place] = None if all(moved[name] is self[name] for name in self) else World(moved)
        return self if places[place] is None else places[place]


NOTHING = World()  # the world of tasks whose examples are all there is


class View(torch.utils.data.Dataset):
    """Some rows of a set, in an order.

    rows: the row of each example in the whole set, [n].
    decodes: whether a batch is decoded when it is asked for (files are opened, pictures unpacked). Only then do worker
        processes save time.
    world: what its examples are seen with, a `World`: handed on whole, as ``world`` of each batch, unless it is empty.
    lengths: how long each example is, [n], where a batch is padded to its longest; else None.

    ``view[positions]`` is a batch: a dict of tensors, with ``index``, the row of each example in the whole set. It
    depends on the positions alone, in every thread and in every process; where ``decodes``, the view can be pickled.
    """

    decodes = False
    world = NOTHING
    lengths = None

    def __init__(self, n, rows=None):
        self.rows = torch.arange(n) if rows is None else torch.as_tensor(rows, dtype=torch.long)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, positions):
        raise NotImplementedError

    def select(self, positions):
        """The examples at some positions, as a view of the same kind."""
        view = copy.copy(self)
        view.rows = self.rows[positions]
        return view

    def within(self, world):
        """The same examples, seen with a `World`."""
        if world is self.world:
            return self
        view = copy.copy(self)
        view.world = world
        return view

    def _beside(self, rows):
        """What a batch holds beside its columns."""
        return {"index": rows, "world": self.world} if self.world else {"index": rows}

    def _joined(self, other):
        """The world of both views; there is no batch of examples of two."""
        if other.world is not self.world:
            raise MubenchError("examples of D and of D_r are seen with different worlds here: they cannot be one set")
        return self.world


class Absent(View):
    """The view of a set that a task does not have: whoever asks it for examples is told so.

    name: of the set.
    """

    def __init__(self, name):
        super().__init__(0)
        self.name = name

    def _refuse(self, *_):
        raise MubenchError(
            f"there is no {self.name} set here: a method whose hooks use one says so, requires ="
            f" frozenset({{{self.name!r}}})"
        )

    def __bool__(self):
        return False

    __len__ = __getitem__ = __add__ = __radd__ = select = within = _refuse


class Examples(View):
    """Rows of one prepared set, held in memory as columns.

    columns: name → tensor of n rows; one of them ``labels`` where the task has labels.
    rows: the rows this view shows, in order (default: all).
    collate: columns of a batch → what the model takes (normalised pixels, trimmed text); default: as they are.
    lengths: how long each row of the set is, a tensor, or None (see `View`).
    """

    def __init__(self, columns, rows=None, collate=None, lengths=None):
        n = len(next(iter(columns.values())))
        if any(len(c) != n for c in columns.values()):
            raise MubenchError(f"columns differ in length: { {k: len(c) for k, c in columns.items()} }")
        super().__init__(n, rows)
        self.columns, self.collate, self._lengths = columns, collate, lengths

    @property
    def lengths(self):
        return None if self._lengths is None else self._lengths[self.rows]

    def __getitem__(self, positions):
        rows = self.rows[positions]
        batch = {name: column[rows] for name, column in self.columns.items()}
        return (self.collate(batch) if self.collate else batch) | self._beside(rows)

    def __add__(self, other):
        world = self._joined(other)
        if other.columns is self.columns:
            rows = torch.cat([self.rows, other.rows])
            return Examples(self.columns, rows, self.collate, self._lengths).within(world)
        columns = {name: torch.cat([column, other.columns[name]]) for name, column in self.columns.items()}
        lengths = [self._lengths, other._lengths]
        lengths = None if any(some is None for some in lengths) else torch.cat(lengths)
        rows = torch.cat([self.rows, other.rows + len(next(iter(self.columns.values())))])
        return Examples(columns, rows, self.collate, lengths).within(world)


class Decoded(View):
    """Rows of a set that is too large to be held prepared; each batch is decoded when it is asked for.

    dataset: the whole set, a ``datasets.Dataset``.
    decode: some of its rows, a ``datasets.Dataset`` → what the model takes; it must pickle.
    rows: the rows this view shows, in order (default: all).
    """

    decodes = True

    def __init__(self, dataset, decode, rows=None):
        super().__init__(len(dataset), rows)
        self.dataset, self.decode = dataset, decode

    def __getitem__(self, positions):
        rows = self.rows[positions]
        return self.decode(self.dataset.select(rows.tolist())) | self._beside(rows)

    def __add__(self, other):
        world = self._joined(other)
        if other.dataset is self.dataset:
            return Decoded(self.dataset, self.decode, torch.cat([self.rows, other.rows])).within(world)
        from datasets import concatenate_datasets

        both = concatenate_datasets([self.dataset, other.dataset])
        return Decoded(both, self.decode, torch.cat([self.rows, other.rows + len(self.dataset)])).within(world)


class Wrapped(View):
    """Anyone's map-style data set of dicts (a Hugging Face ``Dataset``, a list, a ``torch`` data set).

    dataset: ``dataset[i]`` is an item, ``len(dataset)`` their number.
    collate: list of items → dict of tensors (default: `torch.utils.data.default_collate`).
    rows: the rows this view shows, in order (default: all).

    Its ``decodes`` is false, whatever the data set does: a transform may draw random numbers, which would then depend
    on the number of worker processes, and what is defined in a notebook or holds an open file does not pickle.
    """

    def __init__(self, dataset, collate=None, rows=None):
        super().__init__(len(dataset), rows)
        self.dataset, self.collate = dataset, collate or torch.utils.data.default_collate

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
        return batch | self._beside(rows)

    def __add__(self, other):
        world, both = self._joined(other), torch.utils.data.ConcatDataset([self.dataset, other.dataset])
        return Wrapped(both, self.collate, torch.cat([self.rows, other.rows + len(self.dataset)])).within(world)
