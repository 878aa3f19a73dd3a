"""Where what was fetched, prepared and downloaded is kept, and how files are written whole or not at all."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import tempfile
import time
from pathlib import Path

from mubench.errors import MubenchError


def cache_dir():
    """``$MUBENCH_CACHE``, or ``mubench`` in the user's cache folder."""
    root = os.environ.get("MUBENCH_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mubench"


SETTLED = 2  # seconds: a file that changed later than that ago may change again within one tick of its clock


def file_hash(path):
    """SHA-256 of a file's bytes; a file that stays as it is is read once a process."""
    state = os.stat(path)
    find = _hash if time.time() - state.st_ctime > SETTLED else _hash.__wrapped__
    return find(path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@functools.lru_cache(maxsize=4096)
def _hash(path, *state):
    with open(path, "rb") as file:
        if hasattr(hashlib, "file_digest"):  # from Python 3.11
            return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(file.read()).hexdigest()


def content_key(*parts):
    """A name for what follows from ``parts`` (JSON values) and nothing else: 32 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


LARGE = 2**26  # bytes


def cached_tensors(path, make):
    """Tensors, name → tensor, made once by ``make()`` and then read from a file, which is mapped where it is `LARGE`.

    path: of the file; its name says all that the tensors follow from (`content_key`).

    The file holds a hash of the tensors, which every process finds again: one that is damaged is made anew. What is
    mapped is the process's own to change. It stays whole as long as a file is only replaced by another (`whole`): one
    cut short in its place would take the process with it, so what is small is copied.
    """
    tensors = _mapped(path)
    if tensors is None:
        from safetensors.torch import save_file

        made = {name: tensor.contiguous() for name, tensor in make().items()}
        with whole(path) as temporary:
            save_file(made, temporary, metadata={"sha256": tensors_hash(made)})
        tensors = _mapped(path)  # even now: other strides would mean other kernels, and other last bits
    if tensors is None:
        raise MubenchError(f"{path} cannot be read again: is the disk damaged?")
    return tensors


def _mapped(path):
    """The tensors of a file that are those it was written with, else None."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in [*file.keys()]}
            if os.path.getsize(path) < LARGE:
                tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            return tensors if file.metadata()["sha256"] == tensors_hash(tensors) else None
    except Exception:  # absent, or cut off by a power failure
        return None


def tensors_hash(tensors):
    """SHA-256 over names, shapes, types and bytes of tensors, in alphabetical order."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def cached_json(path, make):
    """As `cached_tensors`, for what ``make()`` gives as JSON."""
    with contextlib.suppress(OSError, ValueError):
        digest, _, text = Path(path).read_text(encoding="utf-8").partition("\n")
        if digest == hashlib.sha256(text.encode()).hexdigest():
            return json.loads(text)
    text = json.dumps(make())
    with whole(path) as temporary:
        temporary.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}", encoding="utf-8")
    return json.loads(text)


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
