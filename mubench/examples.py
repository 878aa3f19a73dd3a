"""Views of prepared examples: what splits cut and what batches are drawn from. Cutting copies indices, never rows.

A view goes into a data loader as it is: ``DataLoader(view, sampler=chunks, batch_size=None, num_workers=2)``, where
``chunks`` gives the positions of each batch, a tensor.
"""

import copy
import math

import torch

from mubench.errors import MubenchError

HELD = 1 / 20  # of a GPU's free memory, for the columns of one set: two fit into what `mubench.sweep.memory` leaves


def sent(tensor, device):
    """A tensor on a device, copied without a wait: a GPU copies from memory that is pinned while the host goes on."""
    if device.type == "cuda" and tensor.device.type == "cpu" and tensor.layout == torch.strided:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type != "mps")


class Placed(dict):
    """Tensors by name that are copied to a device once, not per batch. A pickle has none of the copies."""

    def __reduce__(self):
        return type(self), (dict(self),)

    def _placed(self, place, make):
        places = vars(self).setdefault("places", {})
        if place not in places:
            with torch.inference_mode(False):  # else they could not be trained on later
                places[place] = make()
        return places[place]


class World(Placed):
    """Tensors that belong to no example (a graph's adjacency), name → tensor."""

    def to(self, device, non_blocking=False):
        """The same on a device."""
        moved = self._placed(str(device), lambda: World({name: tensor.to(device) for name, tensor in self.items()}))
        return self if all(moved[name] is self[name] for name in self) else moved


class Columns(Placed):
    """The columns of a set in main memory, name → tensor of n rows, shared by all views of it.

    answers: what teachers gave for its rows, which later runs may ask for again (`mubench.train.teachers`).
    """

    def __init__(self, columns=()):
        super().__init__(columns)
        self.answers = {}

    def on(self, device, names):
        """Those of some names on a device; none of them where they need more than `HELD` of a GPU's free memory."""
        return self._placed((str(device), names), lambda: self._copied(device, [n for n in names if n in self]))

    def _copied(self, device, names):
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
        if sum(self[name].nbytes for name in names) > HELD * free:
            return {}
        return {name: self[name].to(device) for name in names}


CPU = torch.device("cpu")
NOTHING = World()  # the world of tasks whose examples are all there is


class View(torch.utils.data.Dataset):
    """Some rows of a set, in an order.

    rows: the row of each example in the whole set, [n].
    decodes: whether a batch is decoded when it is asked for (files are opened, pictures unpacked). Only then do worker
        processes save time.
    world: what its examples are seen with, a `World`: handed on whole, as ``world`` of each batch, unless it is empty.
    resident: names of the columns that `made` is given on the device where the batch goes (see
        `mubench.train.loader.batches`), the others in main memory.
    lengths: how long each example is, [n], where a batch is padded to its longest; else None.

    ``view[positions]`` is a batch: a dict of tensors, with ``index``, the row of each example in the whole set. It
    depends on the positions alone, in every thread and in every process; where ``decodes``, the view can be pickled.
    """

    decodes = False
    world = NOTHING
    resident: tuple = ()
    lengths = None

    def __init__(self, n, rows=None):
        self.rows = torch.arange(n) if rows is None else torch.as_tensor(rows, dtype=torch.long)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, positions):
        return self.made(self.fetch(positions)) | self.beside(positions)

    def fetch(self, positions):
        """The columns of some examples as they are stored, in main memory."""
        raise NotImplementedError

    def made(self, columns):
        """What the model takes: the columns of `fetch`, wherever they are, made ready."""
        return columns

    def held(self, device):
        """The columns of the whole set that are kept on a device, name → tensor."""
        return {}

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

    def beside(self, positions, device=CPU):
        """What a batch has that is no column: ``index``, which stays in main memory, and the ``world``, on a device."""
        rows = self.rows[positions]
        return {"index": rows, "world": self.world.to(device)} if self.world else {"index": rows}

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

    __len__ = __getitem__ = __add__ = __radd__ = select = within = fetch = _refuse


class Examples(View):
    """Rows of one prepared set, held in memory as columns.

    columns: name → tensor of n rows; one of them ``labels`` where the task has labels.
    rows: the rows this view shows, in order (default: all).
    collate: columns of a batch → what the model takes (normalised pixels, trimmed text); default: as they are.
    resident: names of the columns that are kept on the device where there is room, and that ``collate`` is given there.
    lengths: how long each row of the set is, a tensor, or None (see `View`).
    """

    def __init__(self, columns, rows=None, collate=None, resident=(), lengths=None):
        n = len(next(iter(columns.values())))
        if any(len(c) != n for c in columns.values()):
            raise MubenchError(f"columns differ in length: { {k: len(c) for k, c in columns.items()} }")
        super().__init__(n, rows)
        self.columns = columns if isinstance(columns, Columns) else Columns(columns)
        self.collate, self.resident, self._lengths = collate, resident, lengths

    @property
    def lengths(self):
        return None if self._lengths is None else self._lengths[self.rows]

    def fetch(self, positions, without=()):
        """The columns of some examples; ``without``: names of columns that are left out."""
        rows = self.rows[positions]
        return {name: column[rows] for name, column in self.columns.items() if name not in without}

    def made(self, columns):
        return self.collate(columns) if self.collate else columns

    def held(self, device):
        return self.columns.on(device, self.resident)

    def __add__(self, other):
        world, columns, lengths, first = self._joined(other), self.columns, self._lengths, 0
        if any(other.columns.get(name) is not column for name, column in columns.items()):
            columns = {name: torch.cat([column, other.columns[name]]) for name, column in columns.items()}
            both = [lengths, other._lengths]
            lengths = None if any(some is None for some in both) else torch.cat(both)
            first = len(next(iter(self.columns.values())))
        rows = torch.cat([self.rows, other.rows + first])
        return Examples(columns, rows, self.collate, self.resident, lengths).within(world)


class Decoded(View):
    """Rows of a set that is too large to be held prepared; each batch is decoded when it is asked for.

    dataset: the whole set, a ``datasets.Dataset``.
    prepare: some of its rows, a ``datasets.Dataset`` → columns; it must pickle, as all that follow.
    rows: the rows this view shows, in order (default: all).
    collate, resident: as of `Examples`.
    """

    decodes = True
    made = Examples.made

    def __init__(self, dataset, prepare, rows=None, collate=None, resident=()):
        super().__init__(len(dataset), rows)
        self.dataset, self.prepare, self.collate, self.resident = dataset, prepare, collate, resident

    def fetch(self, positions):
        return self.prepare(self.dataset.select(self.rows[positions].tolist()))

    def __add__(self, other):
        world, dataset, first = self._joined(other), self.dataset, 0
        if other.dataset is not dataset:
            from datasets import concatenate_datasets

            dataset, first = concatenate_datasets([dataset, other.dataset]), len(dataset)
        rows = torch.cat([self.rows, other.rows + first])
        return Decoded(dataset, self.prepare, rows, self.collate, self.resident).within(world)


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

    def fetch(self, positions):
        batch = self.collate([self.dataset[int(row)] for row in self.rows[positions]])
        if not isinstance(batch, dict) and not hasattr(batch, "keys"):
            raise MubenchError(
                f"a batch must be a dict of tensors, this data set gives {type(batch).__name__}: pass collate=, a "
                "function from a list of items to a dict with the model's arguments and 'labels'"
            )
        batch = dict(batch)
        if "label" in batch:
            batch["labels"] = batch.pop("label")
        return batch

    def __add__(self, other):
        world, both = self._joined(other), torch.utils.data.ConcatDataset([self.dataset, other.dataset])
        return Wrapped(both, self.collate, torch.cat([self.rows, other.rows + len(self.dataset)])).within(world)
