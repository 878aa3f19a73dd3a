"""Laws of forgetting: the known ones are recovered, and none is made of too little."""

import math

import numpy as np
import pytest

from made_runs import everything, frame
from mubench.leaderboard.studies.ablations import analyse
from mubench.leaderboard.studies.laws import fit


@pytest.mark.parametrize("b", [0.1, 0.5, 1.7])
def test_the_exponent_of_a_power_law_is_recovered(b):
    x = np.geomspace(1e9, 1e12, 12)
    law = fit(x, 0.2 + 0.7 * (x / 1e9) ** -b)
    assert (
        law.form == "power"
        and law.b == pytest.approx(b, rel=1e-3)
        and law.c == pytest.approx(0.2, abs=1e-3)
        and law.a == pytest.approx(0.7, abs=1e-3)
    )
    assert law.r2 == pytest.approx(1) and law.error == pytest.approx(0, abs=1e-4)


def test_the_rate_of_an_exponential_law_is_recovered_and_the_last_point_is_held_out():
    x = np.linspace(1e9, 1e10, 10)
    y = 0.1 + 0.8 * np.exp(-(x - 1e9) / 2e9)
    law = fit(x, y)
    assert (
        law.form == "exponential"
        and 1 / law.b == pytest.approx(2e9, rel=1e-3)
        and law(5e9) == pytest.approx(0.1 + 0.8 * math.exp(-2), abs=1e-4)
    )
    off = fit(x, [*y[:-1], 0.9])  # the law does not see the last point, its error does
    assert off.b == pytest.approx(law.b) and off.actual == 0.9 and off.error == pytest.approx(law.predicted - 0.9)


def test_noise_lowers_r_squared_and_the_exponent_stays_near():
    rng, x = np.random.default_rng(0), np.geomspace(1, 1000, 40)
    law = fit(x, 0.3 + 0.5 * x**-0.5 + rng.normal(0, 0.01, 40))
    assert 0.9 < law.r2 < 1 and law.b == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "x, y", [([1, 2, 3, 4], [4, 3, 2, 1]), ([1, 2, 3, 4, 5], [1, 1, 1, 1, 1]), ([0, 1, 2, 3, 4], [5, 4, 3, 2, 1])]
)
def test_no_law_is_fitted_to_few_points_or_to_no_change(x, y):
    assert fit(x, y) is None


def test_scale_says_the_law_of_every_curve_and_how_many_sizes_it_lacks():
    main, laws = analyse("scale", everything(tasks=("fashion",), methods=("salun",)).query("model == 'large'"))
    (law,) = laws.table.to_dict("records")
    assert law["over"] == "FLOPs along the run" and law["b"] == pytest.approx(0.2, abs=0.1) and law["r2"] > 0.97
    assert any(
        "fashion / salun: the forget score over parameters has 1 of the 5 points that a law needs" in sentence
        for sentence in main.missing
    )


def test_the_start_of_a_curve_is_a_point_but_on_no_log_axis_and_no_step_counts_twice():
    point = lambda step, score: {
        "step": step,
        "seconds": step,
        "flops": step * 1e9,
        "forget_score": score,
        "test_score": 0.9,
    }
    main, laws = analyse(
        "scale", frame([{"curve": [point(0, 1.0), *(point(s, 0.5 + 0.4 / s) for s in range(1, 8)), point(7, 0.6)]}])
    )
    assert (
        main.table["x"].tolist() == [s * 1e9 for s in range(8)]
        and main.table["n"].tolist() == [1] * 8
        and main.table["mean"].iloc[-1] == 0.6
    )
    assert min(main.rows[0][0].lines[0].x) == 1e9 and laws.table["points"].tolist() == [7]


def test_a_law_over_sizes_needs_five_models():
    sizes = [1e4, 1e5, 1e6, 1e7, 1e8, 1e9]
    curve = [
        {"step": s, "seconds": 1.0, "flops": s * 1e9, "forget_score": 0.5 - s / 100, "test_score": 0.9}
        for s in range(1, 9)
    ]
    runs = frame(
        [
            {"model": f"m{n}", "parameters": size, "forget_score": 0.2 + 0.6 * (size / 1e4) ** -0.3, "curve": curve}
            for n, size in enumerate(sizes)
        ]
    )
    laws = analyse("scale", runs)[1].table.query("over == 'parameters'")
    assert laws["law"].tolist() == ["power"] and laws["b"].iloc[0] == pytest.approx(0.3, rel=0.01)
