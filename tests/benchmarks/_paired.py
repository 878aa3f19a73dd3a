"""Paired timing: both sides alternate in one process, so that a busy machine slows both; the median of ratios is
reported.
"""

import gc
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


def cpu_seconds(sides, rounds):
    """Name → for each round the CPU seconds until each of its parts was done. Every round swaps the order of the sides.

    sides: name → a function that sets up, off the clock, and returns the parts, functions timed one after another.
    """
    seconds = {name: [] for name in sides}
    for i in range(rounds):
        for name in [*sides][:: -1 if i % 2 else 1]:
            parts = sides[name]()
            gc.collect()
            start, until = time.process_time(), []
            for part in parts:
                part()
                until.append(time.process_time() - start)
            seconds[name].append(until)
    return seconds


def judged(ratios, least):
    """Whether ratios reach the least that is asked for: ``not resolved`` where it lies within their range."""
    if min(ratios) >= least:
        return "reached"
    return "missed" if max(ratios) < least else "not resolved"
