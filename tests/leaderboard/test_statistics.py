"""Means, intervals and tests against SciPy and against what is known by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from mubench.leaderboard import statistics as s

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_describe_agrees_with_scipy(n):
    values = RNG.normal(size=(7, n))
    mean, half, low, high, known = s.describe(values)
    for row, m, h, a, b, k in zip(values, mean, half, low, high, known, strict=True):
        first, last = stats.t.interval(0.95, n - 1, row.mean(), stats.sem(row))
        assert m == pytest.approx(row.mean()) and h == pytest.approx((last - first) / 2) and k == n
        assert row.min() <= a <= m <= b <= row.max()


def test_missing_values_are_not_counted_and_one_value_has_no_interval():
    mean, half, low, high, known = s.describe([[1.0, np.nan, 3.0], [np.nan] * 3, [np.nan, 5.0, np.nan]])
    assert known.tolist() == [2, 0, 1] and mean[0] == 2 and math.isnan(mean[1]) and mean[2] == 5
    assert half[0] > 0 and np.isnan([half[1], half[2], low[2], high[2]]).all()


def test_the_order_of_runs_changes_no_bit():
    values = RNG.normal(size=(50, 5))
    assert all(np.array_equal(a, b) for a, b in zip(s.describe(values), s.describe(values[:, ::-1]), strict=True))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_bootstrap_of_few_values_lists_all_resamples(n):
    values = np.sort(RNG.normal(size=n))
    grid = np.stack(np.meshgrid(*[values] * n)).reshape(n, -1).mean(axis=0)  # all n^n resamples, equally likely
    expected = np.quantile(grid, [0.025, 0.975], method="inverted_cdf")
    assert s.bootstrap(values[None])[:, 0] == pytest.approx(expected)
    weights, chance = s.resamples(n)
    assert chance.sum() == pytest.approx(1) and weights.sum(axis=1) == pytest.approx(np.ones(len(weights)))


def test_the_bootstrap_of_many_values_agrees_with_scipy():
    values = RNG.normal(size=40)
    found = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    assert s.bootstrap(values[None])[:, 0] == pytest.approx([found.low, found.high], abs=0.05)
    assert np.array_equal(s.bootstrap(values[None]), s.bootstrap(values[None]))


def test_pooled_intervals_follow_welch_and_satterthwaite():
    a, b = RNG.normal(size=4), RNG.normal(1, 3, size=6)
    mean, half, *_ = s.describe([a.tolist() + [np.nan] * 2, b])
    pooled, found = s.pool(mean[None], half[None], np.array([[4, 6]]))
    assert pooled[0] == pytest.approx((a.mean() + b.mean()) / 2)
    welch = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)  # of a.mean() + b.mean()
    assert 2 * found[0] == pytest.approx((welch.high - welch.low) / 2)
    assert np.isnan(s.pool(mean[None], np.array([[half[0], np.nan]]), np.array([[4, 1]]))[1]).all()


def test_friedman_and_nemenyi():
    table = np.arange(5)[:, None] + RNG.normal(size=(5, 10)) * 0.1
    ranks, p, difference = s.friedman(table)
    assert ranks.tolist() == [5, 4, 3, 2, 1] and p == pytest.approx(stats.friedmanchisquare(*table).pvalue) and p < 1e-6
    assert difference == pytest.approx(
        2.728 * math.sqrt(5 * 6 / (6 * 10)), abs=1e-3
    )  # q(0.05, 5) of Demšar 2006, Table 5
    assert s.friedman(np.ones((3, 4)))[0].tolist() == [2, 2, 2] and math.isnan(s.friedman(np.ones((3, 4)))[1])


def test_cliques_are_maximal():
    assert (
        s.cliques([1, 2, 3, 6], 2) == [(0, 2)]
        and s.cliques([1, 2, 3, 4], 2) == [(0, 2), (1, 3)]
        and s.cliques([1, 5], 2) == []
    )


def test_wins_count_common_tasks_and_ties_half():
    share, common = s.wins(np.array([[0.9, 0.5, np.nan], [0.1, 0.5, 0.4], [np.nan, np.nan, 0.6]]))
    assert (
        share[0, 1] == 0.75
        and share[1, 0] == 0.25
        and common[0, 1] == 2
        and share[2, 1] == 1
        and math.isnan(share[0, 2])
    )
