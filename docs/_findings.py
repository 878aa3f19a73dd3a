"""The tables of findings.md, from the published runs: `leaderboard/runs.parquet` and, of ablations, `leaderboard/studies/`.

`python docs/_findings.py` (part of `make leaderboard`) reads the studies anew and renews the page.
"""
import re
from pathlib import Path

import pandas as pd

from mubench.leaderboard import claims
from mubench.leaderboard.records import read_runs

ROOT = Path(__file__).parent.parent
PAGE, RUNS, STUDIES = ROOT / "docs/findings.md", ROOT / "leaderboard/runs.parquet", ROOT / "leaderboard/studies"
MARKED = re.compile(r"(?<=<!-- claims -->\n).*(?=<!-- /claims -->)", re.S)


def published():
    """The frame of all published runs, each once."""
    frames = [pd.read_parquet(path) for path in (RUNS, STUDIES / "runs.parquet") if path.is_file()]
    return pd.concat(frames, ignore_index=True).drop_duplicates("id")


def tables(runs):
    """What stands between the markers."""
    def table(exhibit):
        cells = exhibit.cells.map(lambda text: text.replace("|", r"\|"))
        return cells.to_markdown(index=False, disable_numparse=True)
    verdicts, numbers = claims.exhibits(runs)
    missing = "\n".join(f"- Not enough data: {sentence}." for sentence in verdicts.missing)
    return "\n" + "\n\n".join(filter(None, [table(verdicts), missing, table(numbers)])) + "\n\n"


def page(text, runs):
    """The page with its tables made of these runs."""
    return MARKED.sub(lambda _: tables(runs), text)


if __name__ == "__main__":
    if any(STUDIES.rglob("result.json")):
        read_runs(STUDIES)[0].to_parquet(STUDIES / "runs.parquet", index=False)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), published()), encoding="utf-8")
