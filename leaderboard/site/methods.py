"""What a method's page shows."""

import math

from mubench import registry
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.site import figures
from mubench.leaderboard.site.templating import about

FIGURES, PLACES = 4, 3  # over the ratio; best and worst groups


def method(pages, submission, name):
    """A method's description, its rows in all groups, its figures, and how it fares against the others."""
    of = lambda rows: rows[(rows["submission"] == submission) & (rows["method"] == name)]
    rows, across = of(pages.rows), of(pages.across)
    default = rows[(rows["variant"] == "default") & (rows["n"] > 0)]
    ranked = pages.rows[pages.rows["rank"].notna()].groupby(["group", "variant"], sort=False).size().to_dict()
    return {
        "method": name,
        "submission": submission,
        "rows": rows,
        "ranked": ranked,
        "across": across[across["facet"] != "task"],
        "wins": pages.wins.get(rows["label"].iloc[0]),
        "charts": _over_ratio(pages.rows, default),
        "owner": pages.owner_page.get(submission),
        **_described(pages, submission, name),
        **_places(default, ranked),
    }


def _described(pages, submission, name):
    """What the suite knows of its own methods, and what a submission says of its own."""
    own = registry.load_method(name) if not submission and name in registry.methods.names() else None
    said = pages.submitted.get(submission, {})
    return {
        "taxonomy": own.taxonomy() if own else said.get("taxonomy"),
        "about": about(own) if own else said.get("description", ""),
        "paper": own.paper if own else said.get("paper"),
        "code": said.get("code"),
        "defaults": own.defaults() if own else {},
        "deviations": own.deviations if own else (),
        "official": own.official if own else None,
    }


def _places(rows, ranked):
    """The groups in which a method stands best and worst.

    ranked: (group, variant) → number of ranked methods.
    """
    rows = rows[rows["rank"].notna()]
    counts = [ranked[key] for key in zip(rows["group"], rows["variant"], strict=True)]
    placed = rows.assign(place=[rank / count for rank, count in zip(rows["rank"], counts, strict=True)])
    worst = placed[placed["place"] > 0.5].sort_values(["place", "group"], ascending=False)
    return {"best": placed.sort_values(["place", "group"]).head(PLACES), "worst": worst.head(PLACES)}


def _over_ratio(rows, default):
    """Distance to retraining over the ratio, of a method and the references, for the first few tasks and models.

    default: the method's rows with default hyperparameters.
    """
    found = []
    for (task, model), _ in default.groupby(["task", "model"], sort=False):
        here = rows[(rows["task"] == task) & (rows["model"] == model)]
        labels = [*REFERENCES, default["label"].iloc[0]]
        found.append(figures.distance_over_ratio(here, f"{task} / {model}", list(dict.fromkeys(labels))))
    return [svg for svg in found if svg][:FIGURES]


def wins(made):
    """Label → others with the share of common groups won, most first."""
    found = {}
    for tier in dict.fromkeys(made.rows["tier"]):
        table = made.wins(tier)
        for label, shares in zip(table.index, table.to_numpy(), strict=True):
            others = [
                (other, float(share))
                for other, share in zip(table.columns, shares, strict=True)
                if other != label and not math.isnan(share)
            ]
            found.setdefault(label, sorted(others, key=lambda pair: (-pair[1], pair[0])))
    return found
