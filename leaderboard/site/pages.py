"""All pages of the site: which there are, where they lie, and what each is given to show."""

import functools

from mubench.leaderboard.columns import HEADERS, ROW_COLUMNS
from mubench.leaderboard.rows import SEEDS
from mubench.leaderboard.site import data, methods, overview, submissions, tasks
from mubench.leaderboard.site.addresses import slugs
from mubench.leaderboard.site.templating import templates
from mubench.leaderboard.submitter import OWN, about
from mubench.measure.metrics import METRICS, VERSION

KINDS = {  # of variants
    "default": "",
    "official": "by the official protocol",
    "tuned": "tuned on validation data",
    "custom": "hyperparameters set by hand",
}
MEANINGS = {  # of levels
    "reported": "numbers given, not yet checked; shown, never ranked",
    "recomputed": "every metric recomputed from the submitted predictions",
    "re-evaluated": "predictions made again from the submitted weights",
    "reproduced": "run again from its spec",
}


class Pages:
    """The pages of a board.

    made: the `Board`.
    rows, across, runs: its frames.
    submitted: submission → what its owner says of it.
    page_of: (submission, method) → address.
    task_page: task → address.
    owner_page: submission → address.
    """

    def __init__(self, made, title):
        self.made, self.rows, self.across, self.runs = made, made.rows, made.across, made.runs
        folders = self.runs.loc[self.runs["submission"] != OWN].drop_duplicates("submission")
        self.submitted = {
            name: about(folder) for name, folder in zip(folders["submission"], folders["folder"], strict=True)
        }
        keys = list(dict.fromkeys(zip(self.rows["submission"], self.rows["method"], strict=True)))
        names = [f"{submission}-{method}" if submission else method for submission, method in keys]
        self.page_of = _addresses("methods", keys, names)
        self.task_page = _addresses("tasks", list(dict.fromkeys(self.rows["task"])))
        owners = list(dict.fromkeys(self.runs["submission"]))
        self.owner_page = _addresses("submissions", owners, [owner or "mubench" for owner in owners])
        self.env = templates()
        self.env.globals |= {
            "site": self,
            "title": title,
            "levels": MEANINGS,
            "headers": HEADERS,
            "help": ROW_COLUMNS,
            "formulas": VERSION,
            "seeds": SEEDS,
            "variants": KINDS,
        }

    def all(self):
        """Every file: its address and its text."""
        yield "data.js", self.data()
        tiers = [self.tier(tier) for tier in dict.fromkeys(self.across["tier"])]
        yield "index.html", self.page("index.html", tiers=tiers)
        yield "table.html", self.page("table.html")
        yield "compare.html", self.page("compare.html")
        yield "about.html", self.page("about.html", metrics=METRICS, columns=ROW_COLUMNS)
        for task, name in self.task_page.items():
            yield from self.task(task, name)
        for (submission, method), name in self.page_of.items():
            yield name, self.page("method.html", up="../", **methods.method(self, submission, method))
        for owner, name in self.owner_page.items():
            yield from self.submission(owner, name)

    def page(self, template, up="", **values):
        """The text of a page.

        up: the way from it to the first page.
        """
        return self.env.get_template(template).render(up=up, **values)

    def data(self):
        return data.script(self.rows, self.page_of, self.task_page)

    def tier(self, tier):
        """What the first page shows of a tier."""
        return overview.tier(self, tier)

    def task(self, task, name):
        """The pages of a task: address, text."""
        for address, values in tasks.task(self, task, name):
            yield address, self.page("task.html", up="../", **values)

    def submission(self, owner, name):
        """The pages of a submission: address, text."""
        for address, template, values in submissions.submission(self, owner, name):
            yield address, self.page(template, up="../", owner=owner or "mubench", **values)

    @functools.cached_property
    def wins(self):
        """Label → others with the share of common groups won, most first."""
        return methods.wins(self.made)


def _addresses(folder, keys, names=None):
    """Key → address of its page."""
    pages = (f"{folder}/{slug}.html" for slug in slugs(keys if names is None else names))
    return dict(zip(keys, pages, strict=True))
