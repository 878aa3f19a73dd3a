"""One run as a page: a single HTML file that needs nothing else, made from stored predictions and the task's data;
loads no model.
"""

from mubench.leaderboard.report.page import report

__all__ = ["report"]
