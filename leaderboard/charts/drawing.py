"""Draws rows of panels with Matplotlib. The same panels give the same bytes.

A figure has 72 dots per inch, so that lengths are in points everywhere. Margins are multiples of the size of the text.
"""

import contextlib
import itertools
import math
import threading
from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mubench.cache import whole
from mubench.leaderboard.charts import labels
from mubench.leaderboard.charts.panel import GRID, INK, PAPER, SOFT

DPI = 160  # of PNGs
LEFT, RIGHT, GAP, TOP, TITLE, BOTTOM = 4.5, 1.3, 3.8, 1.2, 3.2, 3.8  # around the axes, in sizes of the text
STYLE = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same widths on all machines
    "text.color": INK,
    "text.parse_math": False,  # a name with dollars is a name
    "axes.edgecolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "grid.color": GRID,
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "axes.titley": 1.0,  # where it is anyway: Matplotlib need not measure ticks to find that out
    "legend.frameon": False,
    "legend.fontsize": "small",
    "svg.hashsalt": "mubench",
    "svg.fonttype": "none",  # text stays text
}
UNDATED = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_SETTINGS = threading.RLock()  # Matplotlib's are the process's: one figure is drawn at a time


@dataclass(frozen=True)
class Sheet:
    """The measures of a figure, in points.

    width: of the whole.
    height: of one row of panels.
    font: size of titles; ticks and names are smaller.
    mark: diameter of a point that has a name.
    """

    width: float
    height: float
    font: float
    mark: float


def print_sheet(rows):
    """A sheet for the text width of a printed page; half of it for a single column of panels."""
    columns = max(map(len, rows))
    return Sheet(504 if columns > 1 else 295, 126 if columns > 2 else 170, 8, 4.2)


@contextlib.contextmanager
def settings(font):
    """Matplotlib as it comes, with our style, whatever the user's own settings are."""
    sizes = {
        "font.size": font,
        "axes.linewidth": 0.075 * font,
        "axes.labelpad": 0.3 * font,
        "axes.titlepad": 0.6 * font,
        "grid.linewidth": 0.075 * font,
        "lines.linewidth": 0.16 * font,
        "lines.markersize": 0.42 * font,
        "xtick.major.pad": 0.4 * font,
        "ytick.major.pad": 0.4 * font,
    }
    with _SETTINGS, matplotlib.style.context(["default", STYLE | sizes]):
        yield


@contextlib.contextmanager
def drawn(rows, sheet=None):
    """A Matplotlib figure of rows of panels; it must be saved inside the ``with``.

    rows: lists of `Panel`s.
    sheet: its measures; None: those of a printed page.

    Each line of the panels, counted through, has the id ``line-0``, ``line-1``, … in an SVG.
    """
    sheet = sheet or print_sheet(rows)
    with settings(sheet.font):
        figure = Figure(figsize=(sheet.width / 72, sheet.height * len(rows) / 72), dpi=72)
        axes = figure.subplots(len(rows), max(map(len, rows)), squeeze=False, gridspec_kw=_margins(rows, sheet))
        number = itertools.count()
        for down, panels in enumerate(rows):
            for across, ax in enumerate(axes[down]):
                if across >= len(panels):
                    ax.remove()
                    continue
                panel = panels[across]
                below = rows[down + 1][across : across + 1] if down + 1 < len(rows) else []
                _draw(ax, panel, sheet, number)
                _scales(ax, panel, sheet, said_below=any(other.x == panel.x for other in below))
                labels.name(ax, panel, sheet, last=across == len(panels) - 1)
        yield figure


def save(rows, path, formats=("png", "svg")):
    """Write a figure to ``path`` with a suffix for each format: ``png``, ``svg`` or ``pdf``."""
    if formats:
        with drawn(rows) as figure:
            for form in formats:
                with whole(f"{path}.{form}") as temporary:
                    figure.savefig(temporary, format=form, dpi=DPI, metadata=UNDATED[form])


def _margins(rows, sheet):
    """The grid's margins, as Matplotlib wants them: shares of the figure, and of a panel."""
    font, columns = sheet.font, max(map(len, rows))
    ends = [line.name for panels in rows for line in panels[-1].ends]
    right = RIGHT * font + max((labels.width(name, sheet) for name in ends), default=0)
    panels = [panel for row in rows for panel in row]
    keys = max(
        (math.ceil(len(panel.lines) / labels.key_columns(panel, sheet)) for panel in panels if panel.key), default=0
    )
    top = (TITLE if any(panel.title for panel in panels) else TOP + 1.3 * keys) * font
    wide = (sheet.width - LEFT * font - right - (columns - 1) * GAP * font) / columns
    high, total = sheet.height - top - BOTTOM * font, sheet.height * len(rows)
    return {
        "left": LEFT * font / sheet.width,
        "right": 1 - right / sheet.width,
        "top": 1 - top / total,
        "bottom": BOTTOM * font / total,
        "wspace": GAP * font / wide,
        "hspace": (top + BOTTOM * font) / high,
    }


def _draw(ax, panel, sheet, number):
    ax.patch.set_visible(False)
    if panel.log:
        ax.set_xscale("log")
    for line in panel.lines:
        _draw_line(ax, line, sheet, f"line-{next(number)}")
    rule = {"color": SOFT, "linewidth": 0.1 * sheet.font, "linestyle": (0, (2, 2)), "zorder": 1}
    for value in panel.levels.values():
        ax.axhline(value, **rule)
    if panel.diagonal:
        ax.axline((0, 0), slope=1, **rule)
    _limit(ax, panel)
    ax.autoscale(False)  # guides may lie outside
    for value in panel.guides.values():
        ax.axvline(value, **rule)


def _draw_line(ax, line, sheet, name):
    x, y = np.asarray(line.x, "float64"), np.asarray(line.y, "float64")
    look = {"color": line.shade, "gid": name}
    if line.kind == "law":
        ax.plot(x, y, **look, linewidth=0.1 * sheet.font, linestyle=(0, (4, 2)))
    elif line.kind == "line":
        if len(line.half):
            below, above = np.broadcast_to(np.asarray(line.half, "float64"), (2, len(x)))
            ax.fill_between(x, y - below, y + above, color=line.shade, alpha=0.14, linewidth=0)
        if line.colour == "original":
            look["linestyle"] = (0, (2, 1.5))
        elif line.colour == "retrain":
            look["linewidth"] = 0.22 * sheet.font
        ax.plot(x, y, **look, marker=line.mark, clip_on=not line.mark, label=labels.short(line.name))
    else:
        look |= {"markersize": sheet.mark, "markeredgecolor": PAPER, "markeredgewidth": 0.1 * sheet.mark}
        if line.colour == "original":
            look |= {"markerfacecolor": PAPER, "markeredgecolor": line.shade, "markeredgewidth": 0.2 * sheet.mark}
        ax.plot(
            x,
            y,
            **look,
            marker=line.mark,
            linestyle="",
            clip_on=False,
            zorder=3 if line.colour in ("original", "retrain") else 2.5,
        )


def _limit(ax, panel):
    """Set what the axes span."""
    ax.margins(x=0.12 if any(line.kind == "named" for line in panel.lines) else 0.05, y=0.1)
    if panel.limits:
        ax.set(xlim=panel.limits, ylim=panel.limits)
        return
    shown = [*(y for line in panel.lines for y in line.y if not math.isnan(y)), *panel.levels.values()]
    if not shown:
        return
    low, high = ax.get_ylim()
    if panel.floor is not None:
        ax.set_ylim(panel.floor, max(shown) + 0.1 * (max(shown) - panel.floor) or 1)
        return
    if any(len(line.half) for line in panel.lines):  # intervals of two seeds are wide: they may leave the panel
        span = max(np.ptp(shown), panel.span)
        low, high = max(low, min(shown) - span), min(high, max(shown) + span)
    if high - low < panel.span:  # a flat line is shown flat
        low, high = (low + high - panel.span) / 2, (low + high + panel.span) / 2
    ax.set_ylim(low, high)


def _scales(ax, panel, sheet, said_below):
    """Ticks and titles.

    said_below: whether the panel below says the same of x.
    """
    (left, _), (right, _) = ax.transAxes.transform([(0, 0), (1, 0)])
    (_, bottom), (_, top) = ax.transAxes.transform([(0, 0), (0, 1)])
    across = max(2, min(8, round((right - left) / (4.5 * sheet.font))))
    up = max(2, min(6, round((top - bottom) / (2.5 * sheet.font))))
    low, high = ax.get_xlim()
    if panel.ticks:
        ticks = {x: text for x, text in panel.ticks.items() if low <= x <= high}
        ax.set_xticks(list(ticks), list(ticks.values()))
    elif panel.log:
        ax.xaxis.set_major_locator(_log_locator(low, high, across))
    else:
        whole_numbers = all(x == round(x) for line in panel.lines for x in line.x)
        ax.xaxis.set_major_locator(MaxNLocator(across + 1, steps=[1, 2, 2.5, 5, 10], integer=whole_numbers))
    if not panel.ticks:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, panel.log)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(MaxNLocator(up, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    ax.set(title=panel.title, xlabel="" if said_below else panel.x, ylabel=panel.y)
    # in line across panels, and Matplotlib need not measure ticks to find a place
    ax.xaxis.set_label_coords(0.5, -1.8 * sheet.font / (top - bottom))
    ax.yaxis.set_label_coords(-2.9 * sheet.font / (right - left), 0.5)


def _log_locator(low, high, most):
    """The closest ticks of a logarithmic axis that are not more than so many."""
    if high / low < 10:
        return MaxNLocator(most)
    for heads in ((1, 2, 5), (1, 3), (1,)):
        locator = LogLocator(subs=heads, numticks=most)
        if sum(low <= tick <= high for tick in locator.tick_values(low, high)) <= most:
            break
    return locator


def number(value, log=False):
    """A number as ticks and hover texts say it; on logarithmic axes very small and large ones as powers of ten."""
    if not log or value <= 0 or 1e-3 <= value < 1e4:
        return f"{value + 0:.4g}".replace("-", "−")
    power = math.floor(math.log10(value) + 1e-9)
    head = f"{value / 10**power:.2g}"
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return ("" if head == "1" else f"{head}·") + f"10{raised}"
