"""The fingerprint of code: a hash of its syntax tree, so that comments, docstrings and layout make no difference."""

import ast
import functools
import hashlib
import importlib.util
import sys
import sysconfig
from pathlib import Path

DIGITS = 16
DOCUMENTING = {"paper", "deviations", "formerly"}  # attributes that change nothing
CONTRACTS = {"mubench.methods.base", "mubench.tasks.base"}  # common to all; their numbers are the engine's
TUNING = {"prunes"}  # attributes that change no run


@functools.cache
def fingerprint(cls):
    """The fingerprint of a class: 16 hex digits, the same on every version of Python.

    It is of the class's file and of the helpers it imports: modules beside it in the package of methods or of its own,
    and files of the user's that are not installed. What is imported under a computed name is not seen.
    """
    found, waiting = {}, [cls.__module__]
    while waiting:
        name = waiting.pop()
        if name in found or (source := _source(name)) is None:
            continue
        text, is_package = source
        found[name] = tree = ast.parse(text)
        package = name if is_package else name.rpartition(".")[0]
        waiting += [child for child in _imported(tree, package) if _own(child, cls.__module__)]
    parts = [_canonical(found[name]) for name in sorted(found, key=lambda name: (name != cls.__module__, name))]
    return hashlib.sha256("\n".join([cls.__qualname__, *parts]).encode()).hexdigest()[:DIGITS]


def _own(name, of):
    """Whether a module is a part of the code in the module ``of``: the suite's methods and tasks, its package, the
    user's files.
    """
    top, package = name.partition(".")[0], of.partition(".")[0]
    if top == "mubench":
        return name.startswith(("mubench.methods.", "mubench.tasks.")) and name not in CONTRACTS
    return package != "mubench" and (top == package or not _installed(top))


def _source(name):
    """The source of a module, and whether it is a package; None where it has none."""
    text = vars(sys.modules.get(name, ast)).get("SOURCE_OF_PLUGIN")
    if text is not None:
        return text, False
    try:
        if not _is_package(name.rpartition(".")[0]):
            return None  # a function or class of a module, which is not imported to find that out
        spec = importlib.util.find_spec(name)  # of a module in a package this imports the package
        path = Path(spec.origin)
        return (
            (path.read_text(encoding="utf-8"), bool(spec.submodule_search_locations)) if path.suffix == ".py" else None
        )
    except (ImportError, AttributeError, ValueError, TypeError, OSError):
        return None


def _is_package(name):
    """Whether modules may be in a module ("": at the top)."""
    if not name or name in sys.modules:
        return not name or hasattr(sys.modules[name], "__path__")
    return _is_package(name.rpartition(".")[0]) and bool(importlib.util.find_spec(name).submodule_search_locations)


@functools.cache
def _installed(top):
    """Whether a top-level module is Python's or was installed: not a file of the user's."""
    try:
        path = Path(importlib.util.find_spec(top).origin).resolve()
    except (ImportError, AttributeError, ValueError, TypeError):
        return True
    places = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return (
        path.suffix != ".py"
        or bool({"site-packages", "dist-packages"} & {*path.parts})
        or any(path.is_relative_to(place) for place in places)
    )


def _imported(tree, package):
    """The names of the modules that a module in a ``package`` imports, wherever it does, and of their packages."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


def _canonical(node):
    """A syntax tree as text: kinds of nodes and fields that are not empty; no docstrings, positions and contexts."""
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "module" and _is_core(value):
            value = "mubench"  # where in the core a name lives changes nothing: its engine has a number of its own
        if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            value = value[_is_docstring(value[0]) :] if value else value
            value = [part for part in value if not (isinstance(node, ast.ClassDef) and _documents(part))]
        if name not in ("ctx", "kind", "type_comment") and value not in (None, []):
            fields.append(f"{name}={_canonical(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _is_core(module):
    """Whether a module that something is imported from is of the core."""
    return str(module).startswith("mubench.") and not _own(module, "mubench.methods")


def _is_docstring(node):
    """Whether the first statement of a body is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _documents(node):
    """Whether a statement of a class sets an attribute that no run depends on."""
    return (
        isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in DOCUMENTING | TUNING
    )
