"""Verdicts on made-up runs whose answer is known by hand."""

import pandas as pd
import pytest

from made_runs import frame
from mubench.leaderboard.studies.claims import CLAIMS
from mubench.leaderboard.studies.runs import METHODS
from mubench.leaderboard.studies.verdicts import FAILS, HOLDS, OPEN, exhibits, judge_claim

CLAIM = {claim.name: claim for claim in CLAIMS}


def runs(values, column="gap_to_retrain", tasks=("fashion", "people", "messenger"), seeds=(0, 1), **more):
    """method → value; each task and seed adds the same to all methods."""
    return [
        {"method": method, "task": task, "seed": seed, column: value + 0.1 * t + 0.01 * seed, **more}
        for method, value in values.items()
        for t, task in enumerate(tasks)
        for seed in seeds
    ]


def verdict(name, rows):
    found, missing, table = judge_claim(CLAIM[name], frame(rows))
    assert bool(missing) == (found == OPEN)
    return found, table


def test_an_interval_by_hand():
    gaps = ("a", (0.3, 0.5)), ("b", (0.3, 0.6)), ("c", (0.3, 0.7))
    rows = [
        {"method": m, "task": task, "gap_to_retrain": v}
        for task, both in gaps
        for m, v in zip(("rand_label", "scrub"), both, strict=True)
    ]
    table = (
        verdict("robust", rows)[1].set_index("compared").loc["rand_label over scrub"]
    )  # differences 0.2, 0.3, 0.4; t(0.975, 2) = 4.3027
    assert table["mean"] == pytest.approx(0.3) and table["n"] == 3 and table["over"] == "tasks"
    assert table["high"] - table["mean"] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)


def test_a_claim_holds_where_all_differences_do_and_fails_where_one_is_the_other_way():
    assert (
        verdict("robust", runs({"rand_label": 0.1, "salun": 0.2, "neggrad": 0.9, "bad_t": 0.5, "scrub": 0.4}))[0]
        == HOLDS
    )
    near = runs({"rand_label": 0.1, "salun": 0.2, "neggrad": 0.9, "bad_t": 0.15, "scrub": 0.4})
    assert verdict("robust", near)[0] == FAILS


def test_an_interval_that_holds_0_and_runs_that_are_not_there_are_not_enough_data():
    level = runs({"rand_label": 0.1, "salun": 0.2, "neggrad": 0.9, "bad_t": 0.5}) + [
        {"method": "scrub", "task": task, "seed": 0, "gap_to_retrain": value}
        for task, value in (("fashion", 0.9), ("people", -0.4))
    ]
    found, missing, _ = judge_claim(CLAIM["robust"], frame(level))
    assert found == OPEN and missing == "rand_label over scrub, salun over scrub: the interval holds 0"
    assert (
        "rand_label over bad_t, rand_label over scrub"
        in judge_claim(CLAIM["robust"], frame(runs({"rand_label": 0.1})))[1]
    )


def test_one_task_alone_is_judged_over_its_seeds_and_tuned_runs_do_not_count():
    gaps = {"rand_label": 0.1, "salun": 0.2, "neggrad": 0.9, "bad_t": 0.5, "scrub": 0.4}
    rows = runs(gaps, tasks=("fashion",), seeds=(0, 1, 2))
    tuned = [{**row, "params": '{"lr": 1}', "gap_to_retrain": -9.0} for row in rows if row["method"] == "scrub"]
    found, table = verdict("robust", rows + tuned)
    assert found == HOLDS and set(table["over"]) == {"seeds"} and set(table["n"]) == {3}


def test_neggrad_is_destructive_where_it_loses_more_than_the_margin_on_both_sets():
    def rows(test, retain):
        return [
            {
                "method": m,
                "task": t,
                "test_score": 0.9 - (m == "neggrad") * test,
                "retain_score": 0.95 - (m == "neggrad") * retain,
            }
            for m in ("original", "neggrad")
            for t in ("a", "b")
        ]

    assert [verdict("destructive", rows(*drops))[0] for drops in ((0.05, 0.03), (0.05, 0.01), (0.01, 0.01))] == [
        HOLDS,
        FAILS,
        FAILS,
    ]


def test_kinds_of_tasks_are_compared_as_groups():
    def rows(**values):
        return [
            {"method": m, "task": f"{kind}{n}", "modality": kind, "gap_to_retrain": value + n / 100}
            for kind, value in values.items()
            for m in METHODS
            for n in range(3)
        ]

    assert verdict("hard", rows(image=0.2, speech=0.5, video=0.5, generation=0.5))[0] == HOLDS
    # Each group: s² = 10⁻⁴, 4 degrees of freedom, t = 2.7764.
    found, table = verdict("hard", rows(image=0.2, speech=0.5, video=0.1, generation=0.5))
    assert found == FAILS and (table["high"] - table["mean"]).tolist() == pytest.approx(
        [2.7764 * (1e-4 * 2 / 3) ** 0.5] * 3, rel=1e-4
    )
    assert verdict("hard", rows(image=0.2, speech=0.5))[0] == OPEN


def test_adapters_are_judged_on_both_sides_of_one_half():
    def rows(forget):
        return [{"method": "original", "task": t, "forget_score": 1.0} for t in ("a", "b")] + [
            {"method": "salun", "task": t, "forget_score": value, "options": {"lora": share}}
            for share, value in forget.items()
            for t in ("a", "b")
        ]

    assert verdict("adapters", rows({1.0: 1.0, 25.0: 0.99, 50.0: 0.8, 75.0: 0.7}))[0] == HOLDS
    assert verdict("adapters", rows({1.0: 0.9, 25.0: 0.9, 50.0: 0.8, 75.0: 0.7}))[0] == FAILS
    assert verdict("adapters", rows({1.0: 1.0}))[0] == OPEN


def test_the_curriculum_is_compared_with_the_same_method_and_seed():
    def rows(change):
        plain = runs({"salun": 0.5, "scrub": 0.7}, "forget_score")
        return plain + [
            {**row, "forget_score": row["forget_score"] + change, "options": {"curriculum": "superloss"}}
            for row in plain
        ]

    assert [verdict("curriculum", rows(change))[0] for change in (0.1, 0.0, -0.1)] == [HOLDS, OPEN, FAILS]


def test_capacities_are_compared_over_the_ratios_that_both_have():
    def rows(last, ratios=range(1, 7)):  # the original: 0.9; a method keeps it up to the ratio said
        return [
            {"method": m, "task": t, "ratio": str(r), "test_score": 0.9 if r <= last.get(m, 6) + shift else 0.5}
            for m in METHODS
            for t, shift in (("a", 0), ("b", 0))
            for r in ratios
        ]

    found, table = verdict("capacity", rows({"bad_t": 2}))
    assert found == HOLDS and table["mean"].tolist() == [4] * 4
    assert verdict("capacity", rows({"scrub": 1, "bad_t": 2}))[0] == FAILS
    assert verdict("capacity", rows({"bad_t": 2}, ratios=(1, 2, 5, 10)))[0] == OPEN


def test_speed_is_a_ratio_of_work():
    fast = {"neggrad": 1.0, "scrub": 2.0, "bad_t": 4.0, "rand_label": 8.0, "salun": 8.0}
    rows = [{"method": m, "task": t, "flops": s} for m, s in fast.items() for t in ("a", "b")]
    found, table = verdict("fast", rows)
    assert (
        found == HOLDS
        and exhibits(frame(rows))[1].cells.set_index("compared").loc["bad_t by scrub", "difference"] == "×2.00"
    )
    faster = [{**row, "flops": 3.0 if row["method"] == "bad_t" else row["flops"] * 2} for row in rows]
    assert verdict("fast", faster)[0] == FAILS
    elsewhere = [{**row, "ratio": "2"} if row["method"] in ("neggrad", "scrub") else row for row in rows]
    assert verdict("fast", elsewhere)[0] == OPEN and table["n"].tolist() == [2] * 6


def test_measures_of_knowledge_are_those_of_the_taxonomy():
    assert verdict("loss", runs({"salun": 0.2, "npo": 0.4, "bad_t": 0.5}))[0] == HOLDS
    assert verdict("loss", runs({"salun": 0.6, "bad_t": 0.5, "rmu": -9.0}))[0] == FAILS


def test_runs_of_several_states_of_the_code_are_not_mixed():
    rows = runs({"rand_label": 0.1, "salun": 0.2, "neggrad": 0.9, "bad_t": 0.5, "scrub": 0.4})
    other = [{**row, "gap_to_retrain": 0.0, "fingerprint": "b" * 16} for row in rows if row["method"] == "scrub"]
    once = [row for row in other if row["seed"] == 0]
    assert verdict("robust", rows + once)[0] == HOLDS
    later = [{**row, "started": "2027-01-01T00:00:00Z"} for row in other]
    assert verdict("robust", rows + later)[0] == FAILS


def test_every_claim_is_shown_with_its_rule_and_what_is_missing():
    verdicts, numbers = exhibits(frame([{}]))
    assert set(verdicts.table["verdict"]) == {OPEN} and len(verdicts.missing) == len(CLAIMS) == 8
    assert set(verdicts.cells["rule"]) == {claim.rule for claim in CLAIMS} and set(numbers.cells["says"]) == {OPEN}
    assert "mubench ablate lora" in " ".join(verdicts.missing) and isinstance(numbers.table, pd.DataFrame)
