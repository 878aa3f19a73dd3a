"""Bytes, JSON and text of strangers, read with suspicion. Whatever is wrong becomes one `MubenchError`."""

import contextlib
import json
import os
import stat
import unicodedata

from pydantic import ValidationError

from mubench.errors import MubenchError
from mubench.leaderboard.trust.limits import LIMITS

LARGEST = 1e24  # of the numbers in JSON


def read_bytes(path, most):
    """The bytes of a regular file.

    path: of the file; a link is not followed.
    most: bytes the file may have.

    Raises `MubenchError` for anything else.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise MubenchError(
            f"{path} is no file that can be read ({getattr(error, 'strerror', error)}); links are not followed"
        ) from None
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise MubenchError(f"{path} is no regular file")
        if about.st_size > most:
            raise MubenchError(f"{path} has {about.st_size:,} bytes, at most {most:,} are read")
        with open(handle, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(handle)


def parse_json(data, path, limits=LIMITS):
    """JSON as Python values: no name twice, no NaN, no number beyond `LARGEST`, texts of printable characters.

    data: bytes.
    path: where they come from, for the error.

    Raises `MubenchError` for anything else.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        _inspect(value, limits, limits.depth)
    except (ValueError, RecursionError) as error:
        raise MubenchError(f"{path} is refused: {str(error)[:200]}") from None
    return value


def _unique(pairs):
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return dict(pairs)


def _refuse_constant(word):
    raise ValueError(f"{word} is no number")


def _inspect(value, limits, depth):
    """Raise `ValueError` for the first part of a JSON value that is too deep, too long, too large or not printable."""
    if isinstance(value, (dict, list)):
        if not depth:
            raise ValueError(f"nested more than {limits.depth} deep")
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _inspect(inner, limits, depth - 1)
    elif isinstance(value, str):
        _inspect_text(value, limits.text)
    elif isinstance(value, (int, float)) and not abs(value) <= LARGEST:
        raise ValueError("a number beyond 1e24")


def _inspect_text(text, most):
    if len(text) > most:
        raise ValueError(f"a text of {len(text):,} characters, at most {most:,} are read")
    if not text.isprintable():
        hidden = next(character for character in text if not character.isprintable())
        raise ValueError(f"a text with the character U+{ord(hidden):04X}, which is invisible, moves others or is none")
    if not text.isascii() and any(all(map(unicodedata.combining, text[i : i + 3])) for i in range(len(text) - 2)):
        raise ValueError("a text with accents piled upon each other")


@contextlib.contextmanager
def schema_errors(path):
    """The first thing that a schema has against the file at ``path`` becomes a `MubenchError`."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise MubenchError(": ".join(filter(None, [str(path), where, first["msg"]]))) from None


@contextlib.contextmanager
def library_errors(path):
    """Whatever a library raises over the stranger's file at ``path`` becomes a `MubenchError`."""
    try:
        yield
    except MubenchError:
        raise
    except Exception as error:
        raise MubenchError(
            f"{path} is no use ({type(error).__name__}: {printable(error)}): it is damaged, or made to be"
        ) from None


def printable(text):
    """The first 120 characters of a text, a space for each that cannot be printed."""
    return "".join(character if character.isprintable() else " " for character in str(text))[:120]
