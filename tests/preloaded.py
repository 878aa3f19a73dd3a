"""Processes forked from one whose libraries are imported already: a tenth of the seconds of a new Python."""

import multiprocessing
import os
import sys

LIBRARIES = [  # what a run imports, and takes most of its seconds to; of mubench nothing, which may differ by a process
    "accelerate",
    "datasets",
    "evaluate",
    "optuna",
    "pyarrow.parquet",
    "sklearn.linear_model",
    "torch",
    "transformers.models.resnet.modeling_resnet",
]


class Preloaded:
    """A `multiprocessing` context. Its processes have the environment of the moment at which they are made."""

    def __init__(self):
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(LIBRARIES)

    def __getattr__(self, name):
        return getattr(self._context, name)

    def Process(self, target, args=(), environment=None, **options):
        given = dict(environment or os.environ), target, args
        return self._context.Process(target=_within, args=given, **options)


def _within(environment, target, args):
    os.environ.clear()
    os.environ.update(environment)
    target(*args)


def command(words, folder, output, errors):
    """Do a command line in this process, which is the same as one started in a folder.

    output, errors: files for what it prints.
    """
    os.chdir(folder)
    sys.path[:0] = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    for stream, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
    from mubench.cli import main

    main(words)
