"""The figures of the site, from rows of a board."""

import numpy as np

from mubench.leaderboard.charts import Line, Panel, critical_difference, inline
from mubench.leaderboard.columns import RANKED, RATES
from mubench.leaderboard.rows import REFERENCES, standard

ROC_LINES, RATIO_LINES = 6, 8


def colours(methods):
    """A colour for each: references have their own, the others are counted."""
    number, found = 0, []
    for method in methods:
        found.append(method if method in REFERENCES else number)
        number += method not in REFERENCES
    return found


def distance_over_work(rows, name, link, short=str):
    """Distance to retraining over work, of all rows but the original's, which does nothing.

    rows: of a board.
    name: what they are of.
    link: (submission, method) → address.
    short: label → what is written.
    """
    rows = rows[rows["method"] != "original"]
    points = _points(rows, "relative_flops", RANKED, link, short)
    least = min((point.x[0] for point in points if point.x[0] > 0), default=1)
    for point in points:
        point.x = [max(point.x[0], least / 2)]  # no work at all has no place on a logarithmic axis
    describe = f"{name}: distance to retraining over work, as a share of retraining's"
    return inline(Panel("", "work, % of retraining (log)", "gap to retrain, %", points, log=True), describe)


def forget_and_test(rows, name, link, short=str):
    """Test score over forget score of every method, and where random guessing would stand."""
    points = _points(rows, "forget_score", "test_score", link, short)
    guess = rows["random_guess"].dropna()
    guides = {"random": 100 * float(guess.iloc[0])} if len(guess) else {}
    describe = f"{name}: test score over forget score of every method"
    return inline(Panel("", "forget score, %", "test score, %", points, guides=guides), describe)


def _points(rows, x, y, link, short):
    rows = rows[rows[x].notna() & rows[y].notna()]
    return [
        Line(
            short(row.label),
            [100 * float(getattr(row, x))],
            [100 * float(getattr(row, y))],
            kind="named",
            colour=row.method if row.method in REFERENCES else 0,
            link=link[row.submission, row.method],
        )
        for row in rows.itertuples()
    ]


def roc(rows, name, runs_of):
    """Mean ROC curves of the loss attack: references and the best methods.

    runs_of: index of a row → its runs.
    """
    rows = [*rows[rows["method"].isin(REFERENCES)].itertuples(), *rows[rows["rank"].notna()].itertuples()]
    curves = []
    for row in rows[:ROC_LINES]:
        known = [list(c) for c in runs_of(row.Index)["roc"] if c is not None and len(c) == len(RATES)]
        if known:
            curves.append((row.label, row.method, np.mean(known, axis=0)))
    return roc_curves(curves, f"{name}: ROC curves of the membership attack by loss")


def roc_curves(curves, describe):
    """ROC curves in one panel.

    curves: (name, method, share of true positives at each of `RATES`).
    """
    lines = [
        Line(name, (100 * RATES).tolist(), [100 * share for share in curve], colour=colour)
        for (name, _, curve), colour in zip(curves, colours([method for _, method, _ in curves]), strict=True)
    ]
    across, up = "false positives (test called members), %", "true positives (forget found), %"
    return inline(Panel("", across, up, lines, diagonal=True, key=True, limits=(0, 100)), describe, narrow=True)


def distance_over_ratio(rows, name, labels=None):
    """Distance to retraining over deletion ratio with bootstrap bands, where there are two ratios or more.

    rows: of one task and model.
    labels: whose lines are drawn; None: the references' and those of the best methods.
    """
    rows = rows[(rows["n"] > 0) & (rows["variant"] == "default") & standard(rows["ratio"])]
    if rows["ratio"].nunique() < 2:
        return ""
    best = rows.groupby("label")[RANKED].mean().sort_values().index
    chosen = sorted(best, key=lambda label: label not in REFERENCES)
    labels, lines = labels or chosen[:RATIO_LINES], []
    for label, colour in zip(labels, colours(labels), strict=True):
        line = rows[(rows["label"] == label) & rows[RANKED].notna()]
        line = line.assign(x=line["ratio"].astype(float)).sort_values("x")
        mean, low, high = (100 * line[end].to_numpy("float64") for end in (RANKED, f"{RANKED}_low", f"{RANKED}_high"))
        if len(line):
            lines.append(Line(label, line["x"].tolist(), mean.tolist(), [mean - low, high - mean], colour=colour))
    describe = f"{name}: distance to retraining over deletion ratio, with 95 % bands"
    return inline(Panel("", "deletion ratio, %", "gap to retrain, %", lines), describe, narrow=True)


def mean_ranks(rows, test):
    """The critical-difference diagram of methods over groups; "" for fewer than two.

    rows: of an average over groups.
    test: its row of the board's tests.
    """
    ranked = rows[rows["mean_rank"].notna()].sort_values(["mean_rank", "label"])
    if test is None or len(ranked) < 2:
        return ""
    ranks = list(zip(ranked["label"], ranked["mean_rank"].astype(float), strict=True))
    describe = f"Critical-difference diagram: mean ranks of {len(ranks)} methods"
    return critical_difference(ranks, float(test["critical_difference"]), describe)
