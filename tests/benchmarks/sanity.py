"""What a benchmark of unlearning stands on, for every mini task: the original knows the forget set as well as the
retain set, the retrained model no better than the test set, and an attacker on the loss sees the one and not the other.

    python tests/benchmarks/sanity.py [RESULTS [all]]     # runs `original` and `retrain` at 5 % with seed 0 where
    RESULTS lacks them

Per cent; "off" marks a row where |forget − retain| of the original or |forget − test| of retrain is over 3 binomial
standard errors of the forget score, or where the attack's AUC is not over 55 (original) or not within 3 standard errors
of 50 (retrain).
"""

import sys

from tabulate import tabulate

from mubench.records.result import read
from mubench.records.store import Store
from mubench.sweep import grid


def main(out="results/sanity", models=None):
    """``models``: \"all\", or each task's first."""
    specs, _ = grid.expand(["mini"], ["original", "retrain"], models=models and [models])
    grid.sweep(specs, out)
    store, rows, pairs = Store(out), [], {}
    for spec in specs:
        pairs.setdefault((spec.task, spec.model), {})[spec.method] = read(store.path(spec))
    for (task, model), pair in pairs.items():
        o, r = (pair[m].metrics for m in ("original", "retrain"))
        n, shown = pair["original"].split["forget"], pair["original"].predictions["rows"]
        spread = lambda p, n=n: 3 * (max(p * (1 - p), 1 / n) / n) ** 0.5
        off = [
            what
            for what, holds in {
                "original": abs(o["forget_score"] - o["retain_score"]) <= spread(o["forget_score"]),
                "retrain": abs(r["forget_score"] - r["test_score"])
                <= spread(r["forget_score"]) + spread(r["test_score"]) / 2,
                "MIA original": o["mia_loss_auc"] > 0.55,
                "MIA retrain": abs(r["mia_loss_auc"] - 0.5) <= 3 * (1 / 12 / n + 1 / 12 / (shown / 4)) ** 0.5,
            }.items()
            if not holds
        ]
        rows.append(
            [
                f"{task}/{model}",
                n,
                *(
                    f"{100 * v:.1f}"
                    for v in (
                        o["forget_score"],
                        o["retain_score"],
                        r["forget_score"],
                        r["test_score"],
                        o["mia_loss_auc"],
                        r["mia_loss_auc"],
                        pair["original"].task["random_guess"],
                    )
                ),
                ", ".join(off),
            ]
        )
    head = [
        "task/model",
        "|D_f|",
        "original: forget",
        "retain",
        "retrain: forget",
        "test",
        "MIA: original",
        "retrain",
        "random",
        "off",
    ]
    print(tabulate(rows, head, disable_numparse=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
