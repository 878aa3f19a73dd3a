"""Names of tasks, methods and probes: found by file name without importing them, by path, or by entry point.

A file ``methods/salun.py`` holds the method ``salun``. Beside it is ``base.py``, with what such files have in common; a
folder without one, and a file that starts with ``_``, holds helpers. Outside the package, ``path/to/file.py:Class``
names a class directly (its registry name is the file's), and installed packages add their own through the entry points
``mubench.tasks``, ``mubench.methods`` and ``mubench.probes``. ``name@0123456789ab`` are weights that other code has
unlearned and `mubench.evaluate` has measured: their author's name for it and the beginning of their hash; nothing to
run.
"""

import functools
import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

from mubench.errors import MubenchError, nearest


class OtherKind(MubenchError):
    """What a reference names is there, and is no class of this kind."""


class Registry:
    """Classes of one ``kind`` ('task', 'method', 'probe') in a package, each the one subclass of `base` in its file.

    The package is called as the entry points are, ``group``, unless another one is named.
    """

    def __init__(self, kind, package=None):
        self.kind, self.group = kind, f"mubench.{kind}s"
        self.package = package or self.group

    @functools.cached_property
    def base(self):
        return getattr(importlib.import_module(f"{self.package}.base"), self.kind.capitalize())

    @functools.cached_property
    def modules(self):
        """Name → module path of what ships with the package."""
        package = importlib.import_module(self.package)
        found = pkgutil.walk_packages(package.__path__, self.package + ".")
        modules = [m.name.rpartition(".") for m in found if not m.ispkg]
        folders = {folder for folder, _, name in modules if name == "base"}
        return {
            name: f"{folder}.{name}"
            for folder, _, name in modules
            if folder in folders and name != "base" and not name.startswith("_")
        }

    @functools.cached_property
    def plugins(self):
        """Name → entry point of what other packages add."""
        from importlib.metadata import entry_points

        return {e.name: e for e in entry_points(group=self.group)}

    @functools.cached_property
    def renamed(self):
        """Earlier name → the class of what is called otherwise now, of what ships with the package."""
        return {old: cls for cls in map(self.get, self.modules) for old in getattr(cls, "formerly", ())}

    def current(self, name, version):
        """The present name of what a record calls ``name``, in some version; any other name as it is."""
        cls = self.renamed.get(name)
        return cls.name if cls and version <= cls.formerly[name] else name

    def holds(self, reference):
        """Whether a name, or a file with its class, is of this kind. A file that cannot be imported raises."""
        if ".py" not in str(reference):
            return reference in self.names()
        try:
            return bool(self.get(reference))
        except OtherKind:
            return False

    def names(self):
        return sorted({*self.modules, *self.plugins})

    def get(self, reference):
        """The class a registry name or ``path/to/file.py:Class`` stands for.

        Unknown names are answered with the nearest.
        """
        if isinstance(reference, type):
            return reference
        if ".py" in str(reference):
            return self._from_file(str(reference))
        if "@" in str(reference):
            raise MubenchError(
                f"{reference} are weights that other code has unlearned: mubench measures them, it cannot run that code"
            )
        if reference in self.modules:
            return self._named(self._only(importlib.import_module(self.modules[reference])), reference)
        if reference in self.plugins:
            return self._named(self._plugin(reference), reference)
        if reference in self.renamed:
            raise MubenchError(f"{self.kind} {reference!r} is called {self.renamed[reference].name!r} now: use that")
        raise nearest(self.kind, reference, self.names(), f"`mubench ls {self.kind}s`")

    def name(self, reference):
        """The name a reference goes by in folders and tables."""
        return reference.partition("@")[0] if "@" in str(reference) else self.get(reference).name

    def reference(self, thing):
        """What an instance is called on a command line: its name, or ``path/to/file.py:Class``."""
        if thing.name in self.names():
            return thing.name
        cls = type(thing)
        return f"{sys.modules[cls.__module__].__spec__.origin}:{cls.__qualname__}"

    def fingerprint(self, reference):
        """The `fingerprint` of the code a reference stands for; None of weights, which have none."""
        from mubench.fingerprint import fingerprint

        return None if "@" in str(reference) else fingerprint(self.get(reference))

    def code(self, reference):
        """What changes when the code behind a reference changes what it does.

        It is the version, and of methods and of others' tasks the fingerprint too; of weights their hash.
        """
        if "@" in str(reference):
            return reference.partition("@")[2]
        cls = self.get(reference)
        ours = self.kind == "task" and cls.__module__.startswith("mubench.")
        return [cls.version, None if ours else self.fingerprint(reference)]

    def _plugin(self, name):
        """The class that another package adds under a name."""
        return self._checked(imported(self.kind, self.plugins[name]), name)

    def _from_file(self, reference):
        """The class that ``path/to/file.py``, or ``path/to/file.py:Class``, stands for."""
        path, _, name = reference.partition(":")
        path = Path(path).expanduser()
        if not path.is_file():
            raise MubenchError(f"no file {str(path)!r} for {self.kind} {reference!r}: give path/to/file.py:Class")
        if path.stem in self.modules:
            raise MubenchError(
                f"{path} would be called {path.stem!r}, which is a {self.kind} of mubench: rename the file"
            )
        module = _module(path)
        if not name:
            return self._named(self._only(module), path.stem)
        if not hasattr(module, name):
            raise MubenchError(f"{path} has no class {name!r}")
        return self._named(self._checked(getattr(module, name), reference), path.stem)

    def _only(self, module):
        """The one subclass of `base` that a module defines."""
        found = [
            c
            for c in vars(module).values()
            if isinstance(c, type) and issubclass(c, self.base) and c.__module__ == module.__name__
        ]
        if len(found) != 1:
            raise OtherKind(
                f"{module.__file__} must define one subclass of {self.base.__name__}, it has {len(found)}: "
                f"name the one meant as file.py:Class"
            )
        return found[0]

    def _checked(self, cls, reference):
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise OtherKind(f"{reference} is not a subclass of {self.package}.base.{self.base.__name__}")
        return cls

    def _named(self, cls, name):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise MubenchError(f"{self.kind} name {name!r} must be snake_case: it becomes a folder and a table row")
        cls.name = name
        return cls


def imported(kind, entry):
    """What an entry point of another package stands for; raises `MubenchError` where it cannot be imported."""
    try:
        return entry.load()
    except Exception as error:
        raise MubenchError(
            f"{kind} {entry.name} ({entry.value} of the package {entry.dist.name}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def _module(path):
    """The module in a file; a file whose text has changed is another one."""
    text = path.read_text(encoding="utf-8")
    unique = f"mubench_plugin_{path.stem}_{hashlib.sha256(f'{path.resolve()}:{text}'.encode()).hexdigest()[:8]}"
    if unique in sys.modules:
        return sys.modules[unique]
    spec = importlib.util.spec_from_file_location(unique, path)
    module = sys.modules[unique] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    module.SOURCE_OF_PLUGIN = text  # what runs, whatever becomes of the file
    try:
        exec(compile(text, path, "exec"), vars(module))
    except Exception as error:
        del sys.modules[unique]
        raise MubenchError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


tasks = Registry("task")
methods = Registry("method")
probes = Registry("probe", "mubench.measure.probes")


def load_task(reference: Any) -> Any:
    """A ``Task`` by registry name, ``path/to/file.py:Class``, class or instance."""
    return reference if isinstance(reference, tasks.base) else tasks.get(reference)()


def load_method(reference: Any, **hyperparameters: Any) -> Any:
    """A ``Method`` by registry name, ``path/to/file.py:Class`` or class, or an instance as it is.

    hyperparameters: name → value, of a new instance.
    """
    if isinstance(reference, methods.base):
        return reference
    return methods.get(reference)(**hyperparameters)
