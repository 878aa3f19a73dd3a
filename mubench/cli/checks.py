"""What a value on the command line must be, checked before anything is loaded. A check takes the argument, as it is
typed or shown, and one value; it raises a sentence for what cannot be.
"""

import errno
import math
import os
import re
import sys
from pathlib import Path

from mubench.cache import writing
from mubench.errors import MubenchError

# -- numbers


def at_least(least, most=math.inf):
    """A check of numbers from ``least`` to ``most``, both included."""

    def check(argument, value):
        if not least <= value <= most or math.isinf(value):
            upwards = f" and at most {most:g}" if math.isfinite(most) else ""
            raise MubenchError(f"{argument} {value:g}: it must be at least {least:g}{upwards}")

    return check


def above(bound):
    """A check of numbers above ``bound``."""

    def check(argument, value):
        if not bound < value < math.inf:
            raise MubenchError(f"{argument} {value:g}: it must be above {bound:g}")

    return check


def of_field(model, name):
    """A check that a field of a pydantic ``model`` takes a value."""

    def check(argument, value):
        from pydantic import TypeAdapter, ValidationError

        try:
            TypeAdapter(model.model_fields[name].rebuild_annotation()).validate_python(value)
        except ValidationError as error:
            raise MubenchError(f"{name}={value!r}: {error.errors()[0]['msg']}") from None

    return check


# -- what must be there


def existing_folder(argument, value):
    if not Path(value).is_dir():
        raise MubenchError(f"{argument} {value!r}: there is no such folder")


def results(argument, value):
    if not os.path.lexists(value):
        raise MubenchError(
            f"no results below {value}: there is no such file or folder; `mubench run TASK METHOD --out {value}` makes"
            " some"
        )


def index_file(argument, value):
    if not Path(value).is_file():
        raise MubenchError(f"no index file {value!r}: give a file with one row index per line")


def checkpoint(argument, value):
    from mubench.models import networks

    networks.check_source(value)


# -- what is to be written


def out_folder(argument, value):
    """A folder that is there and can be written to, or that can be made."""
    with writing(value):
        here = Path(value).absolute()
        _check_folder(next(path for path in (here, *here.parents) if os.path.lexists(path)))


def out_file(argument, value):
    """A file in a folder that is as `out_folder` wants it."""
    with writing(value):
        if Path(value).is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
    out_folder(argument, Path(value).absolute().parent)


def file_beside(argument, value):
    """A file in a folder that is there."""
    with writing(value):
        if Path(value).is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
        _check_folder(Path(value).absolute().parent)


def out_folder_or_zip(argument, value):
    (out_file if str(value).endswith(".zip") else out_folder)(argument, value)


def out_below(argument, value):
    """A file or a folder in a folder that is as `out_folder` wants it."""
    out_folder(argument, Path(value).absolute().parent)


def _check_folder(path):
    """Raise what the operating system would, where a folder cannot be written to."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "")
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "")
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "")


# -- others


def ratio(argument, value):
    from mubench.splits import ratio_name

    ratio_name(value)


def cluster(argument, value):
    if value != "auto" and not re.fullmatch(r".+:\d{1,5}", value):
        raise MubenchError(f"{argument} {value!r}: give HOST:PORT as `ray start --head` shows it, or auto")


# -- all at once


def check(args):
    """Check that all parsed arguments are text, and those that have a check; of several values each."""
    for value in vars(args).values():
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and any("\ud800" <= letter <= "\udfff" for letter in word):
                raise MubenchError(
                    f"{word!r} has characters that are none in {sys.getfilesystemencoding()}, this terminal's encoding:"
                    " set PYTHONUTF8=1"
                )
    for name, (argument, check_value) in args.checks.items():
        given = getattr(args, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None:
                check_value(argument, value)
