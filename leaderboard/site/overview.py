"""What the first page shows."""

from mubench.leaderboard.site import figures


def tier(pages, name):
    """Overall tables, the best of each modality, and figures of one tier."""
    rows, tests = pages.across[pages.across["tier"] == name], pages.made.tests
    overall = dict(list(rows[rows["facet"] == "overall"].groupby("selection", sort=True)))
    default = overall.pop("default", rows[:0])
    modalities = rows[(rows["facet"] == "modality") & (rows["selection"] == "default")]
    test = tests[(tests["tier"] == name) & (tests["facet"] == "overall") & (tests["selection"] == "default")]
    test = test.iloc[0] if len(test) else None
    return {
        "tier": name,
        "overall": default,
        "apart": overall,
        "best": {value: part[part["rank"].notna()].head(3) for value, part in modalities.groupby("value", sort=False)},
        "diagram": figures.mean_ranks(default, test),
        "test": test,
        "trade": figures.distance_over_work(default, f"{name} tier", pages.page_of),
        "groups": int(default["groups"].max()) if len(default) else 0,
    }
