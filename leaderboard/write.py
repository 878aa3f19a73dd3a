"""The one writer of tables: texts as Markdown, LaTeX or plain text, frames as CSV or JSON. Each escapes once.

A *table* is a frame of texts, or a dict of columns: header → list of texts.
"""

import functools
import io
import json

from pydantic_core import to_json

from mubench.leaderboard import escape

PREAMBLE = (
    r"% In the preamble: \usepackage[T1]{fontenc} and \usepackage{booktabs}. Wide tables: \resizebox of graphicx."
)
SYMBOLS = {
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "–": "--",
    "×": r"$\times$",
    "λ": r"$\lambda$",
}


def latex(table, left=None, words=None):
    """A booktabs tabular, for a document with the `PREAMBLE`.

    left: headers of the columns that are flush left, all others being flush right; None: all are.
    words: headers of the columns whose cells are escaped, those of all others being numbers; None: all.

    pandas and tabulate write such tables too, and take four seconds and more for a board of 20,000 rows.
    """
    columns = _escaped(table, escape.latex, words)
    lines = [" & ".join(line) + r" \\" for line in zip(*columns, strict=True)]
    head, *body = ["{}" + line if line[0] in "[*" else line for line in lines]  # else \\ and rules would take them
    sides = "".join("l" if left is None or name in left else "r" for name in table)
    lines = [
        rf"\begin{{tabular}}{{{sides}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    return functools.reduce(lambda text, symbol: text.replace(*symbol), SYMBOLS.items(), "\n".join(lines))


def markdown(table, left=(), words=None):
    """A table in GitHub-flavoured Markdown.

    left: headers of the columns that are flush left, all others being flush right.
    words: as in `latex`.
    """
    columns, sides = _escaped(table, escape.markdown, words), [name in left for name in table]
    widths, (head, *body) = _aligned(columns, sides)
    rule = [f":{'-' * width}-" if flush else f"-{'-' * width}:" for width, flush in zip(widths, sides, strict=True)]
    lines = [f"| {' | '.join(line)} |" for line in body]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *lines])


def plain(table, left=()):
    """A table for a terminal.

    left: as in `markdown`.
    """
    columns = [[name, *texts] for name, texts in table.items()]
    widths, (head, *body) = _aligned(columns, [name in left for name in table])
    rule = ["-" * width for width in widths]
    return "\n".join("  ".join(line).rstrip() for line in (head, rule, *body))


def _escaped(table, escape_text, words):
    """Columns of texts: the header, escaped, and the cells, escaped where the column is one of words."""
    return [
        [escape_text(name), *(map(escape_text, texts) if words is None or name in words else texts)]
        for name, texts in table.items()
    ]


def _aligned(columns, left):
    """The widths of columns, and the lines of cells of these widths.

    tabulate would make every column two wider than its header, for which terminals have no room, and take several times
    as long.
    """
    widths = [max(3, *map(len, column)) for column in columns]
    padded = [
        [cell.ljust(width) if flush else cell.rjust(width) for cell in column]
        for column, width, flush in zip(columns, widths, left, strict=True)
    ]
    return widths, list(zip(*padded, strict=True))


# -- frames ------------------------------------------------------------------------------------------------------------


def csv(frame):
    """A frame at full precision. Text that a spreadsheet would run gets an apostrophe."""
    import pyarrow as pa
    from pyarrow.csv import write_csv

    file = io.BytesIO()
    write_csv(pa.Table.from_pandas(escape.spreadsheet(frame), preserve_index=False), file)
    return file.getvalue().decode()


def records(frame):
    """The rows of a frame as dicts, without what has no value."""
    columns = [frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame]
    names = list(frame)
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns, strict=True)
    ]


def json_object(fields):
    """A JSON object with each of its fields, and each element of their lists, on a line of its own."""
    return "{" + ",\n".join(f"{json.dumps(name)}: {_lines(value)}" for name, value in fields.items()) + "}\n"


def _lines(value):
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(_json, value)) + "]"
    return _json(value)


def _json(value):
    return to_json(value, inf_nan_mode="null").decode()
