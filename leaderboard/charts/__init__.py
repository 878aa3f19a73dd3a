"""Figures: one description (`Panel`), one drawer (Matplotlib), two ends (`inline` for pages, `save` for files)."""

from mubench.leaderboard.charts.drawing import DPI, drawn, save
from mubench.leaderboard.charts.page import inline
from mubench.leaderboard.charts.panel import COLOURS, FIXED, Line, Panel
from mubench.leaderboard.charts.ranks import critical_difference

__all__ = ["COLOURS", "DPI", "FIXED", "Line", "Panel", "critical_difference", "drawn", "inline", "save"]
