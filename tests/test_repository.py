"""The house rules that can be checked: rooms, the direction of imports, what is installed."""

import ast
import configparser
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
CORE = r"mubench(\.(?!tasks|methods|leaderboard).*)?"
# A registry is how the core reaches tasks and methods; `mubench.api`, checks and the command line hand over to the
# leaderboard.
MAY_IMPORT = {
    "tasks": rf"{CORE}|mubench\.tasks.*",
    "methods": rf"{CORE}|mubench\.methods.*",
    "leaderboard": rf"{CORE}|mubench\.leaderboard.*",
    "mubench": CORE,
}
EXCEPTIONS = {
    "registry.py": r"mubench\.(tasks|methods)\.base",
    "api.py": r"mubench\.leaderboard\.\w+",
    "checks.py": r"mubench\.leaderboard(\.verify)?",
    "cli.py": r"mubench\.leaderboard(\.\w+)?",
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module if not node.level else "mubench"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[room] + ("|" + EXCEPTIONS[path.name] if room == "mubench" and path.name in EXCEPTIONS else "")
    for name in imports(path):
        assert not name.startswith("mubench") or re.fullmatch(allowed, name), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [p for p in FILES if p.relative_to(ROOT).parts[0] == "mubench"], ids=lambda p: p.name)
def test_the_core_branches_on_no_name_of_a_method_or_task(path):
    names = {*registry.methods.names(), *registry.tasks.names()} - {"original"}  # also what a student starts as
    tests = [
        node.test for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, (ast.If, ast.IfExp, ast.While))
    ]
    named = {c.value for test in tests for c in ast.walk(test) if isinstance(c, ast.Constant) and c.value in names}
    assert not named


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
