"""Jinja2 as all pages use it, and how values look in them."""

import math
import re
from pathlib import Path

import jinja2
import pandas as pd

from mubench.leaderboard.columns import SCALES
from mubench.leaderboard.rows import REFERENCES

HERE = Path(__file__).parent.parent  # where templates/ and static/ lie


def templates():
    """Jinja2 with all text escaped and a few filters."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.filters |= {
        "cell": cell,
        "percent": lambda share: f"{100 * share:.0f} %",
        "link": _link,
        "ranked": lambda rows: rows["rank"].notna() | rows["method"].isin(REFERENCES),
    }
    env.tests["missing"] = lambda value: value is None or value is pd.NA or value != value
    return env


def cell(row, name):
    """A value with its interval, as in the tables: ``87.4 ±1.2``."""
    value = row[name]
    if value is pd.NA or value != value:
        return "–"
    half, scale = row.get(f"{name}_half_width", math.nan), SCALES.get(name, 100)
    return f"{scale * value:.1f}" + ("" if half != half else f" ±{scale * half:.1f}")


def about(thing):
    """The first paragraph of a docstring, on one line."""
    return " ".join((thing.__doc__ or "").strip().split("\n\n")[0].split())


def _link(url):
    """An address that may be followed: https, and nothing a browser would run; "" for anything else."""
    return url if isinstance(url, str) and re.fullmatch(r"https://[^\s\"'<>\\]+", url) else ""
