"""Charts as plain SVG, drawn once when the site is made: no script, colours from the style sheet, every mark with its
name.

Text of strangers goes through `escape`; positions are rounded, so that the same numbers give the same bytes.
"""

import math

from markupsafe import Markup, escape

WIDTH, SMALL, HEIGHT = 560, 440, 360  # of scatters; of curves and histograms, which a phone shows whole
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 16, 44
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Axis:
    """A linear or logarithmic scale from values to pixels."""

    def __init__(self, values, start, end, log=False, least=None, most=None):
        known = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)] or [1 if log else 0]
        low, high = min(known), max(known)
        self.log, self.start, self.end = log, start, end
        if log:
            low, high = math.log10(low), math.log10(high)
            room = max(0.06 * (high - low), 0.1)
            self.low, self.high = low - room, high + room
            few, step = self.high - self.low < 2.5, max(1, round((self.high - self.low) / 5))
            decades = range(math.floor(self.low), math.ceil(self.high) + 1, 1 if few else step)
            self.ticks = [
                m * 10.0**k
                for k in decades
                for m in ((1, 2, 5) if few else (1,))
                if self.low <= k + math.log10(m) <= self.high
            ]
        else:
            room = 0.06 * (high - low) or 0.05
            room += max(0, 0.02 * abs(high) - (high - low)) / 2  # ticks closer than that would all read alike
            low, high = low - room, high + room
            self.low = low if least is None else max(low, least)
            self.high = high if most is None else min(high, most)
            whole = all(v == round(v) for v in known)
            step = max(_nice((self.high - self.low) / 5), 1 if whole and high - low >= 1 else 0)
            self.ticks = [
                k * step for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
            ]

    def __call__(self, value):
        value = math.log10(max(value, 10.0**self.low)) if self.log else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def scatter(points, x, y, percent=(True, True), log=False, lines=(), describe=""):
    """Marks with names. points: dicts of ``x``, ``y``, ``name``, ``kind`` (method, original, retrain) and, optionally,
    ``href``;
    x, y: the axes' titles; lines: (x, name), dashed from top to bottom."""
    scale = [100 if p else 1 for p in percent]
    points = [p for p in points if _known(p["x"]) and _known(p["y"])]
    if not points:
        return Markup("")
    across = Axis([scale[0] * p["x"] for p in points], LEFT, WIDTH - RIGHT, log)
    up = Axis([scale[1] * p["y"] for p in points], HEIGHT - BOTTOM, TOP)
    parts, taken = _frame(across, up, x, y), []
    for value, name in lines:
        at, name = across(scale[0] * value), f"{name} {_number(scale[0] * value)}"
        if at < LEFT:  # far from all methods: told at the edge, or the methods would lie on a heap
            parts.append(Markup('<text class="note" x="{}" y="{}">← {}</text>').format(LEFT + 4, TOP + 11, name))
        else:
            parts.append(
                Markup(
                    '<line class="mark-line" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="note" x="{3}"'
                    ' y="{4}">{5}</text>'
                ).format(_r(at), TOP, HEIGHT - BOTTOM, _r(at + 4), TOP + 11, name)
            )
        taken.append((max(at, LEFT), TOP, max(at, LEFT) + 7 * len(name) + 14, TOP + 14))
    points = sorted(
        points, key=lambda p: p["kind"] == "method"
    )  # references get their names first, and their marks on top
    places = [(across(scale[0] * p["x"]), up(scale[1] * p["y"])) for p in points]
    taken += [(a - 4, b - 4, a + 4, b + 4) for a, b in places]
    marks = []
    for p, (a, b) in zip(points, places):
        text = f"{p['name']}: {_number(scale[0] * p['x'])}, {_number(scale[1] * p['y'])}"
        mark = Markup("<g><title>{}</title>{}</g>").format(text, _mark(p["kind"], a, b))
        marks.append(Markup('<a href="{}" tabindex="-1">{}</a>').format(p["href"], mark) if p.get("href") else mark)
        if place := _free(a, b, p["name"], taken):
            taken.append(place[2])
            parts.append(
                Markup('<text class="name {}" x="{}" y="{}">{}</text>').format(
                    p["kind"], _r(place[0]), _r(place[1]), p["name"]
                )
            )
    return _svg([*parts, *reversed(marks)], describe)


def curves(lines, x, y, percent=True, least=None, diagonal=False, describe="", square=False):
    """Lines with names and, optionally, bands; ``square``: both axes from 0 to 100, ``least``: where the upright one
    begins at most. lines: dicts of ``name``, ``kind``, ``points`` [(x, y)], ``band`` [(x, low, high)].
    """
    scale = 100 if percent else 1
    lines = [line for line in lines if line["points"]]
    if not lines:
        return Markup("")
    xs = [a for line in lines for a, _ in line["points"]]
    ys = [
        scale * b
        for line in lines
        for part in ([b for _, b in line["points"]], *([lo, hi] for _, lo, hi in line.get("band", ())))
        for b in part
        if _known(b)
    ]
    across = Axis([0, 100] if square else xs, LEFT, SMALL - RIGHT - 110, False, *((0, 100) if square else ()))
    up = Axis(
        [0, 100] if square else ys if least is None else [least, *ys],
        HEIGHT - BOTTOM,
        TOP,
        False,
        *((0, 100) if square else (least,)),
    )
    parts, taken = _frame(across, up, x, y), []
    if diagonal:
        parts.append(
            Markup('<line class="mark-line" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
                *map(_r, (across(0), up(0), across(100), up(100)))
            )
        )
    for number, (line, colour) in enumerate(zip(lines, _colours(lines))):
        style = Markup('class="line {} c{}"').format(line["kind"], colour)
        if band := [(a, lo, hi) for a, lo, hi in line.get("band", ()) if _known(lo) and _known(hi)]:
            outline = [(a, hi) for a, _, hi in band] + [(a, lo) for a, lo, _ in reversed(band)]
            parts.append(
                Markup('<polygon class="band c{}" points="{}"/>').format(colour, _path(outline, across, up, scale))
            )
        points = [(a, b) for a, b in line["points"] if _known(b)]
        parts.append(
            Markup('<g><title>{}</title><polyline {} points="{}"/></g>').format(
                line["name"], style, _path(points, across, up, scale)
            )
        )
        for a, b in points if not square else ():
            parts.append(
                Markup('<circle class="dot c{}" cx="{}" cy="{}" r="2.5"/>').format(
                    colour, _r(across(a)), _r(up(scale * b))
                )
            )
        if points:
            if square:  # curves end in one corner: their names are a key
                at = TOP + 12 + 16 * number
                parts.append(
                    Markup('<line {0} x1="{1}" x2="{2}" y1="{3}" y2="{3}"/>').format(
                        style, SMALL - RIGHT - 100, SMALL - RIGHT - 84, at - 4
                    )
                )
                parts.append(
                    Markup('<text class="name" x="{}" y="{}">{}</text>').format(
                        SMALL - RIGHT - 79, at, _short(line["name"], 15)
                    )
                )
            else:
                at = up(scale * points[-1][1])
                while any(abs(at - other) < 12 for other in taken) and at < HEIGHT - BOTTOM:
                    at += 3
                taken.append(at)
                parts.append(
                    Markup('<text class="name c{}" x="{}" y="{}">{}</text>').format(
                        colour, _r(across(points[-1][0]) + 6), _r(at + 4), _short(line["name"], 18)
                    )
                )
    return _svg(parts, describe, SMALL)


def histogram(series, x, describe="", bins=30):
    """Shares of each series' positive values per bin, the bins equally wide on a logarithmic axis. series: dicts of
    ``name``, ``values`` and ``kind``. Values below 10⁻⁵ stand in the first bin."""
    values = [min(max(v, 1e-5), 1e5) for s in series for v in s["values"] if _known(v)]
    if not values:
        return Markup("")
    across = Axis(values, LEFT, SMALL - RIGHT, log=True)
    step, counts = (across.high - across.low) / bins, []
    for s in series:
        mine = [0] * bins
        for v in filter(_known, s["values"]):
            mine[min(bins - 1, max(0, int((math.log10(max(v, 1e-5)) - across.low) / step)))] += 1
        counts.append([100 * c / max(1, len(s["values"])) for c in mine])
    up = Axis([0, 1.3 * max(map(max, counts))], HEIGHT - BOTTOM, TOP, least=0)  # the key stands above the lines
    parts = _frame(across, up, f"{x} (log)", "share, %")
    for number, (s, mine, colour) in enumerate(zip(series, counts, _colours(series))):
        outline = [(10 ** (across.low + edge * step), c) for k, c in enumerate(mine) for edge in (k, k + 1)]
        parts.append(
            Markup('<g><title>{}</title><polyline class="line {} c{}" points="{}"/></g>').format(
                s["name"], s["kind"], colour, _path(outline, across, up, 1)
            )
        )
        at = TOP + 12 + 16 * number
        parts.append(
            Markup(
                '<line class="line {0} c{1}" x1="{2}" x2="{3}" y1="{4}" y2="{4}"/><text class="name" x="{5}"'
                ' y="{6}">{7}</text>'
            ).format(s["kind"], colour, LEFT + 10, LEFT + 30, at - 4, LEFT + 36, at, s["name"])
        )
    return _svg(parts, describe, SMALL)


def critical_difference(ranks, difference, describe=""):
    """Demšar's diagram. ranks: (name, mean rank), best first; a bar joins methods that cannot be told apart."""
    from mubench.leaderboard.statistics import cliques

    k, half = len(ranks), math.ceil(len(ranks) / 2)
    groups = cliques([r for _, r in ranks], difference)
    top, step, width = 58 + 7 * len(groups), 17, 720
    left, right = 170, width - 170
    at = lambda rank: left + (rank - 1) / max(1, k - 1) * (right - left)
    parts = [Markup('<line class="axis" x1="{}" x2="{}" y1="40" y2="40"/>').format(left, right)]
    stride = max(1, round(k / 10))
    for tick in range(1, k + 1, stride):
        parts.append(
            Markup(
                '<line class="axis" x1="{0}" x2="{0}" y1="35" y2="40"/><text class="tick" x="{0}" y="30"'
                ' text-anchor="middle">{1}</text>'
            ).format(_r(at(tick)), tick)
        )
    span = min(difference, k - 1)
    parts.append(
        Markup(
            '<line class="cd" x1="{}" x2="{}" y1="10" y2="10"/><text class="note" x="{}" y="14">critical difference'
            " {}</text>"
        ).format(
            _r(left),
            _r(left + (at(1 + span) - at(1))),
            _r(left + (at(1 + span) - at(1)) + 6 if span < 0.7 * (k - 1) else right + 6),
            f"{difference:.1f}",
        )
    )
    for number, (first, last) in enumerate(groups):
        y = 48 + 7 * number
        parts.append(
            Markup('<line class="clique" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _r(at(ranks[first][1]) - 3), _r(at(ranks[last][1]) + 3), y, y
            )
        )
    for number, (name, rank) in enumerate(ranks):
        first = number < half
        y = top + step * (number if first else k - 1 - number)
        end, anchor = (left - 8, "end") if first else (right + 8, "start")
        parts.append(
            Markup(
                '<g><title>{4}: mean rank {5}</title><polyline class="stem" points="{0},40 {0},{1} {2},{1}"/>'
                '<text class="name" x="{3}" y="{6}" text-anchor="{7}">{8} {5}</text></g>'
            ).format(
                _r(at(rank)), y, end, end + (-4 if first else 4), name, f"{rank:.1f}", y + 4, anchor, _short(name, 20)
            )
        )
    return _svg(parts, describe, width, top + step * half)


# -- parts
# ---------------------------------------------------------------------------------------------------------------------


def _svg(parts, describe, width=WIDTH, height=HEIGHT):
    content = Markup("").join(parts)
    role = "group" if "<a " in content else "img"  # links in an image would not be announced
    return Markup('<svg{} viewBox="0 0 {} {}" role="{}" aria-label="{}">{}</svg>').format(
        Markup(' class="small"') if width == SMALL else "", width, height, role, describe, content
    )


def _frame(across, up, x, y):
    """Grid, ticks and titles of the axes."""
    parts, right = [], max(across.start, across.end)
    for tick in up.ticks:
        parts.append(
            Markup(
                '<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/><text class="tick" x="{3}" y="{4}"'
                ' text-anchor="end">{5}</text>'
            ).format(LEFT, _r(right), _r(up(tick)), LEFT - 7, _r(up(tick) + 4), _number(tick))
        )
    for tick in across.ticks:
        parts.append(
            Markup(
                '<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="tick" x="{0}" y="{3}"'
                ' text-anchor="middle">{4}</text>'
            ).format(_r(across(tick)), TOP, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 16, _number(tick))
        )
    parts.append(
        Markup('<text class="title" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            _r((LEFT + right) / 2), HEIGHT - 8, x
        )
    )
    parts.append(
        Markup('<text class="title" transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
            _r((HEIGHT - BOTTOM + TOP) / 2), y
        )
    )
    return parts


def _colours(lines):
    """A colour of the style sheet for each line: the first two are of original and retrain."""
    fixed, number, colours = {"original": 0, "retrain": 1}, 0, []
    for line in lines:
        colours.append(fixed.get(line["kind"], 2 + number % 6))
        number += line["kind"] not in fixed
    return colours


def _mark(kind, a, b):
    if kind == "original":
        return Markup('<rect class="mark original" x="{}" y="{}" width="9" height="9"/>').format(
            _r(a - 4.5), _r(b - 4.5)
        )
    if kind == "retrain":
        return Markup('<path class="mark retrain" d="M{0} {1}l6 6l-6 6l-6 -6z"/>').format(_r(a), _r(b - 6))
    return Markup('<circle class="mark method" cx="{}" cy="{}" r="4.5"/>').format(_r(a), _r(b))


def _free(a, b, name, taken):
    """Where a name can stand beside its mark without covering another: x, y and its box; None where there is no
    room.
    """
    wide = 7 * len(name)
    for x, y in (
        (a + 8, b + 4),
        (a - 8 - wide, b + 4),
        (a - wide / 2, b - 8),
        (a - wide / 2, b + 17),
        (a + 6, b - 7),
        (a + 6, b + 15),
    ):
        box = (x, y - 10, x + wide, y + 2)
        inside = x > LEFT and x + wide < WIDTH and y - 10 >= TOP and y < HEIGHT - BOTTOM + 4
        mine = lambda o: o == (a - 4, b - 4, a + 4, b + 4)
        if inside and not any(
            box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in taken if not mine(o)
        ):
            return x, y, box
    return None


def _path(points, across, up, scale):
    return " ".join(f"{_r(across(a))},{_r(up(scale * b))}" for a, b in points)


def _nice(step):
    power = 10.0 ** math.floor(math.log10(step))
    return power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= step - 1e-12)


def _number(value):
    if 0 < value < 0.01 and abs(math.log10(value) - round(math.log10(value))) < 1e-9:
        return "10" + str(round(math.log10(value))).translate(RAISED)
    return f"{value:.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def _known(value):
    return value is not None and math.isfinite(value)


def _short(name, most):
    return escape(name if len(name) <= most else name[: most - 1] + "…")


def _r(value):
    return f"{value:.1f}".removesuffix(".0")
