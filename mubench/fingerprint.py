"""The fingerprint of code: a hash of its syntax tree, so that comments, docstrings and layout make no difference."""
import ast
import functools
import hashlib
import importlib.util
import sys
import sysconfig
from pathlib import Path

DIGITS = 16
SAID = {"paper", "deviations"}  # attributes that only document
CONTRACTS = {"mubench.methods.base", "mubench.tasks.base"}  # every class has them in common; their numbers are the engine's


@functools.cache
def fingerprint(cls):
    """Of a class's file and of the helpers it imports: modules beside it in the package of methods or of its own, and files of the user's that
    are not installed. 16 hex digits, the same on every version of Python."""
    package, found, waiting = cls.__module__.partition(".")[0], {}, [cls.__module__]
    while waiting:
        name = waiting.pop()
        if name not in found and (text := _source(name, package)) is not None:
            found[name] = tree = ast.parse(text)
            waiting += _imported(tree, name)
    parts = [_canonical(found[name]) for name in sorted(found, key=lambda name: (name != cls.__module__, name))]
    return hashlib.sha256("\n".join([cls.__qualname__, *parts]).encode()).hexdigest()[:DIGITS]


def _source(name, package):
    """The source of a module that counts as the class's own, else None."""
    module = sys.modules.get(name)
    if module is not None and hasattr(module, "SOURCE_OF_PLUGIN"):
        return module.SOURCE_OF_PLUGIN
    top = name.partition(".")[0]
    own = name.startswith(("mubench.methods.", "mubench.tasks.")) and name not in CONTRACTS if top == "mubench" else (
        top == package or not _installed(top))
    try:
        origin = importlib.util.find_spec(name).origin if own else None  # finding a module of a package imports the package
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(origin).read_text() if origin and origin.endswith(".py") else None


@functools.cache
def _installed(top):
    """Whether a top-level module is Python's or was installed: not a file of the user's."""
    try:
        origin = importlib.util.find_spec(top).origin
    except (ImportError, AttributeError, ValueError):
        return True
    places = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return not origin or not origin.endswith(".py") or any(Path(origin).is_relative_to(place) for place in places)


def _imported(tree, name):
    """The names of the modules that a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name.rsplit(".", node.level)[0] if node.level else ""
            base = ".".join(filter(None, [above, node.module]))
            yield from [base, *(f"{base}.{alias.name}" for alias in node.names)]


def _canonical(node):
    """A syntax tree as text: kinds of nodes and the fields that are not empty; without docstrings, positions and contexts."""
    if isinstance(node, list):
        return f"[{','.join(_canonical(part) for part in node if not _documents(part))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = value and isinstance(value[0], ast.Expr) and isinstance(value[0].value, ast.Constant) and isinstance(value[0].value.value, str)
            value = value[1:] if documented else value
        if name not in ("ctx", "kind", "type_comment") and value not in (None, []):
            fields.append(f"{name}={_canonical(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _documents(node):
    return isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id in SAID for target in node.targets)
