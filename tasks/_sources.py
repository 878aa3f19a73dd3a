"""Published data, read for a data card: from the user's folder in the layout of the original archive, else from the
Hub.
"""

import concurrent.futures
import logging
import pickle
from pathlib import Path

from mubench.errors import MubenchError


class NotAtHand(MubenchError):
    """The data are neither in the user's folder nor to be had from the Hub; what is there but damaged raises
    `MubenchError`.
    """


class Published:
    """A task of the paper tier: a data set that others publish.

    archive: what lies in the user's folder (``--data-dir``, ``$MUBENCH_DATA``) where the original archive was unpacked
    there;
    remedy: which archive that is, where it is, what to accept. A card has `from_archive`, `from_hub` (where a copy is
    on the Hub in a format that `datasets` reads) and `write_sample`. Rows are in the same order with the same values
    wherever they come from, so that a row's number, and with it a deletion set, means the same row to everybody.
    """

    tier = "paper"
    archive = ""
    remedy = ""

    def read(self):
        return self.found(self.archive, self.remedy, self.from_archive, self.from_hub)

    def found(self, archive, remedy, from_archive, from_hub=None):
        """``from_archive(folder)`` where the user's folder has ``archive``, else ``from_hub()``, else a sentence on
        what to do.
        """
        folder = self.data_dir
        if folder and (folder / archive).exists():
            return from_archive(folder)
        tried = f"no {archive} in {folder}" if folder else "no --data-dir"
        try:
            if from_hub:
                return from_hub()
        except NotAtHand as error:
            tried += f"; {error}"
        raise NotAtHand(f"{archive} of {self.name} is not at hand ({tried}): {remedy}, and give --data-dir FOLDER")

    def from_archive(self, folder):
        """The ``DatasetDict`` out of the unpacked original archive; raises `MubenchError` naming the file that is
        missing or wrong.
        """
        raise NotImplementedError

    from_hub = None  # a method that gives the same out of a copy on the Hub, where there is one; raises `NotAtHand`

    def write_sample(self, folder):
        """Write a tiny, learnable data set, the same every time, in the layout of the original archive: what `mubench
        check` runs on.
        """
        raise NotImplementedError


def hub(repo, revision, columns, config=None, files=None):
    """A data set of the Hub at a commit: split → rows with ``columns`` (theirs → ours) and no others; ``files``: split
    → the only file wanted.

    Mirrors (``HF_ENDPOINT``), the cache and ``HF_HUB_OFFLINE`` are the library's. Raises `NotAtHand`.
    """
    import datasets

    try:
        data = datasets.load_dataset(repo, config, revision=revision, data_files=files)
    except Exception as error:
        why = str(error).strip().splitlines() or ["no reason given"]
        raise NotAtHand(
            f"{repo} not to be had from the Hugging Face Hub or its cache: {type(error).__name__}: {why[0][:160]}"
        ) from error
    for split, rows in data.items():
        if missing := set(columns) - set(rows.column_names):
            raise MubenchError(
                f"{repo}@{revision[:7]}, {split}: no column {min(missing)!r}, only {', '.join(rows.column_names)}: is"
                " it another data set under that name?"
            )
    return {
        split: rows.select_columns(list(columns)).rename_columns({k: v for k, v in columns.items() if k != v})
        for split, rows in data.items()
    }


def optional(task, function):
    """What ``function`` gives, or None and one line on stderr where that is not at hand: a task runs without its
    transfer set.
    """
    try:
        return function()
    except NotAtHand as error:
        logging.getLogger("mubench").warning("%s runs without its transfer set: %s", task.name, error)
        return None


def dataset(columns, labels, **types):
    """A ``datasets.Dataset`` of columns, ``label`` among them as names or numbers of the classes; other columns are
    strings unless ``types`` says otherwise."""
    import datasets

    features = {name: datasets.Value(types.get(name, "string")) for name in columns} | {
        "label": datasets.ClassLabel(names=list(labels))
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def there(path):
    """The path, which must exist: what is half unpacked is named."""
    if not path.exists():
        raise MubenchError(f"{path} is missing: unpack the whole archive again")
    return path


def text(path, encoding="utf-8"):
    """A file's text, its line ends as they are; raises `MubenchError` for a missing, empty or undecodable one."""
    try:
        content = there(path).read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise MubenchError(
            f"{path} is no {encoding} text (byte {error.start}): it is damaged, unpack the archive again"
        ) from None
    if not content.strip():
        raise MubenchError(f"{path} is empty: it is damaged, unpack the archive again")
    return content


def texts(paths):
    """The texts of many small files, read side by side."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(text, paths))


def whole_riff(path):
    """Raises `MubenchError` where a RIFF file (WAV, AVI) is shorter than it says itself: decoders do not mind."""
    with there(Path(path)).open("rb") as file:
        head = file.read(8)
    if head[:4] == b"RIFF" and (missing := int.from_bytes(head[4:], "little") + 8 - Path(path).stat().st_size) > 0:
        raise MubenchError(f"{path} is cut short, {missing} bytes are missing: unpack the archive again")


def picture(path):
    """A file's picture as RGB; raises `MubenchError` naming a missing, truncated or undecodable file."""
    from PIL import Image

    try:
        with Image.open(there(path)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise MubenchError(
            f"{path} is no picture that can be read ({error}): it is damaged, unpack the archive again"
        ) from error


def pictures(paths):
    """The pictures of many files, decoded side by side."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(picture, paths))


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, containers and arrays of numbers; whatever else a pickle asks for is refused unread."""

    def find_class(self, module, name):
        import _codecs

        import numpy

        array = numpy.ndarray(0).__reduce__()[0]  # numpy has moved this function
        plain = {
            ("numpy.core.multiarray", "_reconstruct"): array,
            ("numpy._core.multiarray", "_reconstruct"): array,
            ("numpy", "ndarray"): numpy.ndarray,
            ("numpy", "dtype"): numpy.dtype,
            ("_codecs", "encode"): _codecs.encode,
        }
        if (module, name) not in plain:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data file needs")
        return plain[module, name]


def plain_pickle(path):
    """What a pickle of plain data holds, its Python 2 strings as bytes; raises `MubenchError` for anything else or a
    damaged file.
    """
    try:
        with there(Path(path)).open("rb") as file:
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
