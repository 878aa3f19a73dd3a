"""Means, intervals, ranks and tests, on plain arrays and frames; knows nothing of runs and files."""

import functools
import itertools
import math

import numpy as np
import pandas as pd

DRAWS = 1000  # bootstrap resamples where not all can be listed
EXACT = 5  # up to so many values all resamples are listed


def describe(values, level=0.95):
    """Mean, half-width of the Student-t interval, low and high end of the percentile bootstrap, and n of each row of
    [rows, runs].

    NaN stands for no value. Intervals of fewer than two values are NaN.
    """
    values = np.sort(
        np.asarray(values, "float64"), axis=1
    )  # NaN last; sorted, so that the order of runs cannot change the last bit
    known = (~np.isnan(values)).sum(axis=1)
    mean, half, low, high = np.full((4, len(values)), np.nan)
    for n in np.unique(known[known > 0]):
        rows = known == n
        mean[rows] = values[rows, :n].mean(axis=1)
        if n > 1:
            half[rows] = student(n, level) * values[rows, :n].std(axis=1, ddof=1) / math.sqrt(n)
            low[rows], high[rows] = bootstrap(values[rows, :n], level)
    return mean, half, low, high, known


@functools.cache
def student(n, level=0.95):
    """The quantile of Student's t by which the standard error of n values is multiplied."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, n - 1))


def bootstrap(values, level=0.95, chunk=20_000):
    """Ends of the percentile bootstrap interval of the mean of each row of [rows, n], no value missing.

    All multisets of n values with their probabilities for n ≤ 5, else 1,000 draws, always the same.
    """
    weights, chance = resamples(values.shape[1])
    found, shares = np.empty((2, len(values))), ((1 - level) / 2, (1 + level) / 2)
    for start in range(0, len(values), chunk):
        means, mine = values[start : start + chunk] @ weights.T, slice(start, start + chunk)
        if values.shape[1] > EXACT:
            found[:, mine] = ends(means, level)
            continue
        order = np.argsort(means, axis=1)
        below = np.cumsum(chance[order], axis=1)
        for end, share in zip(found, shares):
            position = np.minimum((below < share - 1e-9).sum(axis=1), len(weights) - 1)
            end[mine] = np.take_along_axis(means, np.take_along_axis(order, position[:, None], 1), 1)[:, 0]
    return found


@functools.cache
def resamples(n):
    """Weights [resamples, n] that give the mean of each resample, and the probability of each."""
    if n <= EXACT:
        counts = np.array(
            [np.bincount(chosen, minlength=n) for chosen in itertools.combinations_with_replacement(range(n), n)]
        )
        chance = math.factorial(n) / np.array([math.prod(map(math.factorial, row)) for row in counts.tolist()]) / n**n
        return counts / n, chance
    return draws(n), np.full(DRAWS, 1 / DRAWS)


@functools.cache
def draws(n):
    """Weights [1000, n] of resamples drawn with a fixed seed."""
    drawn = np.random.RandomState(0).randint(n, size=(DRAWS, n))
    return np.array([np.bincount(row, minlength=n) for row in drawn]) / n


def resampled(values, group=0):
    """[rows, runs] → [rows, 1000]: bootstrap means of each row. The same draws for all rows of a ``group``, independent
    ones from group to group, so that averaging column by column gives the bootstrap of a mean over groups, seeds being
    drawn within each."""
    order = np.random.RandomState(group).permutation(DRAWS)
    return np.sort(values, axis=1) @ draws(values.shape[1])[order].T


def pool(means, halves, ns, level=0.95):
    """Mean over groups of the independent means in each row of [rows, groups], and half-width of its t interval
    (degrees of freedom by Welch and Satterthwaite).

    NaN where a group has no mean; the half-width also where a group has no interval.
    """
    from scipy.stats import t

    factors = np.array([student(n, level) if n > 1 else np.nan for n in range(int(max(ns.max(initial=0), 0)) + 1)])
    variance = (halves / factors[ns.astype(int)]) ** 2
    total = variance.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = np.where(total > 0, total**2 / (variance**2 / (ns - 1)).sum(axis=1), 1)
    return means.mean(axis=1), t.ppf((1 + level) / 2, freedom) * np.sqrt(total) / means.shape[1]


def ends(means, level=0.95):
    """Low and high end of the middle ``level`` of each row of equally likely means; NaN where one is."""
    positions = [math.ceil(share * means.shape[1] - 1e-9) - 1 for share in ((1 - level) / 2, (1 + level) / 2)]
    return np.where(np.isnan(means).any(axis=1), np.nan, np.partition(means, positions, axis=1)[:, positions].T)


def rank(values, higher=True, method="min"):
    """Ranks from 1, equal values sharing the best rank (``min``) or the mean rank (``average``); NaN is not ranked."""
    return pd.Series(values).rank(ascending=not higher, method=method).to_numpy()


def friedman(table):
    """Of scores [methods, tasks], higher better, none missing: mean ranks, Friedman's p-value, Nemenyi's critical
    difference at 5 %.

    Two methods whose mean ranks differ by less than the critical difference cannot be told apart (Demšar 2006). The
    p-value needs three methods and two tasks, else it is NaN. Ties get mean ranks.
    """
    from scipy.stats import friedmanchisquare, studentized_range

    k, n = table.shape
    ranks = pd.DataFrame(table).rank(ascending=False, method="average").to_numpy()
    if k < 2 or n < 1:
        return ranks.mean(axis=1), math.nan, math.nan
    p = float(friedmanchisquare(*table).pvalue) if k > 2 and n > 1 and np.ptp(ranks) > 0 else math.nan
    q = float(studentized_range.ppf(0.95, k, np.inf)) / math.sqrt(2)
    return ranks.mean(axis=1), p, q * math.sqrt(k * (k + 1) / (6 * n))


def cliques(ranks, difference):
    """The maximal runs of methods, sorted by mean rank, that lie within the critical difference: (first, last)
    positions.
    """
    ranks = np.sort(ranks)
    found = []
    for first, value in enumerate(ranks):
        last = int(np.searchsorted(ranks, value + difference, "right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def wins(table):
    """Of scores [methods, tasks] (NaN where missing): [methods, methods], the share of the tasks both have in which the
    row's method scores higher, ties counting half; and the number of those tasks. NaN where there is none."""
    here = ~np.isnan(table)
    common = here.astype(int) @ here.T.astype(int)
    better = (
        np.stack([((row > table) + 0.5 * (row == table)).sum(axis=1) for row in table])
        if len(table)
        else np.empty((0, 0))
    )
    with np.errstate(invalid="ignore"):
        return better / np.where(common, common, np.nan), common
