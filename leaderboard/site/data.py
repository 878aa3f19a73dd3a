"""`data.js`: the rows for the table and the comparison, as a script that assigns one object.

Columns hold whole numbers (per mille, positions in lists of names), so that ten thousand rows stay below a megabyte.
"""

import json

import pandas as pd

from mubench.leaderboard.columns import HEADERS, MAIN, ROW_COLUMNS, RUN_COLUMNS, SCALES
from mubench.leaderboard.rows import REFERENCES

SHOWN = (*MAIN, "relative_seconds")  # values of the table page
NAMED = ("modality", "task", "model", "ratio", "variant", "level")  # what it filters by


def script(rows, method_pages, task_pages):
    """The text of the file.

    rows: of a board.
    method_pages: (submission, method) → address.
    task_pages: task → address.
    """
    rows = rows[rows["n"] > 0]
    names = {name: list(dict.fromkeys(rows[name])) for name in (*NAMED, "label")}
    first = rows.drop_duplicates("label")
    methods = list(zip(first["submission"], first["method"], strict=True))
    columns = {name: _positions(rows[name], values) for name, values in names.items()}
    columns |= {"rank": _whole(rows["rank"], 1), "n": _whole(rows["n"], 1)}
    for name in SHOWN:
        factor = 1000 if _in_per_cent(name) else 100
        columns[name] = _whole(rows[name], factor)
        columns[f"{name}_half_width"] = _whole(rows[f"{name}_half_width"], factor)
    data = {
        "names": names,
        "pages": [method_pages[key] for key in methods],
        "tasks": [task_pages[task] for task in names["task"]],
        "references": [place for place, (_, method) in enumerate(methods) if method in REFERENCES],
        "columns": columns,
        "shown": [
            {
                "name": name,
                "header": HEADERS[name],
                "help": RUN_COLUMNS[name],
                "scale": 10 if _in_per_cent(name) else 100,  # what the page divides by
            }
            for name in SHOWN
        ],
        "help": {name: ROW_COLUMNS[name] for name in ("rank", "label", "n", *NAMED)},
    }
    return f"window.BOARD = {json.dumps(data, separators=(',', ':'), allow_nan=False)};\n".replace("<", "\\u003c")


def _in_per_cent(name):
    return SCALES.get(name, 100) == 100


def _positions(values, names):
    places = {name: place for place, name in enumerate(names)}
    return [places[value] for value in values]


def _whole(values, scale):
    return [None if v is pd.NA or v != v else round(scale * v) for v in values.tolist()]
