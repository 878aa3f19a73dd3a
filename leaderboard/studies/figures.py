"""Exhibits: a figure with the table behind it, drawn by Matplotlib (the extra ``figures``) and written as PNG, SVG,
CSV, Markdown and LaTeX.

A figure is a grid of `Panel`s for the width of a page. Colours are Okabe and Ito's, which colour-blind readers tell
apart; names stand at the ends of lines instead of in a legend.
"""

import contextlib
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.leaderboard import escape, write

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f6000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
INK, SOFT, GRID = "#1b1f24", "#59636e", "#e4e8ec"
FIXED = {"original": SOFT, "retrain": INK}  # what all else is compared with
WIDTH, HEIGHT = 7.0, 1.75  # inches: the text of a page, a row of panels
LEFT, GAP, TOP, BOTTOM = 0.5, 0.42, 0.36, 0.42  # inches around the axes
SHOWN = 12  # sentences on what is missing
DPI = 160  # of PNGs
STYLE = {
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.4,
    "text.color": INK,
    "svg.hashsalt": "mubench",
    "svg.fonttype": "path",
}


@dataclass
class Line:
    """name; x, y: equally many numbers; half: half-widths of intervals (NaN: none); kind: ``line``, ``points`` (named
    at the first), ``named`` (each with its name) or ``law`` (thin, without marks); colour: a number, the same for the
    same thing in all panels, or a name of `FIXED`."""

    name: str
    x: list
    y: list
    half: list = ()
    kind: str = "line"
    colour: int = 0


@dataclass
class Panel:
    """title, x, y: texts; lines; levels: name → value, drawn from side to side; log: of x; ticks: position → text on x;
    diagonal: where y = x."""

    title: str
    x: str
    y: str
    lines: list
    levels: dict = field(default_factory=dict)
    log: bool = False
    ticks: dict = field(default_factory=dict)
    diagonal: bool = False


@dataclass
class Exhibit:
    """name: of its files; title; rows: lists of `Panel`s; table: the numbers; cells: the table as texts, for people;
    notes, missing: sentences; files: what `write` wrote."""

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
        if formats:
            with drawn(self.rows) as figure:
                for format in formats:
                    with whole(f"{path}.{format}") as temporary:
                        figure.savefig(
                            temporary,
                            format=format,
                            dpi=DPI,
                            metadata={"png": {"Software": None}, "svg": {"Date": None}}[format],
                        )

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


# -- drawing
# ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def drawn(rows):
    """A Matplotlib figure of rows of panels."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MubenchError("figures need Matplotlib: pip install 'mubench[figures]'") from None
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **STYLE}):
        columns, named = (
            max(map(len, rows)),
            any(line.kind == "named" for panels in rows for panel in panels for line in panel.lines),
        )
        width, tall = WIDTH if columns > 1 else WIDTH / 2 + 0.6, HEIGHT * (1.35 if columns < 3 else 1)
        figure = Figure(figsize=(width, tall * len(rows)))
        right = (
            0.15
            if named and not any(line.kind == "line" for panels in rows for panel in panels for line in panel.lines)
            else _margin(rows)
        )
        wide = (width - LEFT - right - (columns - 1) * GAP) / columns
        for down, panels in enumerate(rows, 1):
            for across, panel in enumerate(panels):
                high = tall - TOP - BOTTOM
                ax = figure.add_axes(
                    [
                        (LEFT + across * (wide + GAP)) / width,
                        1 - (tall * down - BOTTOM) / (tall * len(rows)),
                        wide / width,
                        high / (tall * len(rows)),
                    ]
                )
                below = down < len(rows) and across < len(rows[down]) and rows[down][across].x == panel.x
                _panel(ax, panel)
                _scales(ax, panel, wide, high, below)
                _names(ax, panel, across == len(panels) - 1)
        yield figure


def _margin(rows):
    """Inches for the names at the ends of lines."""
    names = [
        name
        for panels in rows
        for panel in panels[-1:]
        for name in (line.name for line in panel.lines if line.kind == "line")
    ]
    return 0.12 + 0.058 * max(map(len, names), default=0)


def _panel(ax, panel):
    from matplotlib.patches import Polygon

    if panel.log:
        ax.set_xscale("log")
    for line in panel.lines:
        colour, mark = _colour(line), "D" if line.colour in FIXED else MARKS[line.colour // len(COLOURS) % len(MARKS)]
        x, y = np.asarray(line.x, "float64"), np.asarray(line.y, "float64")
        if line.kind == "law":
            ax.plot(x, y, color=colour, linewidth=0.8, linestyle=(0, (4, 2)))
            continue
        half = np.asarray(line.half if len(line.half) else [np.nan] * len(x), "float64")
        if line.kind == "line" and len(x):
            for part in np.split(np.arange(len(x)), np.flatnonzero(np.diff(np.isnan(half))) + 1):
                if not np.isnan(half[part[0]]):
                    back = part[::-1]
                    ax.add_patch(
                        Polygon(
                            np.column_stack([[*x[part], *x[back]], [*(y - half)[part], *(y + half)[back]]]),
                            color=colour,
                            alpha=0.14,
                            linewidth=0,
                        )
                    )
        dense = len(x) > 20
        ax.plot(
            x,
            y,
            color=colour,
            marker="" if dense else mark,
            linestyle="-" if line.kind == "line" else "",
            clip_on=False,
        )
    for value in panel.levels.values():  # named in `_names`
        ax.axhline(value, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    if panel.diagonal:
        ax.axline((0, 0), slope=1, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    ax.margins(x=0.12 if any(line.kind == "named" for line in panel.lines) else 0.05, y=0.1)
    low, high = ax.get_ylim()
    shown = [*(y for line in panel.lines for y in line.y), *panel.levels.values()]
    span = max(np.ptp(shown), 2) if shown else 0
    if shown and any(
        len(line.half) for line in panel.lines
    ):  # intervals of two seeds are wide: bands may leave the panel, lines stay readable
        ax.set_ylim(low := max(low, min(shown) - span), high := min(high, max(shown) + span))
    if high - low < 2:  # a flat line is shown flat
        ax.set_ylim((low + high) / 2 - 1, (low + high) / 2 + 1)


def _scales(ax, panel, wide, high, below):
    """Grid, tick labels and titles of a panel of so many inches (x's title is said below), as a few texts and one
    collection of lines: Matplotlib's own axes would take most of the time of a page."""
    from matplotlib.collections import LineCollection

    ax.xaxis.set_visible(False), ax.yaxis.set_visible(False)
    (left, right), (low, top) = ax.get_xlim(), ax.get_ylim()
    xs = panel.ticks or {x: _number(x, panel.log) for x in _ticks(left, right, 2 * wide, panel.log)}
    xs = {x: text for x, text in xs.items() if left <= x <= right}
    ys = {y: _number(y) for y in _ticks(low, top, 3.6 * high)}
    ax.add_collection(
        LineCollection(
            [*([(x, 0), (x, 1)] for x in xs)],
            colors=GRID,
            linewidths=0.6,
            transform=ax.get_xaxis_transform(),
            zorder=0.5,
        ),
        autolim=False,
    )
    ax.add_collection(
        LineCollection(
            [*([(0, y), (1, y)] for y in ys)],
            colors=GRID,
            linewidths=0.6,
            transform=ax.get_yaxis_transform(),
            zorder=0.5,
        ),
        autolim=False,
    )
    small = {"fontsize": 7, "color": SOFT}
    for x, text in xs.items():
        ax.text(x, -0.05 / high, text, transform=ax.get_xaxis_transform(), ha="center", va="top", **small)
    for y, text in ys.items():
        ax.text(-0.05 / wide, y, text, transform=ax.get_yaxis_transform(), ha="right", va="center_baseline", **small)
    ax.text(0, 1 + 0.07 / high, panel.title, transform=ax.transAxes, va="bottom")
    if not below:
        ax.text(0.5, -0.2 / high, panel.x, transform=ax.transAxes, ha="center", va="top")
    ax.text(-0.36 / wide, 0.5, panel.y, transform=ax.transAxes, ha="center", va="center", rotation=90)


def _ticks(low, high, about, log=False):
    """Round numbers between two, ``about`` so many."""
    from matplotlib.ticker import MaxNLocator

    if not log:
        found = MaxNLocator(max(2, round(about)), steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        return [float(x) for x in found if low <= x <= high]
    for heads in ((1,), (1, 2, 5), range(1, 10)):
        found = [
            head * 10.0**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for head in heads
        ]
        found = [x for x in found if low <= x <= high]
        if len(found) > 1:
            break
    return found[:: math.ceil(len(found) / max(2, round(about)))] if found else []


def _number(value, log=False):
    text = f"{value + 0:.4g}".replace("-", "−")
    if log and not 1e-3 <= value < 1e4:
        power = math.floor(math.log10(value) + 1e-9)
        head = f"{value / 10**power:.2g}"
        text = (
            ("" if head == "1" else f"{head}·")
            + "10"
            + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        )
    return text


def _names(ax, panel, last):
    """Names at the ends of lines (in the last panel of a row, as colours mean the same in all), of points, and of
    levels.
    """
    per_inch = ax.figure.dpi / 72
    if last:
        ends = [(line.y[-1], line.name, _colour(line)) for line in panel.lines if line.kind == "line"]
        place = ax.transAxes.inverted()
        heights = [place.transform(ax.transData.transform((ax.get_xlim()[1], y)))[1] for y, _, _ in ends]
        for (_, name, colour), at in zip(ends, _apart(heights, 8.5 * per_inch / ax.get_window_extent().height)):
            ax.annotate(
                name,
                (1, at),
                xycoords="axes fraction",
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                color=colour,
            )
    for line in panel.lines:
        if line.kind == "points":
            ax.annotate(
                line.name,
                (line.x[0], line.y[0]),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=6.5,
                color=_colour(line),
            )
    levels = {}
    for name, value in sorted(
        ((name, value) for name, value in panel.levels.items() if name), key=lambda level: level[1]
    ):  # those that nearly coincide are named together
        same = next((at for at in levels if abs(at - value) < 0.07 * np.ptp(ax.get_ylim())), value)
        levels.setdefault(same, []).append(name)
    half_line = 5 * per_inch * np.ptp(ax.get_ylim()) / ax.get_window_extent().height  # in units of y
    for number, (value, names) in enumerate(reversed(levels.items())):
        room = value - ax.get_ylim()[0] > 2 * half_line
        signs = (1, -1) if len(levels) == 1 and room else (-1,) if number and room else (1,)
        near = lambda left, at: min(
            (abs(y - at) for line in panel.lines for n, y in enumerate(line.y) if (n / len(line.y) < 0.5) == left),
            default=0,
        )
        left, sign = max(
            ((left, sign) for sign in signs for left in (True, False)),
            key=lambda place: near(place[0], value + place[1] * half_line),
        )  # where lines are farther
        ax.annotate(
            ", ".join(names),
            (0.02 if left else 0.98, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2 * sign),
            textcoords="offset points",
            ha="left" if left else "right",
            va="bottom" if sign > 0 else "top",
            fontsize=6,
            color=SOFT,
            bbox={"facecolor": "white", "alpha": 0.5, "pad": 0.2, "linewidth": 0},
        )
    _beside(ax, [(line, x, y) for line in panel.lines if line.kind == "named" for x, y in zip(line.x, line.y)])


def _beside(ax, named):
    """Names of points where they cover nothing: next to their point and nearer to it than to any other, else farther
    off with a line to it. In typographic points."""
    from matplotlib.patheffects import withStroke

    per_inch = ax.figure.dpi / 72
    at = [tuple(ax.transData.transform((x, y)) / per_inch) for _, x, y in named]
    left, bottom, wide, high = (side / per_inch for side in ax.get_window_extent().bounds)
    taken = [(a - 2.5, b - 2.5, a + 2.5, b + 2.5) for a, b in at]
    far = lambda box, a, b: math.hypot(max(box[0] - a, a - box[2], 0), max(box[1] - b, b - box[3], 0))
    for (line, x, y), (a, b) in zip(named, at):
        long = 3.8 * len(line.name)
        others = [
            place for place in at if math.dist(place, (a, b)) > 3
        ]  # those that nearly coincide cannot be told apart
        for off in (0, 8, 16, 24, 32):
            up, down, right, to_left = 5 + off, -10 - off, 5 + off, -5 - off - long
            spots = [
                (right, -2.5),
                (to_left, -2.5),
                (-long / 2, up),
                (-long / 2, down),
                *(
                    (side, height)
                    for height in (0.7 * up, 0.7 * down)
                    for side in (0.7 * right, 0.7 * to_left - 0.3 * long)
                ),
            ]
            boxes = [
                (spot, (a + spot[0] - 1, b + spot[1] - 1.5, a + spot[0] + long + 1, b + spot[1] + 6)) for spot in spots
            ]
            free = [
                (spot, box)
                for spot, box in boxes
                if left - 2 <= box[0]
                and box[2] <= left + wide + 8
                and bottom <= box[1]
                and box[3] <= bottom + high + 5
                and not any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in taken)
                and (off or all(far(box, *other) > far(box, a, b) + 1 for other in others))
            ]
            if free:
                (spot, box), *_ = free
                taken.append(box)
                lead = {
                    "arrowstyle": "-",
                    "linewidth": 0.4,
                    "color": _colour(line),
                    "shrinkA": 0,
                    "shrinkB": 2,
                    "relpos": (0 if spot[0] > 0 else 1 if spot[0] < -long else 0.5, 0.5),
                }
                ax.annotate(
                    line.name,
                    (x, y),
                    xytext=spot,
                    textcoords="offset points",
                    fontsize=6.5,
                    color=_colour(line),
                    arrowprops=lead if off else None,
                    zorder=2.9 if off else 3,
                    path_effects=[withStroke(linewidth=1.5, foreground="white")],
                )
                break


def _colour(line):
    return FIXED[line.colour] if line.colour in FIXED else COLOURS[line.colour % len(COLOURS)]


def _apart(heights, step):
    """Heights moved as little as keeps neighbours a step apart."""
    order = np.argsort(heights, kind="stable")
    moved = np.array(heights, "float64")[order]
    for _ in range(200):
        gaps = step - np.diff(moved)
        if not (gaps > 1e-6).any():
            break
        push = np.where(gaps > 0, gaps / 2, 0)
        moved[:-1] -= push
        moved[1:] += push
    found = np.empty(len(moved))
    found[order] = moved
    return found
