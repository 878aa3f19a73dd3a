"""What a submission's pages show: its methods, and every run of each."""

import json
from pathlib import Path

from mubench.leaderboard.site.addresses import slug


def submission(pages, owner, address):
    """The page of a submission and one of runs for each of its methods.

    Yields addresses, templates and what each page is given.
    """
    runs = pages.runs[pages.runs["submission"] == owner]
    about, methods = pages.submitted.get(owner, {}), []
    for method, part in runs.groupby("method", sort=True):
        page = f"{address.removesuffix('.html')}-{slug(method)}.html"
        methods.append({"name": method, "page": Path(page).name, "runs": part})
        yield (
            page,
            "runs.html",
            {
                "method": method,
                "runs": _records(part),
                "about": about,
                "back": Path(address).name,
                "environments": [json.loads(text) for text in dict.fromkeys(part["environment"])],
                "page_of": pages.page_of.get((owner, method)),
            },
        )
    yield address, "submission.html", {"own": not owner, "about": about, "methods": methods, "runs": runs}


def _records(runs):
    return runs.sort_values(["task", "model", "ratio_order", "params", "seed"], kind="stable").to_dict("records")
