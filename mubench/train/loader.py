"""From sets to batches on a device: rows in memory are cut, others are decoded by worker processes while the model
trains.
"""

import multiprocessing
import os

import torch
from torch.utils.data import DataLoader, Dataset

from mubench.errors import MubenchError
from mubench.examples import NOTHING, sent

WORKERS = 4  # at most; each holds two batches in advance


class Views(Dataset):
    """Several views as one: ``views[name, positions]`` is a batch of the view of that name, or why there is none.

    views: name → `mubench.examples.View`.
    stored: whether the columns of a batch are given as they are stored (`View.fetch`).
    """

    def __init__(self, views, stored):
        self.views, self.stored = views, stored

    def __getitem__(self, asked):
        name, positions = asked
        try:
            return self.views[name].fetch(positions) if self.stored else self.views[name][positions]
        except MubenchError as error:
            return error  # raised by a worker, its sentence would be buried in that process's traceback


def by_length(view):
    """The positions of a view, those of the longest examples first: batches of neighbours are padded least.

    What its batches give, joined, is in the view's order at ``by_length(view).argsort()``. Examples that are alike, or
    whose lengths nobody knows, stay in order.
    """
    if view.lengths is None:
        return torch.arange(len(view))
    return view.lengths.argsort(descending=True, stable=True)


def batches(views, asked, device):
    """The batches that are asked for, one after another, on a device, all but their ``index``.

    views: name → `mubench.examples.View`.
    asked: (name, positions) of each batch.
    device: where the model is.

    Nothing here waits for a GPU. What is ``resident`` in a view is copied there as it is stored, once for the whole set
    where there is room, and is made ready there. Views that decode when asked (``decodes``) are read by worker
    processes, ahead of the model; a process that may start no others reads them itself. Without another device the
    workers make batches ready too.
    """
    asked, device = list(asked), torch.device(device)
    views = {name: views[name] for name in {name for name, _ in asked}}
    ahead = any(view.decodes for view in views.values()) and not multiprocessing.current_process().daemon
    if device.type == "cpu":
        return _read_ahead(views, asked, device) if ahead else (views[name][positions] for name, positions in asked)
    return _made_there(views, asked, device, _read_ahead(views, asked, device) if ahead else None)


def _made_there(views, asked, device, read=None):
    """The batches, made ready on another device.

    read: the stored columns of each batch; None: they are fetched here, but for those that are held there.
    """
    held = {name: {} if read else view.held(device) for name, view in views.items()}
    rows = iter(_rows(views, asked, device) if any(held.values()) else [None] * len(asked))
    for name, positions in asked:
        view, there, index = views[name], held[name], next(rows)
        columns = next(read) if read else view.fetch(positions, there) if there else view.fetch(positions)
        columns |= {column: values[index] for column, values in there.items()}
        columns |= {column: sent(columns[column], device) for column in view.resident if column in columns}
        yield moved(view.made(columns), device) | view.beside(positions, device)


def _rows(views, asked, device):
    """The rows of each batch on a device, copied there at once."""
    rows = [views[name].rows[positions] for name, positions in asked]
    return sent(torch.cat(rows), device).split([len(some) for some in rows])


def moved(batch, device):
    """A batch on a device, all but its ``index``: copied without a wait; what is there already stays what it is."""
    if device.type == "cpu":
        return batch
    from accelerate.utils import send_to_device

    send = lambda values: (
        sent(values, device) if isinstance(values, torch.Tensor) else send_to_device(values, device, non_blocking=True)
    )
    return {name: values if name == "index" else send(values) for name, values in batch.items()}


def _read_ahead(views, asked, device):
    """What worker processes give of each batch: on the CPU the batch, else its stored columns, pinned for a GPU."""
    stored = device.type != "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = max(1, min(WORKERS, cores - 1, len(asked)))
    apart = torch.Generator()  # of the workers: else the run's own random numbers would be drawn
    bare = {name: view.within(NOTHING) for name, view in views.items()}  # no process is sent a world
    options = {"num_workers": workers, "pin_memory": device.type == "cuda", "generator": apart}
    given = DataLoader(Views(bare, stored), batch_size=None, sampler=asked, **options)
    for (name, _), batch in zip(asked, given, strict=False):  # whoever asks may stop early
        if isinstance(batch, MubenchError):
            raise batch
        yield batch | {"world": views[name].world} if views[name].world and not stored else batch
