"""Where what was fetched, prepared and downloaded is kept, and how files are written whole or not at all."""

import contextlib
import errno
import hashlib
import os
import re
import tempfile
from pathlib import Path

from mubench.errors import MubenchError


def cache_dir():
    """``$MUBENCH_CACHE``, or ``mubench`` in the user's cache folder."""
    root = os.environ.get("MUBENCH_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mubench"


def file_hash(path):
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        if hasattr(hashlib, "file_digest"):  # from Python 3.11
            return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(file.read()).hexdigest()


def fsync(path):
    """Make a file or folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole(path):
    """A temporary path next to ``path``: it becomes ``path`` when the block ends well, else it vanishes."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            yield Path(name)
            os.chmod(name, 0o644)
            fsync(name)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


WRONG = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EACCES: "permission denied: choose another folder with --out",
    errno.ENOTDIR: "a file is in the way of the folder",
    errno.EEXIST: "a file is in the way of the folder",
    errno.ENOENT: "there is no such folder",
    errno.EISDIR: "that is a folder",
    errno.EROFS: "the file system is read-only: choose another folder with --out",
}


@contextlib.contextmanager
def writing(path):
    """Turns what the operating system says about a failed write below ``path`` into one sentence."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if not number and (in_rust := re.search(r"\(os error (\d+)\)$", str(error))):  # as its libraries write it
            number = int(in_rust[1])
        if number not in WRONG:
            raise
        raise MubenchError(f"cannot write {path}: {WRONG[number]} (nothing finished was lost)") from error
