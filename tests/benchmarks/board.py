"""The board from disk: a new record, a cached one, many indexed ones, and the published leaderboard from nothing.

    python tests/benchmarks/board.py [--records N]

The store of N records (default 100,000) is made of clones of one of fashion's, in their own folders, with an index as
`mubench board` writes it; it takes a minute and 8 KB each in a temporary folder. CPU seconds of this process.
Limits: a new record 0.1 s, tables of 100,000 indexed records 10 s, the published leaderboard with its site 60 s.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mubench.leaderboard import site
from mubench.leaderboard.board import board
from mubench.leaderboard.columns import RATES
from mubench.leaderboard.frame import read_runs
from mubench.leaderboard.index import INDEX, Index, stamp
from mubench.leaderboard.stored import StoredRun
from mubench.records.predictions import PREDICTIONS
from mubench.records.result import RESULT

PUBLISHED = Path(__file__).parents[2] / "leaderboard" / "results"
METHODS, SEEDS, RATIOS = ("original", "retrain", *(f"method_{i:02d}" for i in range(35))), 5, 20


def measured(name, limit, what, of=1):
    """Do something, say what it takes in CPU seconds, by record where it is ``of`` several, and whether that is little
    enough.
    """
    start = time.process_time()
    what()
    taken = (time.process_time() - start) / of
    print(f"{name}: {taken:.3g} CPU s: {'pass' if taken <= limit else 'FAIL'} (≤ {limit:g} s)", flush=True)
    return taken <= limit


def clone(folder, root, records):
    """A store of so many copies of a record, with other methods, seeds, ratios and models, and values near its own."""
    found, index, random = StoredRun.read(folder), Index(root), np.random.default_rng(0)
    text, values = (folder / RESULT).read_bytes(), {"gap_to_retrain": 0.03, **found.result.metrics}
    roc = np.linspace(0, 1, len(RATES)).tolist()
    for i in range(records):
        group, method, seed = i // (len(METHODS) * SEEDS), METHODS[i // SEEDS % len(METHODS)], i % SEEDS
        where = {
            "model": f"model_{group // RATIOS}",
            "ratio": str(1 + group % RATIOS),
            "ratio_order": 1.0 + group % RATIOS,
        }
        what = {"method": method, "seed": seed, "original": f"{seed:064x}", "id": f"{i:012x}", "weights": f"{i:064x}"}
        role = {"role": method if method in METHODS[:2] else None, "anchor": method == "retrain"}
        facts = found.facts | where | what | role | {"result_sha256": f"{i:064x}"}
        there = root / "fashion" / where["model"] / method / where["ratio"] / facts["id"]
        there.mkdir(parents=True)
        (there / RESULT).write_bytes(text)
        (there / PREDICTIONS).touch()
        noise = random.normal(0, 0.01, len(values)) - 0.02 * (method == "retrain")
        shown = dict(zip(values, [*values.values()] + noise, strict=True))
        run = StoredRun(there.as_posix(), "", facts, shown, roc, index, stamp(there))
        run.result = found.result
        retrain = group * len(METHODS) * SEEDS + SEEDS + seed
        index.keep(run, json.dumps({"retrain": [f"{retrain:064x}"] if retrain < records else []}).encode())
    index.save()


def many(records, limit=10):
    """Tables of many indexed records."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        root.mkdir()
        clone(next((PUBLISHED / "fashion/resnet/neggrad").glob("*/*")), root, records)
        size, made = (root / INDEX).stat().st_size / 1e6, []
        ask = lambda: made.append(board(root, Path(folder) / "tables"))
        good = measured(f"tables of {records:,} indexed records from disk (index of {size:.0f} MB)", limit, ask)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"  {len(made[0].runs):,} runs in {len(made[0].rows):,} rows, peak {peak:.2f} GB")
    return good and len(made[0].runs) == records


def new_and_cached(limit=0.1):
    """A record of fashion that the index does not know, beside its retrained model that it knows; and one it knows."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        shutil.copytree(PUBLISHED / "fashion", root / "fashion", ignore=shutil.ignore_patterns("vit"))
        methods = sorted((root / "fashion/resnet").iterdir())
        late = [path for path in methods if path.name not in ("original", "retrain")][:6]
        for path in late:
            path.rename(root / f".{path.name}")  # a hidden folder is not looked into
        read_runs(root)
        for path in late:
            (root / f".{path.name}").rename(path)
        new = sum(len([*path.glob("*/*")]) for path in late)
        good = measured(f"a new record, of {new}", limit, lambda: read_runs(root), new)
        return good & measured("a cached record", limit / 10, lambda: read_runs(root), len([*root.glob("*/*/*/*/*")]))


def published(limit=60):
    """The published leaderboard, tables and site, as of a fresh clone."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        shutil.copytree(PUBLISHED, root, ignore=shutil.ignore_patterns(INDEX))
        ask = lambda: site.write_site(board(root, Path(folder) / "tables"), Path(folder) / "site")
        return measured("the published leaderboard from nothing, with its site", limit, ask)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="indexed ones")
    asked = parser.parse_args()
    good = [new_and_cached(), published(), many(asked.records)]
    sys.exit(not all(good))
