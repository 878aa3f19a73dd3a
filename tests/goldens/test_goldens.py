"""What official codes gave on tiny problems, recomputed: every entry of every ``*.json`` here and in
``$MUBENCH_GOLDENS``.
"""

import functools
import importlib.util
import json
import math
import os
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FOLDERS = [HERE, *(Path(f) for f in [os.environ.get("MUBENCH_GOLDENS")] if f)]
FILES = {path: json.loads(path.read_text()) for folder in FOLDERS for path in sorted(folder.glob("*.json"))}
ENTRIES = {
    f"{path.parent.name}/{path.stem}/{e['id']}": (e, path) for path, file in FILES.items() for e in file["entries"]
}
OWN = [name for name, (_, path) in ENTRIES.items() if path.parent == HERE]


def families(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FAMILIES


FAMILIES = {pattern: replay for path in sorted(HERE.glob("replay_*.py")) for pattern, replay in families(path).items()}


def family(entry):
    return next((replay for pattern, replay in FAMILIES.items() if re.fullmatch(pattern, entry["id"])), None)


@functools.cache
def replayed(name):
    entry, path = ENTRIES[name]
    return family(entry)(entry, FILES[path])


def differences(got, expected, rtol, at="expected"):
    """Where ``got`` lacks or misses a figure of ``expected``, one line each; what it gives beyond them does not
    matter.
    """
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return [f"{at}: {got!r} is not {expected!r}"]
        return [
            line
            for key, value in expected.items()
            for line in (
                differences(got[key], value, rtol, f"{at}.{key}") if key in got else [f"{at}.{key}: not replayed"]
            )
        ]
    if isinstance(expected, list):
        got = list(got) if hasattr(got, "__iter__") and not isinstance(got, (str, dict)) else None
        if got is None or len(got) != len(expected):
            return [f"{at}: {got!r} is not {expected!r}"]
        return [line for i, value in enumerate(expected) for line in differences(got[i], value, rtol, f"{at}[{i}]")]
    a, b = number(got), number(expected)
    same = (
        got == expected
        if a is None or b is None
        else math.isclose(a, b, rel_tol=rtol, abs_tol=1e-15) or math.isnan(a) and math.isnan(b)
    )
    return [] if same else [f"{at}: {got!r} is not {expected!r}"]


def number(value):
    """``value`` as a float (the files hold NaN and infinities as text), None where it is none."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


@pytest.mark.parametrize("name", ENTRIES)
def test_golden(name):
    entry, _ = ENTRIES[name]
    if family(entry) is None:
        pytest.skip(f"nothing here replays {entry['id']}")
    wrong = differences(replayed(name), entry["expected"], entry["rtol"])
    assert not wrong, "\n".join(wrong)


def test_every_own_entry_has_a_family():
    assert OWN and all(family(ENTRIES[name][0]) for name in OWN)


# --- the harness can fail
# -----------------------------------------------------------------------------------------------


def altered(value, change):
    """Copies of a nested value, each with one figure changed."""
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            for copy in altered(part, change):
                yield (value | {key: copy}) if isinstance(value, dict) else [*value[:key], copy, *value[key + 1 :]]
    elif isinstance(value, float) and value:
        yield change(value)


@pytest.mark.parametrize("name", OWN)
def test_a_figure_altered_in_its_sixth_place_fails(name):
    entry, _ = ENTRIES[name]
    step = max(1e-6, 2 * entry["rtol"])
    for expected in altered(entry["expected"], lambda value: value * (1 + step)):
        assert len(differences(replayed(name), expected, entry["rtol"])) == 1


@pytest.mark.parametrize(
    "got, expected",
    [
        ({}, {"loss": 1.0}),
        ([1.0], {"loss": 1.0}),
        ({"loss": None}, {"loss": 1.0}),
        ({"loss": 1.0}, {"loss": None}),
        ({"loss": [1.0]}, {"loss": [1.0, 2.0]}),
        ({"loss": 1.0}, {"loss": [1.0]}),
        ({"loss": 1.0}, {"loss": {"a": 1.0}}),
        ({"loss": 1.0}, {"loss": "NaN"}),
        ({"loss": math.nan}, {"loss": 1.0}),
        ({"loss": math.inf}, {"loss": "-Infinity"}),
    ],
)
def test_what_is_missing_or_of_another_shape_differs(got, expected):
    assert differences(got, expected, 1e-9)


def test_figures_kept_as_text_are_figures():
    assert not differences({"a": math.nan, "b": [math.inf, "x"]}, {"a": "NaN", "b": ["Infinity", "x"]}, 1e-9)
