"""Paired timing: both sides alternate in one process, so that a busy machine slows both; the median of ratios is
reported.
"""

import statistics
import time


def ratio(ours, theirs, pairs=5):
    """Median over ``pairs`` of seconds(ours) / seconds(theirs), the order swapped every time; and the spread."""
    ratios = []
    for i in range(pairs):
        seconds = {}
        for name, function in (("ours", ours), ("theirs", theirs))[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            function()
            seconds[name] = time.perf_counter() - start
        ratios.append(seconds["ours"] / seconds["theirs"])
    return statistics.median(ratios), min(ratios), max(ratios)
