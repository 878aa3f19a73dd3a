"""Means, intervals, ranks and tests, on plain arrays; knows nothing of runs and files.

NumPy and SciPy give quantiles, ranks and tests. Ours is what they lack: the bootstrap over *all* resamples of a few
values (SciPy draws at random), t intervals of a mean over more than two groups, cliques and wins.
"""

import functools
import itertools
import math

import numpy as np

DRAWS = 1000  # bootstrap resamples where not all can be listed
EXACT = 5  # up to so many values all resamples are listed


def describe(values, level=0.95):
    """The mean of each row, and its intervals.

    values: [rows, runs]; NaN stands for no value.
    level: of the intervals, in (0, 1).

    Returns five arrays [rows]: mean, half-width of the Student-t interval, low and high end of the percentile
    bootstrap, number of values. Intervals of fewer than two values are NaN.
    """
    values = np.sort(np.asarray(values, "float64"), axis=1)  # NaN last; the order of runs cannot change the last bit
    counts = (~np.isnan(values)).sum(axis=1)
    mean, half, low, high = np.full((4, len(values)), np.nan)
    for n in np.unique(counts[counts > 0]):
        rows = counts == n
        present = values[rows, :n]
        mean[rows] = present.mean(axis=1)
        if n > 1:
            half[rows] = student(n, level) * present.std(axis=1, ddof=1) / math.sqrt(n)
            low[rows], high[rows] = bootstrap(present, level)
    return mean, half, low, high, counts


def student(n, level=0.95):
    """The quantile of Student's t by which the standard error of a mean is multiplied.

    n: number of values, or an array of numbers; NaN comes of fewer than two.
    """
    from scipy.stats import t

    return t.ppf((1 + level) / 2, np.asarray(n) - 1)


# -- bootstrap ---------------------------------------------------------------------------------------------------------


def bootstrap(values, level=0.95, chunk=20_000):
    """Ends of the percentile bootstrap interval of the mean of each row, [2, rows].

    values: [rows, n], none missing.
    chunk: rows that are worked on at once.

    All multisets of n values count with their probabilities for n ≤ 5, else 1,000 draws, always the same.
    """
    values = np.sort(values, axis=1)
    weights, probabilities = resamples(values.shape[1])
    found = np.empty((2, len(values)))
    for start in range(0, len(values), chunk):
        rows = slice(start, start + chunk)
        means = values[rows] @ weights.T
        if values.shape[1] > EXACT:
            found[:, rows] = ends(means, level)
            continue
        equal = (values[rows, 1:] == values[rows, :-1]).any(axis=1)  # then means are, but for a last bit
        for some, known in ((equal, None), (~equal, weights)):
            found[:, rows][:, some] = weighted_ends(means[some], probabilities, level, known)
    return found


@functools.cache
def resamples(n):
    """Weights [resamples, n] that give the mean of each resample, and the probability of each."""
    if n > EXACT:
        return draws(n), np.full(DRAWS, 1 / DRAWS)
    multisets = itertools.combinations_with_replacement(range(n), n)
    counts = np.array([np.bincount(chosen, minlength=n) for chosen in multisets])
    orders = math.factorial(n) / np.array([math.prod(map(math.factorial, row)) for row in counts.tolist()])
    return counts / n, orders / n**n


@functools.cache
def draws(n):
    """Weights [1000, n] of resamples drawn with a fixed seed."""
    drawn = np.random.RandomState(0).randint(n, size=(DRAWS, n))
    return np.array([np.bincount(row, minlength=n) for row in drawn]) / n


def resampled(values, group=0):
    """Bootstrap means of each row, […, rows, runs] → […, rows, 1000].

    group: a number. All rows of a group have the same draws, and those of different groups are independent: so
    averaging column by column gives the bootstrap of a mean over groups, seeds being drawn within each.
    """
    order = np.random.RandomState(group).permutation(DRAWS)
    return np.sort(values, axis=-1) @ draws(values.shape[-1])[order].T


def ends(means, level=0.95):
    """Low and high end of the middle ``level`` of each row of equally likely means, [2, rows]; NaN where one is."""
    return np.quantile(means, _tails(level), axis=1, method="inverted_cdf")


def weighted_ends(means, probabilities, level=0.95, weights=None):
    """As `ends`, for means [rows, resamples] that have probabilities [resamples].

    weights: [resamples, n] of values in ascending order: many a resample is then surely not above another one, and few
        can be an end at all. None: it is not known which.
    """
    surely = np.eye(len(probabilities), dtype=bool)  # [i, j]: i is not above j, whatever the values are
    if weights is not None:
        reach = np.cumsum(weights, axis=1)
        surely = (reach[:, None] >= reach - 1e-9).all(axis=2)
    found = []
    for share in _tails(level):
        below = surely @ probabilities - probabilities > 1 - share + 1e-9  # so much is not below it that it counts
        open_ = ~below & (probabilities @ surely - probabilities < share - 1e-9)
        some, chance = means[:, open_], probabilities[open_]
        order = np.argsort(some, axis=1)
        reached = probabilities[below].sum() + np.cumsum(chance[order], axis=1)
        position = np.minimum((reached < share - 1e-9).sum(axis=1), len(chance) - 1)[:, None]
        found.append(np.take_along_axis(some, np.take_along_axis(order, position, axis=1), axis=1)[:, 0])
    return np.stack(found)


def _tails(level):
    """The shares of a distribution below the low and the high end of its middle."""
    return np.round([(1 - level) / 2, (1 + level) / 2], 12)


# -- over groups -------------------------------------------------------------------------------------------------------


def pool(means, halves, counts, level=0.95):
    """Mean over groups of independent means, and its t interval (degrees of freedom by Welch and Satterthwaite).

    means, halves, counts: [rows, groups], as `describe` gives them.

    Returns two arrays [rows], mean and half-width. NaN where a group has no mean; the half-width also where a group
    has no interval.
    """
    from scipy.stats import t

    factors = student(np.arange(int(counts.max(initial=0)) + 1), level)
    variance = (halves / factors[counts.astype(int)]) ** 2
    total = variance.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = np.where(total > 0, total**2 / (variance**2 / (counts - 1)).sum(axis=1), 1)
    return means.mean(axis=1), t.ppf((1 + level) / 2, freedom) * np.sqrt(total) / means.shape[1]


def friedman(scores):
    """Whether methods can be told apart over several tasks (Demšar 2006).

    scores: [methods, tasks], higher better, none missing. Ties get mean ranks.

    Returns mean ranks [methods], Friedman's p-value, and Nemenyi's critical difference at 5 %: two methods whose mean
    ranks differ by less cannot be told apart. The p-value needs three methods and two tasks, else it is NaN.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    methods, tasks = scores.shape
    ranks = rankdata(-scores, axis=0)
    if methods < 2 or tasks < 1:
        return ranks.mean(axis=1), math.nan, math.nan
    testable = methods > 2 and tasks > 1 and np.ptp(ranks) > 0
    p = float(friedmanchisquare(*scores).pvalue) if testable else math.nan
    quantile = float(studentized_range.ppf(0.95, methods, np.inf)) / math.sqrt(2)
    return ranks.mean(axis=1), p, quantile * math.sqrt(methods * (methods + 1) / (6 * tasks))


def cliques(ranks, difference):
    """The maximal runs of methods that lie within the critical difference.

    ranks: mean ranks.

    Returns (first, last) positions among the sorted ranks.
    """
    ranks = np.sort(ranks)
    found = []
    for first, value in enumerate(ranks):
        last = int(np.searchsorted(ranks, value + difference, "right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def wins(scores):
    """How often each method beats each other one.

    scores: [methods, tasks], higher better, NaN where missing.

    Returns two arrays [methods, methods]: the share of the tasks both have in which the row's method scores higher,
    ties counting half, NaN where there is no such task; and the number of those tasks.
    """
    present = ~np.isnan(scores)
    common = present.astype(int) @ present.T.astype(int)
    wins = [((row > scores) + 0.5 * (row == scores)).sum(axis=1) for row in scores]
    with np.errstate(invalid="ignore"):
        return np.reshape(wins, common.shape) / np.where(common, common, np.nan), common
