"""The most that is read of a stranger."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits on untrusted input, enforced before it is read.

    json: bytes of a JSON file.
    depth: levels of nested JSON.
    text: characters of a text in JSON.
    predictions: bytes of a file of predictions.
    rows: rows of predictions.
    values: numbers and texts in predictions.
    decoded: bytes of memory that decoding predictions may take.
    answer: characters of a predicted text.
    weights: bytes of a file of weights.
    files: files in a submission.
    total: bytes of a submission, unpacked.
    ratio: how many times larger an unpacked file may be than the packed one.
    """

    json: int = 2**20
    depth: int = 12
    text: int = 4_000
    predictions: int = 64 * 2**20
    rows: int = 1_000_000
    values: int = 200_000_000
    decoded: int = 4 * 2**30
    answer: int = 20_000
    weights: int = 16 * 2**30
    files: int = 20_000
    total: int = 64 * 2**30
    ratio: int = 100


LIMITS = Limits()
