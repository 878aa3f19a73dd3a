"""The house rules that can be checked: rooms, the direction of imports, what is installed."""

import ast
import configparser
import graphlib
import re
import subprocess
from pathlib import Path

import pytest

from mubench import registry

ROOT = Path(__file__).parent.parent
ROOMS = {
    "mubench": "mubench",
    "tasks": "mubench.tasks",
    "methods": "mubench.methods",
    "leaderboard": "mubench.leaderboard",
}
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
CORE = ("models", "train", "measure", "records", "sweep")  # rooms of the core, from the lowest


def module_of(path):
    """The import name of a file."""
    room, *inside = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([ROOMS[room], *(part for part in inside if part != "__init__")])


MODULES = {module_of(path): path for path in FILES}


def imports(module):
    """The names of the package's modules that a module imports, at its top or inside a function."""
    path, found = MODULES[module], set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: an import says where from, not from how many folders up"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in MODULES and name not in (module, "mubench")}


def level(module):
    """How high a module stands: what it imports stands no higher, and of equals all are in the same room."""
    room = module.removeprefix("mubench.").partition(".")[0]
    if module.startswith("mubench.leaderboard.studies"):
        return 12, "studies"
    high = {"cli": 13, "__main__": 14, "leaderboard": 11, "tasks": 10, "methods": 10}
    return (high[room], room) if room in high else (1, "core")


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    mine = level(module)
    for name in imports(module):
        theirs = level(name)
        assert theirs == mine or theirs[0] < mine[0], f"{module} imports {name}"
        assert theirs[1] not in ("tasks", "methods") or theirs == mine, f"{module} imports {name}, past its registry"


@pytest.mark.parametrize("module", [m for m in MODULES if level(m)[1] == "core"])
def test_rooms_of_the_core_import_from_lower_rooms(module):
    place = lambda name: name.split(".")[1] if name.count(".") else ""
    for name in imports(module):
        if place(module) in CORE and place(name) in CORE:
            assert CORE.index(place(name)) <= CORE.index(place(module)), f"{module} imports {name}"


def test_no_module_imports_itself_through_others():
    graphlib.TopologicalSorter({module: imports(module) for module in MODULES}).prepare()


@pytest.mark.parametrize("path", [p for p in FILES if p.relative_to(ROOT).parts[0] == "mubench"], ids=lambda p: p.name)
def test_the_core_branches_on_no_name_of_a_method_or_task(path):
    names = {*registry.methods.names(), *registry.tasks.names()} - {"original"}  # also what a student starts as
    tests = [
        node.test for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, (ast.If, ast.IfExp, ast.While))
    ]
    named = {c.value for test in tests for c in ast.walk(test) if isinstance(c, ast.Constant) and c.value in names}
    assert not named


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_depends_on_the_name_of_a_tier_or_on_who_defines_a_hook(room):
    """A task's card says how it is run, a method's how it is tuned; a tier is a label, a hook may do anything."""
    compared = []
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Compare)]:
            sides = [node.left, *node.comparators]
            attributes = [side for side in sides if isinstance(side, ast.Attribute)]
            names, owners = ([side.attr for side in attributes], [ast.unparse(side.value) for side in attributes])
            constant = any(isinstance(part, ast.Constant) for side in sides for part in ast.walk(side))
            of_a_class = any(re.search(r"(^|\.)([A-Z]\w*|base)$|^type\(", owner) for owner in owners)
            same = isinstance(node.ops[0], (ast.Is, ast.IsNot)) and len(names) == 2 and names[0] == names[1]
            if "tier" in names and constant or same and of_a_class:
                compared.append(f"{path.name}: {ast.unparse(node)}")
    assert not compared


def opens_text(call):
    """Whether a call reads or writes text: a file's, or what another process says."""
    named = {keyword.arg for keyword in call.keywords}
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if method else getattr(call.func, "id", "")
    if name != "open":
        return name in ("read_text", "write_text") or name in ("run", "Popen", "partial") and "text" in named
    mode = call.args[0 if method else 1 :][:1]
    if not mode:
        return not (method and call.args)  # `Path.open()`; a library's open(path) is no file of text
    return isinstance(mode[0], ast.Constant) and {*str(mode[0].value)} <= {*"rwaxt+"}


def test_every_text_has_an_encoding():
    """None depends on where the terminal or the machine is from."""
    lacking = [
        f"{path}:{call.lineno}"
        for path in FILES
        for call in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if opens_text(call) and "encoding" not in {keyword.arg for keyword in call.keywords}
    ]
    assert not lacking


def test_files_and_functions_are_short():
    """A screenful or a few: what is longer is two things."""
    files = {path: path.read_text() for path in FILES}
    assert not [str(path) for path, text in files.items() if text.count("\n") > 350]
    functions = [
        (f"{path.name}: {node.name}", node.end_lineno - node.lineno + 1)
        for path, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert not [(name, lines) for name, lines in functions if lines > 60]


def test_no_class_states_an_attribute_twice():
    """Of two statements the first would say nothing, and who reads it believes it."""
    twice = []
    for path in FILES:
        for cls in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]:
            assigned = [node for node in cls.body if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign))]
            stated = [
                name.id
                for node in assigned
                for target in getattr(node, "targets", None) or [node.target]
                for name in ast.walk(target)
                if isinstance(name, ast.Name)
            ]
            stated += [node.name for node in cls.body if hasattr(node, "name") and not node.decorator_list]
            twice += [f"{path.name}: {cls.name}.{name}" for name in {*stated} if stated.count(name) > 1]
    assert not twice


def test_every_package_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    there = {".".join([ROOMS[p.relative_to(ROOT).parts[0]], *p.relative_to(ROOT).parts[1:-1]]) for p in FILES}
    assert listed == there


def test_every_requirement_is_pinned_and_used():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    pinned = {
        re.split("[=;]", line)[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"
    }
    wanted = {
        re.split("[><=]", line)[0]
        for part in (setup["options"]["install_requires"], *setup["options.extras_require"].values())
        for line in part.split()
    }
    assert wanted <= pinned


def test_data_ships_with_a_notice():
    for folder in {path.parent for path in ROOT.glob("tasks/*/data/*.parquet")}:
        assert (folder / "NOTICE.md").is_file()


def test_nothing_large_or_stray_is_committed():
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")[:-1]
    assert not [name for name in files if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 5e6]
    assert {name.split("/")[0] for name in files} <= {
        *ROOMS,
        "tests",
        "docs",
        "mkdocs.yml",
        "setup.cfg",
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "LICENSE",
        "README.md",
        ".ci",
        ".github",
        ".gitignore",
    }
