"""How a submission is opened: a folder as it is, a .zip unpacked after all that its directory says was in order."""

import contextlib
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

from mubench.errors import MubenchError
from mubench.leaderboard.trust.layout import FILES, FOLDER, inspect_folder, largest
from mubench.leaderboard.trust.limits import LIMITS

DAMAGED = (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, struct.error)


@contextlib.contextmanager
def opened(path, limits=LIMITS):
    """The folder of a submission, of a .zip a temporary one.

    path: a folder or .zip.
    limits: on its files.

    Raises `MubenchError` where a file of it is not expected there: it is refused as a whole.
    """
    path = Path(path)
    if path.is_dir():
        inspect_folder(path, limits)
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield unpack(path, folder, limits)


def unpack(path, folder, limits=LIMITS):
    """Extract a .zip into a folder. Returns the submission's folder in it."""
    path = Path(path)
    try:
        _inspect_end(path, limits)
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _inspect_entry(path, entry, limits)
            entries = [entry for entry in archive.infolist() if not _is_folder(entry)]
            root = Path(folder) / _common_folder(path, entries, limits)
            for entry in entries:
                target = Path(folder) / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(target, "xb") as file:
                    shutil.copyfileobj(source, file, 2**20)  # at most file_size bytes, their checksum verified
    except DAMAGED as error:
        raise MubenchError(
            f"{path} cannot be unpacked ({type(error).__name__}): give a submission's folder or a .zip of it"
        ) from None
    except zlib.error:
        raise MubenchError(f"{path} cannot be unpacked: its compressed data are damaged") from None
    inspect_folder(root, limits)
    return root


def _inspect_end(path, limits):
    """Raise where a .zip is no plain one or its directory is long, before that is read: its entries become objects."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 22 - 20))
        tail = file.read()
    *_, entries, length, _, comment = struct.unpack("<4s4H2LH", tail[-22:])
    if tail[-22:-18] != b"PK\5\6" or comment or tail[:4] == b"PK\6\7" or size > limits.total:
        raise MubenchError(f"{path} is no plain .zip: no comment, no zip64, at most {limits.total:,} bytes")
    if entries > 2 * limits.files or length > 512 * limits.files:
        raise MubenchError(f"{path} announces {entries:,} entries, at most {limits.files:,} files are read")


def _inspect_entry(path, entry, limits):
    """Raise where an entry is packed in an unusual way, no file or folder of a submission, or too large unpacked."""
    kind, inner = stat.S_IFMT(entry.external_attr >> 16), entry.filename.partition("/")[2]
    if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MubenchError(f"{path}: {inner[:80]!r} is encrypted, or compressed in an unusual way")
    if kind not in (0, stat.S_IFDIR if _is_folder(entry) else stat.S_IFREG):
        raise MubenchError(f"{path}: {inner[:80]!r} is a link or device")
    if not _is_folder(entry) and not FILES.fullmatch(inner) or entry.orig_filename != entry.filename:
        raise MubenchError(f"{path}: {entry.orig_filename[:120]!r} is no file of a submission")
    if entry.file_size > min(max(limits.ratio * entry.compress_size, 2**12), largest(inner, limits)):
        raise MubenchError(f"{path}: {inner[:80]!r} would unpack {entry.compress_size:,} to {entry.file_size:,} bytes")


def _is_folder(entry):
    return entry.filename.endswith("/")


def _common_folder(path, entries, limits):
    """The name of the one folder that all entries lie in; raises where there are others, or too many bytes."""
    names = [entry.filename for entry in entries]
    roots = {name.partition("/")[0] for name in names}
    if len({name.casefold() for name in names}) < len(names) or len(roots) != 1:
        raise MubenchError(f"{path} holds a file twice, or more than the one folder of a submission")
    [name] = roots
    if not re.fullmatch(FOLDER, name):
        raise MubenchError(f"{path}: {name[:80]!r} cannot be a submission's folder")
    if sum(entry.file_size for entry in entries) > limits.total:
        raise MubenchError(f"{path} would unpack to more than {limits.total:,} bytes")
    return name
