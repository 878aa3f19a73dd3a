"""A sweep as a YAML file: the flags of `mubench run` by their long names, and ``task`` and ``method``.

What the command line says goes first.
"""

import contextlib
import io
from pathlib import Path

from mubench.errors import MubenchError, nearest

PLACES = ("task", "method")  # said without a flag on the command line
NOT_IN_FILES = ("debug", "from")


def read(path, parser, actions):
    """Argument name → value, as the command line would have it.

    path: the file.
    parser: of `mubench run`.
    actions: argument name → argparse's action, of that parser.

    Raises `MubenchError` for what the command line would not take.
    """
    lines = _lines(path)
    flags = {action.option_strings[-1][2:]: action for action in actions.values() if action.option_strings}
    keys = [*PLACES, *(name for name in flags if name not in NOT_IN_FILES)]
    words, names = [], []
    for key, value in lines.items():
        if key not in keys:
            raise nearest(f"key of {path}", key, keys, "`mubench run --help`")
        if value is None or value == [] or value == {} or value == "":
            raise MubenchError(
                f"{path}: {key} is empty, so there is nothing to run: give a value or leave the line out"
            )
        if key not in PLACES:
            words += _words(path, key, value, flags[key])
            names.append(flags[key].dest)
    places = {key: ",".join(_listed(lines[key])) for key in PLACES if key in lines}
    parsed = _parsed(path, parser, [*(places.get(key) or "-" for key in PLACES), *words])
    return {name: getattr(parsed, name) for name in names} | {key: place for key, place in places.items() if place}


def _lines(path):
    """What the file says, flag → value."""
    import yaml

    try:
        lines = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MubenchError(
            f"cannot read the sweep {str(path)!r}: {getattr(error, 'strerror', None) or error}"
        ) from None
    except yaml.YAMLError as error:
        raise MubenchError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(lines, dict) or not lines:
        raise MubenchError(
            f"{path} says nothing to run: write lines such as `task: fashion`, `method: [salun, scrub]`, `seed: [0, 1]`"
        )
    return {str(key).replace("_", "-"): value for key, value in lines.items()}


def _parsed(path, parser, words):
    """The words of a command line, parsed; what argparse complains about is a mistake in the file."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return parser.parse_args(words)
    except SystemExit:
        raise MubenchError(f"{path}: {complaint.getvalue().strip().rpartition('error: ')[2]}") from None


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
    """The words of a value; YAML reads `no` as false."""
    return ["no" if v is False else str(v) for v in (value if isinstance(value, list) else [value])]
