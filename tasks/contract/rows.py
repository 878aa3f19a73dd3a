"""Rows as they are stored: read from the package, checksummed, shown to people."""

import hashlib
import io
from pathlib import Path

from mubench.errors import MubenchError


def stored(card, name):
    """The data that ship beside a data card.

    card: the card's file (``__file__``).
    name: of the data, in ``data/{name}-{split}.parquet`` beside it.

    Returns a ``DatasetDict``, read into memory.
    """
    import datasets
    import pyarrow.parquet

    files = {path.stem.rsplit("-", 1)[1]: path for path in (Path(card).parent / "data").glob(f"{name}-*.parquet")}
    if not {"train", "test"} <= set(files):
        raise MubenchError(f"the data of {name} is missing next to {card}: reinstall the package")
    return datasets.DatasetDict(
        {
            split: datasets.Dataset(datasets.table.InMemoryTable(pyarrow.parquet.read_table(path)))
            for split, path in sorted(files.items())
        }
    )


def rows_checksum(dataset, columns=()):
    """SHA-256 over the rows of a ``datasets.Dataset``, as stored.

    columns: those that count, all by default. They are taken in alphabetical order, one after the other.

    A value is the encoded bytes of a picture or a sound, the UTF-8 of a text or the decimal digits of a number,
    preceded by its length.
    """
    digest = hashlib.sha256()
    for name in sorted(columns or dataset.column_names):
        digest.update(f"{name}:".encode())
        for batch in dataset.select_columns([name]).with_format("arrow").iter(1000):
            for value in batch[name].to_pylist():
                value = value["bytes"] if isinstance(value, dict) and "bytes" in value else value
                value = value if isinstance(value, bytes) else str(value).encode()
                digest.update(f"{len(value)}:".encode())
                digest.update(value)
    return digest.hexdigest()


def shown(rows, position):
    """One of the rows for people: column → ``("image", PNG bytes)``, ``("audio", encoded bytes)`` or ``("text", str)``.

    What a column holds follows from its type; a column of another type is left out.
    """
    import datasets

    (row,) = rows.with_format("arrow")[position : position + 1].to_pylist()
    shown = {}
    for name, feature in rows.features.items():
        value = row[name]
        data = _bytes(value) if isinstance(value, dict) else None
        if isinstance(feature, datasets.Image) and data:
            shown[name] = "image", _png(data)
        elif isinstance(feature, datasets.Audio) and data:
            shown[name] = "audio", data
        elif isinstance(value, str):
            shown[name] = "text", value
    return shown


def _bytes(value):
    """The bytes of a stored picture or sound, from its file where they are not stored with it."""
    return value.get("bytes") or (value.get("path") and Path(value["path"]).read_bytes())


def _png(data):
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(file, "PNG")
    return file.getvalue()
