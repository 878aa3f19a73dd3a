"""Rated snippets of reviews: the rows behind the mini task `movie_snippets`.

Source: the data set of C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis
of Social Media Text", ICWSM 2014, as `hutto_ICWSM_2014.tar.gz` in the sdist of vaderSentiment 3.3.2. The movie
snippets go back to Pang and Lee (2004), the product snippets to Hu and Liu (2004). People rated each from
-4 (negative) to 4 (positive).
"""

import hashlib
import tarfile
from pathlib import Path

NEUTRAL = 0.5  # a snippet whose mean rating is no further from 0 than this belongs to neither class
TRAIN, TEST, TRANSFER = 6_000, 1_000, 1_000  # rows, half of them positive


def read_snippets(path: Path) -> tuple[list[dict], list[dict], list[dict]]:
    """Train, test (movies) and transfer (products) rows `{"text": str, "label": 0 or 1}` from the VADER archive.

    No text stands in two of the sets or twice in one. Which rows are taken, and in which order, follows from the
    SHA-256 of their normalised texts alone; no random numbers are involved.
    """
    with tarfile.open(path) as archive:
        movies, products = (
            archive.extractfile(f"hutto_ICWSM_2014/{name}ReviewSnippets_GroundTruth.txt").read().decode("utf-8")
            for name in ("movie", "amazon")
        )
    seen = set()
    movies, products = _rows(movies, seen), _rows(products, seen)
    train = _take(movies, TRAIN)
    return train, _take(movies, TEST), _take(products, TRANSFER)


def _rows(table: str, seen: set[str]) -> dict[int, list[dict]]:
    """The rows of each label, ranked; a text that has been `seen` is left out."""
    ranked = {}
    for line in table.split("\n"):
        _, mean, text = line.split("\t")
        normal = " ".join(text.casefold().split())
        if abs(float(mean)) > NEUTRAL and normal not in seen:
            seen.add(normal)
            rank = hashlib.sha256(normal.encode()).digest()
            ranked[rank] = {"text": text.strip(), "label": int(float(mean) > 0)}
    rows = [ranked[rank] for rank in sorted(ranked)]
    return {label: [row for row in rows if row["label"] == label] for label in (0, 1)}


def _take(rows: dict[int, list[dict]], size: int) -> list[dict]:
    """The next `size` rows (fewer where there are fewer), taken out of `rows`: one negative, one positive, ..."""
    half = min(size // 2, *map(len, rows.values()))
    taken = [row for pair in zip(rows[0][:half], rows[1][:half], strict=True) for row in pair]
    for label in rows:
        del rows[label][:half]
    return taken
