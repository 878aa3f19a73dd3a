"""Exhibits: a figure with the table behind it, written as PNG, SVG, CSV, Markdown and LaTeX."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mubench.cache import whole
from mubench.leaderboard import escape, write
from mubench.leaderboard.charts import Line, Panel, drawn, save

__all__ = ["Exhibit", "Line", "Panel", "csv", "drawn", "spread", "texts"]
SHOWN = 12  # sentences on what is missing


@dataclass
class Exhibit:
    """A figure with the table behind it.

    name: of its files.
    title: a text.
    rows: the figure, lists of `Panel`s.
    table: the numbers.
    cells: the table as texts, for people; None: the numbers to four digits.
    notes, missing: sentences.
    files: the paths that `write` wrote.
    """

    name: str
    title: str
    rows: list = field(default_factory=list)
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    cells: pd.DataFrame = None
    notes: list = field(default_factory=list)
    missing: list = field(default_factory=list)
    files: list = field(default_factory=list)

    def __post_init__(self):
        self.cells = texts(self.table) if self.cells is None else self.cells
        self.rows = [panels for panels in self.rows if any(panel.lines for panel in panels)]
        left = self.missing[SHOWN:]
        self.missing = [*self.missing[:SHOWN], *([f"and {len(left)} more of the kind"] if left else [])]

    @property
    def picture(self):
        return next((Path(file).name for file in self.files if file.endswith(".svg")), None)

    def write(self, out):
        """Write what there is: no picture without panels, no table without rows, but always what is missing. Returns
        the paths; files of another time go."""
        contents = {"md": self.markdown()} | ({} if self.cells.empty else {"csv": csv(self.table), "tex": self.latex()})
        self.files = []
        for suffix in ("png", "svg", "csv", "md", "tex"):
            path = Path(out) / f"{self.name}.{suffix}"
            if suffix in contents:
                with whole(path) as temporary:
                    temporary.write_text(contents[suffix], encoding="utf-8", newline="\n")
            elif suffix == "png" and self.rows:
                self.draw(path.with_suffix(""))
            elif suffix != "svg" or not self.rows:
                path.unlink(missing_ok=True)
                continue
            self.files.append(str(path))
        return self.files

    def draw(self, path, formats=("png", "svg")):
        """Write the figure alone, to ``path`` with a suffix for each format."""
        save(self.rows, path, formats)

    def markdown(self):
        head = [
            f"## {escape.markdown(self.title)}",
            *([f"![{escape.markdown(self.title)}]({self.name}.png)"] if self.rows else []),
        ]
        frame = pd.DataFrame(
            [[escape.markdown(cell) for cell in row] for row in self.cells.to_numpy()],
            columns=[*map(escape.markdown, self.cells)],
        )
        table = [] if frame.empty else [frame.to_markdown(index=False, disable_numparse=True)]
        said = [*self.notes, *(f"missing: {sentence}" for sentence in self.missing)]
        return (
            "\n\n".join([*head, *table, *(["\n".join(f"- {escape.markdown(text)}" for text in said)] if said else [])])
            + "\n"
        )

    def latex(self):
        sentences = [self.title, *self.notes, *(f"missing: {sentence}" for sentence in self.missing)]
        comments = "".join(f"% {escape.one_line(sentence)}\n" for sentence in sentences)
        return f"{write.PREAMBLE}\n{comments}{write.latex(self.cells)}"

    def text(self):
        """For a terminal."""
        table = "" if self.cells.empty else self.cells.to_string(index=False)
        said = [*(f"note: {text}" for text in self.notes), *(f"missing: {text}" for text in self.missing)]
        return "\n".join(filter(None, [self.title, "", table, *said]))


def spread(mean, half=math.nan, n=None, scale=100):
    """``71.3±0.9``, as all tables say it."""
    if mean is None or math.isnan(mean):
        return "–"
    return (
        f"{scale * mean:.1f}"
        + ("" if math.isnan(half) else f"±{scale * half:.1f}")
        + ("" if n is None else f" (n={n})")
    )


def texts(frame):
    """A frame as texts: numbers to four digits, nothing as a dash."""

    def text(value):
        if value is None or value is pd.NA or isinstance(value, float) and math.isnan(value):
            return "–"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return pd.DataFrame(
        [[text(value) for value in row] for row in frame.astype(object).to_numpy()], columns=list(frame)
    )


def csv(frame):
    return escape.spreadsheet(frame).to_csv(index=False)
