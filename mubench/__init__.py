"""mubench: the benchmark suite for machine unlearning. Importing it is instant; its functions load what they need."""

import importlib

_PUBLIC = {
    "load_task": "registry",
    "load_method": "registry",
    "run": "runner",
    "tune": "sweep.tuning",
    "RunSpec": "spec",
    "score": "records.predictions",
    "unlearn": "api",
    "evaluate": "api",
    "check": "leaderboard.check",
    "submit": "leaderboard.submission",
    "board": "leaderboard.board",
    "report": "leaderboard.report",
    "ablate": "leaderboard.studies.ablations",
    "MubenchError": "errors",
    "Recipe": "train.recipe",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"mubench.{_PUBLIC[name]}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("mubench")
    raise AttributeError(f"module 'mubench' has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]
