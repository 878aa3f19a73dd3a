"""10,000 generated records → `mubench report --paper`, all tables and figures, in less than 60 s. `python
tests/benchmarks/paper_report.py [RECORDS]`
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from made_runs import everything
from mubench.cli import main
from mubench.leaderboard.studies.paper.published import TWINS

if __name__ == "__main__":
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seeds = range(1 + records // (149 * len(TWINS) * 2))  # 149 runs of a task and seed, on both tiers
    runs = everything(tasks=[name for pair in TWINS.items() for name in pair], seeds=seeds)[:records]
    with tempfile.TemporaryDirectory() as folder:
        runs.to_parquet(f"{folder}/runs.parquet")
        wall, cpu = time.perf_counter(), time.process_time()
        main(["report", "--paper", f"{folder}/runs.parquet", "--out", f"{folder}/paper"])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        files = len(list(Path(folder, "paper").iterdir()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{len(runs)} records → {files} files in {wall:.1f} s ({cpu:.1f} s of CPU), peak {peak:.2f} GB:"
        f" {'pass' if cpu < 60 else 'FAIL'} (≤ 60 s of CPU)"
    )
    sys.exit(not cpu < 60)
