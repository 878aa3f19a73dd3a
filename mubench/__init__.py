"""mubench: the benchmark suite for machine unlearning. Importing it is instant; its functions load what they need."""

from pathlib import Path

import lazy_loader

_folder = Path(__file__).parent
if not (_folder / "tasks").exists():  # a checkout: its other rooms lie beside this one, whatever is installed
    __path__.append(str(_folder.parent))

_public, _, __all__ = lazy_loader.attach_stub(__name__, __file__)  # what `__init__.pyi` names


def __getattr__(name):
    if name == "__version__":
        from importlib.metadata import version

        return version("mubench")
    return _public(name)


def __dir__():
    return [*__all__, "__version__"]
