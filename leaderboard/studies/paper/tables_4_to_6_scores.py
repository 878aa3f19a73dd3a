"""Tables 4 to 6: scores, success of membership inference and time of the paper's methods on all tasks."""

from mubench.leaderboard.studies.figures import Exhibit
from mubench.leaderboard.studies.paper.cross_table import absent, cross_table, with_mean_row
from mubench.leaderboard.studies.paper.published import NOT_SEEN, SAME_FIVE_NOTE, SOURCE


def scores_table(runs):
    """Table 4: all methods on all tasks."""
    tidy, cells = cross_table(runs, ["test_score", "forget_score", "retain_score"])
    return Exhibit(
        "table_4",
        "Scores of the paper's methods on all tasks at 5 % (%)",
        table=tidy,
        cells=cells,
        missing=absent(tidy),
        notes=[
            NOT_SEEN,
            f"published ({SOURCE}): a table gives NegGrad 3.7 for text-to-image, lower being better, while the text"
            " calls SalUn the best there by 5.1 points",
        ],
    )


def attack_table(runs):
    """Table 5: membership inference."""
    tidy, cells = cross_table(runs, ["mia_loss_auc"])
    return Exhibit(
        "table_5",
        "Success of membership inference (AUC of the attack by loss, %; 50 is ideal)",
        table=tidy,
        cells=with_mean_row(tidy, cells, "mia_loss_auc"),
        missing=absent(tidy),
        notes=[SAME_FIVE_NOTE],
    )


def time_table(runs):
    """Table 6: time, in seconds and hours."""
    tidy, cells = cross_table(runs, ["seconds"], scale=1)
    cells = with_mean_row(tidy, cells, "seconds", scale=1)
    return Exhibit(
        "table_6",
        "Unlearning time (seconds; the CSV has hours too)",
        table=tidy.assign(hours=tidy["mean"] / 3600) if len(tidy) else tidy,
        cells=cells,
        missing=absent(tidy),
        notes=[
            SAME_FIVE_NOTE,
            "ours: CPU seconds without a GPU, wall clock with one, evaluation not counted; on whatever machine the "
            "runs were made",
        ],
    )
