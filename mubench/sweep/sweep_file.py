"""A sweep as a YAML file: the flags of `mubench run` by their long names, and ``task`` and ``method``; what the command
line says goes first.
"""

import contextlib
import io
from pathlib import Path

from mubench.errors import MubenchError, nearest

PLACES = ("task", "method")  # said without a flag on the command line


def read(path, parser):
    """Argument name → value, as ``parser`` (of `mubench run`) would have it from the command line. Raises
    `MubenchError` for what it would not.
    """
    import yaml

    try:
        said = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise MubenchError(
            f"cannot read the sweep {str(path)!r}: {getattr(error, 'strerror', None) or error}"
        ) from None
    except yaml.YAMLError as error:
        raise MubenchError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict) or not said:
        raise MubenchError(
            f"{path} says nothing to run: write lines such as `task: fashion`, `method: [salun, scrub]`, `seed: [0, 1]`"
        )
    flags = {action.option_strings[-1][2:]: action for action in parser._actions if action.option_strings}
    known = [*PLACES, *(name for name in flags if name not in ("help", "debug", "from"))]
    said, words, names = {str(key).replace("_", "-"): value for key, value in said.items()}, [], []
    for key, value in said.items():
        if key not in known:
            raise nearest(f"key of {path}", key, known, "`mubench run --help`")
        if value is None or value == [] or value == {} or value == "":
            raise MubenchError(
                f"{path}: {key} is empty, so there is nothing to run: give a value or leave the line out"
            )
        if key not in PLACES:
            words += _words(path, key, value, flags[key])
            names.append(flags[key].dest)
    places = [",".join(_listed(said[key])) if key in said else "" for key in PLACES]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = parser.parse_args([*(place or "-" for place in places), *words])
    except SystemExit:
        raise MubenchError(f"{path}: {complaint.getvalue().strip().rpartition('error: ')[2]}") from None
    return {name: getattr(parsed, name) for name in names} | {key: place for key, place in zip(PLACES, places) if place}


def _words(path, key, value, action):
    """What one line of the file is on a command line."""
    if isinstance(value, dict):
        value = [f"{name}={'true' if v is True else 'false' if v is False else v}" for name, v in value.items()]
    if action.nargs == 0 or action.nargs == "?" and isinstance(value, bool):  # a switch
        if not isinstance(value, bool):
            raise MubenchError(f"{path}: {key} is {value!r}, it must be true or false")
        return [f"--{key}"] * value
    if isinstance(value, list) and action.nargs != "+":
        raise MubenchError(f"{path}: {key} takes one value, not the list {value}")
    return [f"--{key}", *_listed(value)] if action.nargs == "+" else [f"--{key}={_listed(value)[0]}"]


def _listed(value):
    return [
        "no" if v is False else str(v) for v in (value if isinstance(value, list) else [value])
    ]  # YAML reads `no` as false
