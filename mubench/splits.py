"""Deletion splits: which training rows are to be forgotten. The same for ever and in any language.

Units (rows, or persons whose rows go together) are ranked by the hex digest of SHA-256(``"{task}/{unit}"``), compared
as text; the forget set D_f at r % is the first ``round(r/100·n)`` of the n units, halves rounded up. So sets are
nested: 1 % ⊂ 2 % ⊂ … ⊂ 50 %.
"""

import hashlib
import os
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path

from mubench.cache import writing
from mubench.errors import MubenchError


@dataclass(frozen=True)
class Split:
    """Which of a task's training rows are to be forgotten.

    task: the task's name
    name: the ratio in per cent as text (``"5"``), with the unit where it is not the task's default (``"5-edge"``), or
        ``file-`` and a hash for somebody's own index file
    n: how many training rows there are
    forget: the rows to be forgotten, ascending
    data: the checksum of the training rows the split was made for
    """

    task: str
    name: str
    n: int
    forget: tuple
    data: str

    @property
    def retain(self):
        """The other rows, ascending."""
        forget = set(self.forget)
        return tuple(row for row in range(self.n) if row not in forget)

    @property
    def checksum(self):
        """SHA-256 of the forget rows as written by `export`."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self):
        """One row index per line, ascending."""
        return "".join(f"{row}\n" for row in self.forget)

    def verify(self, data, n):
        """Refuse to run on rows other than those the split was made for.

        data: the checksum of the training rows at hand.
        n: how many they are.
        """
        if (data, n) != (self.data, self.n):
            raise MubenchError(
                f"split {self.name} of {self.task} was made for {self.n} rows with checksum {self.data[:12]}…, the data"
                f" has {n} rows with checksum {data[:12]}…: fetch the data set again or make the split anew"
            )

    def export(self, path):
        """Write the forget rows as an index file."""
        with writing(path):
            Path(path).write_text(self.text(), encoding="utf-8")

    def compare(self, path):
        """Raise `MubenchError` unless an index file has the same forget rows."""
        other = read_indices(path, self.n)
        if other != self.forget:
            ratio, unit = split_parts(self.name)
            asked = f"--ratio {ratio}" + (f" --unit {unit}" if unit else "")
            missing, extra = set(self.forget) - set(other), set(other) - set(self.forget)
            raise MubenchError(
                f"{path} is not the {described(self.name)} split of {self.task}: {len(missing)} rows missing, "
                f"{len(extra)} rows too many; `mubench split {self.task} {asked} --export FILE` "
                "writes the right one"
            )


def parse_ratio(ratio):
    """A ratio in per cent as an exact number in (0, 50]."""
    try:
        value = Decimal(str(ratio))
    except InvalidOperation:
        value = None
    if value is None or not value.is_finite() or not 0 < value <= 50:
        raise MubenchError(f"ratio {ratio!r}: it must be a number of per cent above 0 and at most 50, such as 5")
    return value


def ratio_name(ratio):
    """``5``, ``5.0`` and ``"5"`` → ``"5"``; ``0.5`` → ``"0.5"``."""
    value = parse_ratio(ratio).normalize()
    return f"{value:f}"


def rank(keys):
    """Positions of the ``keys`` in the order of their SHA-256 hex digests."""
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    return sorted(range(len(digests)), key=lambda i: (digests[i], i))


def forgotten(ratio, n):
    """How many of n units are forgotten at ``ratio`` per cent."""
    return int((parse_ratio(ratio) / 100 * n).to_integral_value(ROUND_HALF_UP))


def split_name(ratio, unit=None):
    """What a standard split is called: ``5``, or ``5-edge`` where the unit is not the default (None)."""
    return f"{ratio}-{unit}" if unit else str(ratio)


def split_parts(name):
    """(ratio, unit) of a standard split's name; the unit is None where it is the default."""
    ratio, _, unit = name.partition("-")
    return ratio, unit or None


def described(name):
    """The name of a standard split in words: ``5 %``, or ``5 % by edge``."""
    ratio, unit = split_parts(name)
    return f"{ratio} %" + (f" by {unit}" if unit else "")


def make_split(task, ratio, units, data, unit=None):
    """The standard split of a task.

    task: its name.
    ratio: in per cent.
    units: the unit of each training row.
    data: the checksum of the training rows.
    unit: the kind of the units, where it is not the task's default.
    """
    distinct = list(dict.fromkeys(units))
    chosen = {distinct[i] for i in rank([f"{task}/{unit}" for unit in distinct])[: forgotten(ratio, len(distinct))]}
    forget = tuple(row for row, unit in enumerate(units) if unit in chosen)
    if not forget:
        raise MubenchError(
            f"ratio {ratio} % of {len(distinct)} units of {task} is no unit at all: ask for a larger ratio"
        )
    return Split(task, split_name(ratio_name(ratio), unit), len(units), forget, data)


def file_split(task, path, n, data):
    """A user's own index file as a split of a task.

    task: its name.
    path: of the index file.
    n: how many training rows there are.
    data: their checksum.
    """
    forget = read_indices(path, n)
    text = "".join(f"{row}\n" for row in forget)
    return Split(task, f"file-{hashlib.sha256(text.encode()).hexdigest()[:8]}", n, forget, data)


def read_indices(path, n):
    """Row indices, ascending, from a file with one integer per line.

    path: of the file.
    n: how many training rows there are.

    Raises `MubenchError` with the number of the line that is wrong.
    """
    if not os.path.isfile(path):
        raise MubenchError(f"no index file {str(path)!r}: give a file with one row index per line")
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise MubenchError(f"{path} is no text file: it must hold one row index per line") from None
    seen = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not (text.isascii() and text.isdecimal()):
            raise MubenchError(
                f"{path}, line {number}: {line.strip()[:40]!r} is not a row index (a whole number from 0)"
            )
        row = int(text)
        if row >= n:
            raise MubenchError(
                f"{path}, line {number}: row {row} is out of range, the training set has rows 0 to {n - 1}: "
                "is this file for other data?"
            )
        if row in seen:
            raise MubenchError(f"{path}, line {number}: row {row} is already on line {seen[row]}")
        seen[row] = number
    if not seen:
        raise MubenchError(f"{path} is empty: the forget set must hold at least one row")
    if len(seen) == n:
        raise MubenchError(f"{path} lists every row: nothing would be left to retain")
    return tuple(sorted(seen))
