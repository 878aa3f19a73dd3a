"""From sets to batches: rows in memory are cut, others are decoded by worker processes while the model trains."""

import multiprocessing
import os

import torch
from torch.utils.data import DataLoader, Dataset

from mubench.errors import MubenchError
from mubench.examples import NOTHING

WORKERS = 4  # at most; each holds two batches in advance


class Views(Dataset):
    """Several views as one: ``views[name, positions]`` is a batch of the view of that name, or why there is none."""

    def __init__(self, views):
        self.views = views

    def __getitem__(self, asked):
        name, positions = asked
        try:
            return self.views[name][positions]
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
    """The batches that are asked for, one after another.

    views: name → `mubench.examples.View`.
    asked: (name, positions) of each batch.
    device: where the batches go next.

    Views that decode when asked (``decodes``) are read by worker processes, ahead of the model, into memory from where
    a GPU copies without a wait. A process that may start no others reads them itself.
    """
    if not multiprocessing.current_process().daemon and any(
        views[name].decodes for name in {name for name, _ in asked}
    ):
        return _decoded(views, asked, device)
    return (views[name][positions] for name, positions in asked)


def _decoded(views, asked, device):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = max(1, min(WORKERS, cores - 1, len(asked)))
    pinned = device.type == "cuda"
    apart = torch.Generator()  # of the workers: else the run's own random numbers would be drawn
    bare = {name: view.within(NOTHING) for name, view in views.items()}  # no process is sent a world
    options = {"num_workers": workers, "pin_memory": pinned, "generator": apart}
    given = DataLoader(Views(bare), batch_size=None, sampler=asked, **options)
    for (name, _), batch in zip(asked, given, strict=False):  # whoever asks may stop early
        if isinstance(batch, MubenchError):
            raise batch
        yield batch | {"world": views[name].world} if views[name].world else batch
