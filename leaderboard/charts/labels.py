"""Where names stand in a panel: at the ends of lines, beside points, on levels, in a key. In points, as all lengths.

Matplotlib places single texts and the key; that no name covers another, a mark or a line is done here.
"""

import math

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from mubench.leaderboard.charts.panel import PAPER, SOFT

LONGEST = 24  # letters of a name
SMALL = 0.833  # of Matplotlib's size "small"
SHARES = (0.25, 0.5, 0.75, 1)  # of a line from a point to its name, where it must cross no other name


def short(name):
    """A name on one line, cut where it is very long."""
    name = " ".join(name.split())
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def width(name, sheet):
    """How wide a name is."""
    font = FontProperties(family="DejaVu Sans", size=SMALL * sheet.font)
    return text_to_path.get_text_width_height_descent(short(name), font, False)[0]


def key_columns(panel, sheet):
    """How many names of a key stand side by side."""
    widest = max(width(line.name, sheet) for line in panel.lines)
    return max(1, min(len(panel.lines), int((sheet.width - 6 * sheet.font) / (widest + 3.2 * sheet.font))))


def name(ax, panel, sheet, last):
    """Name everything in a panel.

    last: whether it is the last of its row; lines are named there, as colours mean the same in all.
    """
    if panel.key:
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0.1,
            ncols=key_columns(panel, sheet),
            handlelength=1.5,
            columnspacing=1.2,
            labelspacing=0.25,
        )
    if last:
        _name_ends(ax, panel.ends, sheet)
    room = _Room(ax, panel, sheet)
    _name_guides(ax, panel, room)
    _name_levels(ax, panel, room)
    _name_points(ax, panel, room)


def apart(heights, step):
    """Heights moved as little as keeps neighbours a step apart: the least squares of all such heights."""
    from scipy.optimize import isotonic_regression

    heights = np.asarray(heights, "float64")
    order = np.argsort(heights, kind="stable")
    steps = step * np.arange(len(heights))
    moved = np.empty(len(heights))
    moved[order] = isotonic_regression(heights[order] - steps).x + steps
    return moved


def _name_ends(ax, lines, sheet):
    lines = [line for line in lines if len(line.y)]
    if not lines:
        return
    ends = ax.transData.transform([(ax.get_xlim()[1], line.y[-1]) for line in lines])
    _, bottom, _, top = ax.get_window_extent().extents
    for line, height in zip(lines, apart(ends[:, 1], 1.06 * sheet.font), strict=True):
        ax.annotate(
            short(line.name),
            (1, (height - bottom) / (top - bottom)),
            xycoords="axes fraction",
            xytext=(0.5 * sheet.font, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize="small",
            color=line.shade,
        )


class _Room:
    """The room in a panel, in points. Boxes are (left, bottom, right, top).

    marks: boxes of points, and along lines.
    names: boxes of what was written.
    """

    def __init__(self, ax, panel, sheet):
        self.ax, self.sheet, self.font, self.names, self.marks = ax, sheet, sheet.font, [], []
        self.left, self.bottom, self.right, self.top = ax.get_window_extent().extents
        for line in panel.lines:
            if not len(line.x):
                continue
            at = ax.transData.transform(np.column_stack([line.x, line.y]).astype("float64"))
            if line.kind in ("line", "law"):
                steps = np.linspace(0, len(at) - 1, 60)
                at = np.column_stack([np.interp(steps, range(len(at)), side) for side in at.T])
            far = 0.6 * sheet.mark
            self.marks += [(x - far, y - far, x + far, y + far) for x, y in at.tolist()]

    def box(self, long, x, y, align):
        """Where a text of a width lies, of which x is the end or the middle and y the baseline."""
        left = x - {"left": 0, "center": 0.5, "right": 1}[align] * long
        return left - 1, y - 0.15 * self.font, left + long + 1, y + 0.7 * self.font

    def covered(self, box):
        """How many names and marks a box covers; names first."""
        overlap = lambda o: box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3]
        return sum(map(overlap, self.names)), sum(map(overlap, self.marks))

    def inside(self, box):
        left, bottom, right, top = box
        far = 0.6 * self.font
        return left >= self.left - 2 and right <= self.right + far and bottom >= self.bottom and top <= self.top + far

    def write(self, text, x, y, align, **look):
        self.names.append(self.box(width(text, self.sheet), x, y, align))
        places = {"xycoords": "figure points", "textcoords": "figure points", "fontsize": "small"}
        self.ax.annotate(text, (0, 0), xytext=(x, y), ha=align, **places, **look)


def _name_guides(ax, panel, room):
    """Names at the upper ends; of a guide left of the panel, with an arrow to where it would be."""
    for text, value in panel.guides.items():
        text, inside = f"{short(text)} {value:.3g}", value >= ax.get_xlim()[0]
        at = ax.transData.transform((value, 0))[0] if inside else room.left
        room.write(text if inside else f"← {text}", at + 0.3 * room.font, room.top - room.font, "left", color=SOFT)


def _name_levels(ax, panel, room):
    """Names of levels, above or below them, left or right: where they cover least. Levels that nearly coincide are
    named together."""
    near, groups = 0.07 * np.ptp(ax.get_ylim()), {}
    for text, value in sorted(panel.levels.items(), key=lambda level: level[1]):
        if text:
            same = next((other for other in groups if abs(other - value) < near), value)
            groups.setdefault(same, []).append(text)
    ground = {"facecolor": PAPER, "alpha": 0.6, "pad": 0.2, "linewidth": 0}
    for value, names in groups.items():
        text, height = ", ".join(names), ax.transData.transform((0, value))[1]
        spots = [
            (x, height + up * room.font, align)
            for up in (0.25, -0.95)
            for x, align in ((room.left + 0.4 * room.font, "left"), (room.right - 0.4 * room.font, "right"))
        ]
        covered = [room.covered(room.box(width(text, room.sheet), *spot)) for spot in spots]
        room.write(text, *spots[covered.index(min(covered))], color=SOFT, bbox=ground)


def _name_points(ax, panel, room):
    """Names beside their points. What all else is compared with comes first."""
    points = [
        (line, tuple(ax.transData.transform((x, y)).tolist()))
        for line in sorted(panel.lines, key=lambda line: not isinstance(line.colour, str))
        if line.kind in ("named", "points")
        for x, y in list(zip(line.x, line.y, strict=True))[: None if line.kind == "named" else 1]
    ]
    for line, point in points:
        long = width(line.name, room.sheet)
        others = [other for _, other in points if math.dist(other, point) > 0.4 * room.font]
        spots = list(_spots(point, room))
        free = (spot for spot in spots if _is_free(spot, long, point, others, room))
        found = next(free, None)
        if found is None and line.kind == "points":  # the name of many: it must stand somewhere
            inside = [spot for spot in spots if room.inside(room.box(long, *spot[1]))]
            found = min(inside, key=lambda spot: room.covered(room.box(long, *spot[1])), default=spots[0])
        if found is None:
            continue
        far, spot = found
        room.write(short(line.name), *spot, color=line.shade)
        if far:
            lead = _lead(room.box(long, *spot), point)
            ends = ax.transData.inverted().transform([point, lead[-1][:2]]).T
            ax.plot(*ends, color=line.shade, linewidth=0.05 * room.font, zorder=2)
            room.marks += lead


def _is_free(spot, long, point, others, room):
    """Whether a name there covers nothing and is nearer to its own point than to any other, or, where a line leads to
    it, whether that line crosses no name."""
    far, place = spot
    box = room.box(long, *place)
    if not room.inside(box) or any(room.covered(box)):
        return False
    if far:
        return not any(room.covered(part)[0] for part in _lead(box, point))
    return all(_distance(box, other) > _distance(box, point) + 1 for other in others)


def _lead(box, point):
    """Boxes along a line from a point to the nearest place of a box of a name."""
    end = (min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3]))
    steps = [[start + share * (stop - start) for start, stop in zip(point, end, strict=True)] for share in SHARES]
    return [(x, y, x, y) for x, y in steps]


def _spots(point, room):
    """Where a name of a point can stand, near ones first: whether it needs a line to the point; x, baseline, and which
    part of the name is at x."""
    x, y = point
    for off in range(4):
        gap = 0.4 * room.font + 0.35 * room.sheet.mark + off * room.font
        middle, above, below = y - 0.3 * room.font, y + gap - 0.2 * room.font, y - gap - 0.5 * room.font
        sides = ((x + gap, middle, "left"), (x - gap, middle, "right"), (x, above, "center"), (x, below, "center"))
        slant = 0.7 * gap
        corners = [
            (x + side * slant, height, "left" if side > 0 else "right")
            for height in (y + slant, y - slant - 0.6 * room.font)
            for side in (1, -1)
        ]
        for spot in (*sides, *corners):
            yield off > 0, spot


def _distance(box, point):
    """From a box to a point."""
    x, y = point
    return math.hypot(max(box[0] - x, x - box[2], 0), max(box[1] - y, y - box[3], 0))
