"""Demšar's critical-difference diagram.

Libraries draw it too (scikit-posthocs, autorank), but bring seaborn and statsmodels and draw through pyplot's state.
"""

import math

from matplotlib.figure import Figure

from mubench.leaderboard.charts.drawing import settings
from mubench.leaderboard.charts.labels import short
from mubench.leaderboard.charts.page import embed
from mubench.leaderboard.charts.panel import COLOURS, INK, SOFT
from mubench.leaderboard.statistics import cliques

WIDTH, SIDE, FONT = 720, 170, 13  # of the diagram, of the names on each side
AXIS, STEP, BAR = 40, 17, 7  # down to the axis; from name to name; from bar to bar


def critical_difference(ranks, difference, describe):
    """The diagram as SVG for a page: a bar joins methods that cannot be told apart.

    ranks: (name, mean rank) of each method, best first.
    difference: the least difference of mean ranks that is more than chance.
    describe: what a screen reader says.
    """
    groups = cliques([rank for _, rank in ranks], difference)
    top, half = AXIS + 18 + BAR * len(groups), math.ceil(len(ranks) / 2)
    height = top + STEP * half
    with settings(FONT):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        ax.set_axis_off()
        _axis(ax, len(ranks), difference)
        for number, (first, last) in enumerate(groups):
            ends = [_across(ranks[first][1], len(ranks)) - 3, _across(ranks[last][1], len(ranks)) + 3]
            ax.plot(ends, [AXIS + 8 + BAR * number] * 2, color=INK, linewidth=3, solid_capstyle="round")
        for number, (name, rank) in enumerate(ranks):
            row = number if number < half else len(ranks) - 1 - number
            _name(ax, f"line-{number}", short(name), rank, len(ranks), top + STEP * row, left=number < half)
        hovers = {f"line-{number}": (f"{name}: mean rank {rank:.1f}", "") for number, (name, rank) in enumerate(ranks)}
        return embed(figure, describe, hovers)


def _across(rank, k):
    """Where a mean rank of k methods stands."""
    return SIDE + (rank - 1) / max(1, k - 1) * (WIDTH - 2 * SIDE)


def _axis(ax, k, difference):
    """The ranks from 1 to k, and the length of the critical difference above them."""
    ax.plot([SIDE, WIDTH - SIDE], [AXIS, AXIS], color=SOFT, linewidth=1)
    for rank in range(1, k + 1, max(1, round(k / 10))):
        ax.plot([_across(rank, k)] * 2, [AXIS - 5, AXIS], color=SOFT, linewidth=1)
        ax.text(_across(rank, k), AXIS - 9, rank, ha="center", fontsize="small", color=SOFT)
    end = _across(1 + min(difference, k - 1), k)
    ax.plot([SIDE, end], [10, 10], color=COLOURS[0], linewidth=3)
    note = end + 6 if end < SIDE + 0.7 * (WIDTH - 2 * SIDE) else WIDTH - SIDE + 6
    ax.text(note, 14, f"critical difference {difference:.1f}", fontsize="small", color=SOFT)


def _name(ax, gid, name, rank, k, height, left):
    """A method's name at the side, and a line from it to its mean rank."""
    x, side = _across(rank, k), SIDE - 8 if left else WIDTH - SIDE + 8
    ax.plot([x, x, side], [AXIS, height, height], color=SOFT, linewidth=1, gid=gid)
    at, align = (side - 4, "right") if left else (side + 4, "left")
    ax.text(at, height + 4, f"{name} {rank:.1f}", ha=align, fontsize="small")
