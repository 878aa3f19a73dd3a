"""Files of published data: read whole, and refused by name where they are missing or damaged."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mubench.errors import MubenchError


def side_by_side(function, items, threads=None):
    """A list of what ``function`` gives of each item, in ``threads`` threads (None: as many as there are cores).

    In a worker process of a data loader one after the other: its siblings use the other cores.
    """
    from torch.utils.data import get_worker_info

    if get_worker_info():
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def existing(path):
    """The path, which must exist: what is half unpacked is named."""
    if not path.exists():
        raise MubenchError(f"{path} is missing: unpack the whole archive again")
    return path


def text(path, encoding="utf-8"):
    """A file's text, its line ends as they are; raises `MubenchError` for a missing, empty or undecodable one."""
    try:
        content = existing(path).read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise MubenchError(
            f"{path} is no {encoding} text (byte {error.start}): it is damaged, unpack the archive again"
        ) from None
    if not content.strip():
        raise MubenchError(f"{path} is empty: it is damaged, unpack the archive again")
    return content


def texts(paths):
    """The texts of many small files."""
    return side_by_side(text, paths, threads=16)


def whole_riff(path):
    """Raises `MubenchError` where a RIFF file (WAV, AVI) is shorter than it says itself: decoders do not mind."""
    with existing(Path(path)).open("rb") as file:
        head = file.read(8)
    if head[:4] == b"RIFF" and (missing := int.from_bytes(head[4:], "little") + 8 - Path(path).stat().st_size) > 0:
        raise MubenchError(f"{path} is cut short, {missing} bytes are missing: unpack the archive again")


def picture(path):
    """A file's picture as RGB; raises `MubenchError` naming a missing, truncated or undecodable file."""
    from PIL import Image

    try:
        with Image.open(existing(path)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise MubenchError(
            f"{path} is no picture that can be read ({error}): it is damaged, unpack the archive again"
        ) from error


def pictures(paths):
    """The pictures of many files."""
    return side_by_side(picture, paths, threads=16)


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, containers and arrays of numbers; whatever else a pickle asks for is refused unread."""

    def find_class(self, module, name):
        import codecs

        import numpy

        array = numpy.ndarray(0).__reduce__()[0]  # numpy has moved this function
        plain = {
            ("numpy.core.multiarray", "_reconstruct"): array,
            ("numpy._core.multiarray", "_reconstruct"): array,
            ("numpy", "ndarray"): numpy.ndarray,
            ("numpy", "dtype"): numpy.dtype,
            ("_codecs", "encode"): codecs.encode,
        }
        if (module, name) not in plain:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data file needs")
        return plain[module, name]


def plain_pickle(path):
    """What a pickle of plain data holds, its Python 2 strings as bytes; raises `MubenchError` for anything else or a
    damaged file.
    """
    try:
        with existing(Path(path)).open("rb") as file:
            return _Plain(file, encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        MemoryError,
    ) as error:
        raise MubenchError(
            f"{path} cannot be read ({error or 'it ends too early'}): it is damaged or not the original file, unpack "
            "the archive again"
        ) from error
