"""What a task's pages show."""

import re
from pathlib import Path

from mubench import registry
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.site import figures
from mubench.leaderboard.site.addresses import slug
from mubench.leaderboard.site.templating import about

MANY = 400  # rows of a task beyond which each of its groups has a page of its own


def task(pages, name, address):
    """A task's page with all its groups; of a task with many rows, a list of pages, one of each group.

    Yields addresses and what each page is given.
    """
    rows = pages.rows[pages.rows["task"] == name]
    base = name.split(" ")[0]
    card = registry.load_task(base) if base in registry.tasks.names() else None
    shared = {
        "task": name,
        "card": card,
        "modality": rows["modality"].iloc[0],
        "about": about(card) if card else "",
    }
    ratios = [
        {"model": model, "svg": figures.distance_over_ratio(rows[rows["model"] == model], f"{name} / {model}")}
        for model in dict.fromkeys(rows["model"])
    ]
    ratios = [ratio for ratio in ratios if ratio["svg"]]
    groups = [_group(pages, group, part) for group, part in rows.groupby("group", sort=False)]
    apart, stem = len(rows) > MANY, address.removesuffix(".html")
    for group in groups:
        group["page"] = f"{stem}-{group['id']}.html" if apart else f"{address}#{group['id']}"
    if not apart:
        yield address, shared | {"groups": groups, "pages": [], "ratios": ratios}
        return
    yield address, shared | {"groups": [], "pages": groups, "ratios": ratios}
    for group in groups:
        yield group["page"], shared | {"groups": [group], "pages": [], "ratios": [], "back": Path(address).name}


def _group(pages, name, rows):
    """A group's table and figures for each way that hyperparameters were chosen, all next to the references."""
    reference = rows["method"].isin(REFERENCES)
    variants = dict.fromkeys(rows.loc[~reference, "variant"]) or ["default"]
    ranked = rows[rows["rank"].notna() & (rows["variant"] == "default")]
    return {
        "name": name,
        "id": slug(name),
        "parts": [
            {"variant": variant} | _part(pages, name, rows[reference | (rows["variant"] == variant)])
            for variant in variants
        ],
        "ranked": len(ranked),
        "best": ranked.iloc[0] if len(ranked) else None,
    }


def _part(pages, name, rows):
    measured = rows[rows["n"] > 0]
    if measured["method"].isin(REFERENCES).all():
        return {"rows": rows, "scatter": "", "trade": "", "roc": ""}
    short = lambda label: re.sub(r" \(tuned, \d+ trials\)", "", label)  # the heading says it
    link = {key: f"../{address}" for key, address in pages.page_of.items()}
    return {
        "rows": rows,
        "scatter": figures.forget_and_test(measured, name, link, short),
        "trade": figures.distance_over_work(measured, name, link, short),
        "roc": figures.roc(measured, name, pages.made.runs_of),
    }
