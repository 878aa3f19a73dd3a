"""The leaderboard as a static site: no server, no tracking, nothing from elsewhere; works from a folder on disk.

Pages are made by Jinja2, which escapes all text; charts are SVG; the table and the comparison read `data.js`, which
holds the rows in columns of whole numbers (per mille, positions in lists of names), so that ten thousand rows stay
below a megabyte.
"""

import functools
import hashlib
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from mubench import registry
from mubench.cache import whole, writing
from mubench.errors import MubenchError
from mubench.leaderboard import charts
from mubench.leaderboard.columns import HEADERS, MAIN, RANKED, RATES, ROW_COLUMNS, RUN_COLUMNS, SCALES
from mubench.leaderboard.rows import REFERENCES, SEEDS
from mubench.leaderboard.submitter import OWN, about
from mubench.measure.metrics import METRICS, VERSION

HERE = Path(__file__).parent
SHOWN = (*MAIN, "relative_seconds")  # values of the table page
NAMED = ("modality", "task", "model", "ratio", "variant", "level")  # what it filters by
ROC_LINES = 6
MANY = 400  # rows of a task beyond which each of its groups has a page of its own
SPACE = """---
title: {title}
sdk: static
app_file: index.html
license: apache-2.0
---

This folder is a static site: GitHub Pages, a static Space of the Hugging Face Hub and any web server show it as it is.
"""
KINDS = {  # of variants
    "default": "",
    "official": "by the official protocol",
    "tuned": "tuned on validation data",
    "custom": "hyperparameters set by hand",
}
MEANINGS = {
    "reported": "numbers given, not yet checked; shown, never ranked",
    "recomputed": "every metric recomputed from the submitted predictions",
    "re-evaluated": "predictions made again from the submitted weights",
    "reproduced": "run again from its spec",
}


def write_site(made, out, title="mubench leaderboard"):
    """Write the site of a `Board` to a folder; returns the path of its first page. The same board gives the same
    bytes.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / "data.js").is_file():
        raise MubenchError(f"{out} is no folder of a site and not empty: choose another with --site")
    pages = Pages(made, title)
    with writing(out):
        for name in ("tasks", "methods", "submissions"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name, text in pages.all():
            with whole(out / name) as path:
                path.write_text(text, encoding="utf-8", newline="\n")
        with whole(out / "README.md") as path:
            path.write_text(SPACE.format(title=title), encoding="utf-8", newline="\n")
        for file in sorted((HERE / "static").iterdir()):
            shutil.copyfile(file, out / file.name)
        made.write(out / "tables")
    return out / "index.html"


def serve(made, out=None, port=8000):
    """Write the site and show it to this machine's browser until interrupted."""
    import contextlib
    import http.server
    import tempfile

    with contextlib.ExitStack() as stack:
        folder = Path(out or stack.enter_context(tempfile.TemporaryDirectory()))
        write_site(made, folder)
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        try:
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", port), handler))
        except OSError as error:
            raise MubenchError(f"port {port} cannot be used ({error.strerror}): give another with --port") from error
        print(f"the leaderboard is at http://127.0.0.1:{server.server_port}/ until you press Ctrl-C", flush=True)
        server.serve_forever()


class Pages:
    """All pages of a board, name → text."""

    def __init__(self, made, title):
        self.made, self.title, self.rows = made, title, made.rows
        self.across = made.across
        self.runs = made.runs
        folders = self.runs.loc[self.runs["submission"] != OWN].drop_duplicates("submission")
        self.about = {name: about(folder) for name, folder in zip(folders["submission"], folders["folder"])}
        self.labels = list(dict.fromkeys(self.rows["label"]))
        self.methods = list(dict.fromkeys(zip(self.rows["submission"], self.rows["method"])))
        self.slugs = _slugs([f"{sub}-{method}" if sub else method for sub, method in self.methods])
        self.page_of = {key: f"methods/{slug}.html" for key, slug in zip(self.methods, self.slugs)}
        self.tasks = list(dict.fromkeys(self.rows["task"]))
        self.task_page = dict(zip(self.tasks, (f"tasks/{slug}.html" for slug in _slugs(self.tasks))))
        owners = list(dict.fromkeys(self.runs["submission"]))
        self.owner_page = dict(
            zip(owners, (f"submissions/{slug}.html" for slug in _slugs([owner or "mubench" for owner in owners])))
        )
        self.env = environment()
        self.env.globals.update(
            site=self,
            title=title,
            levels=MEANINGS,
            headers=HEADERS,
            help=ROW_COLUMNS,
            formulas=VERSION,
            seeds=SEEDS,
            variants=KINDS,
        )

    def all(self):
        yield "data.js", self.data()
        yield (
            "index.html",
            self.page("index.html", tiers=[self.tier(tier) for tier in dict.fromkeys(self.across["tier"])]),
        )
        yield "table.html", self.page("table.html")
        yield "compare.html", self.page("compare.html")
        yield "about.html", self.page("about.html", metrics=METRICS, columns=ROW_COLUMNS)
        for task, name in self.task_page.items():
            yield from self.task(task, name)
        for (submission, method), name in self.page_of.items():
            yield name, self.page("method.html", up="../", **self.method(submission, method))
        for owner, name in self.owner_page.items():
            yield from self.submission(owner, name)

    def page(self, template, up="", **values):
        return self.env.get_template(template).render(up=up, **values)

    # -- what pages show
    # -----------------------------------------------------------------------------------------------------

    def data(self):
        """The rows for the table and the comparison, as a script that assigns one object."""
        rows = self.rows[self.rows["n"] > 0]
        names = {name: list(dict.fromkeys(rows[name])) for name in (*NAMED, "label")}
        data = {
            "names": names,
            "pages": [self.page_of[key] for key in self._first("label", names["label"], rows)],
            "tasks": [self.task_page[task] for task in names["task"]],
            "references": [
                i for i, key in enumerate(self._first("label", names["label"], rows)) if key[1] in REFERENCES
            ],
            "columns": {name: _codes(rows[name], known) for name, known in names.items()},
        }
        data["columns"] |= {"rank": _whole(rows["rank"], 1), "n": _whole(rows["n"], 1)}
        for name in SHOWN:
            scale = 1000 if SCALES.get(name, 100) == 100 else 100
            data["columns"] |= {
                name: _whole(rows[name], scale),
                f"{name}_half_width": _whole(rows[f"{name}_half_width"], scale),
            }
        data["shown"] = [
            {
                "name": name,
                "header": HEADERS[name],
                "help": RUN_COLUMNS[name],
                "scale": SCALES.get(name, 100) == 100 and 10 or 100,
            }
            for name in SHOWN
        ]
        data["help"] = {name: ROW_COLUMNS[name] for name in ("rank", "label", "n", *NAMED)}
        return f"window.BOARD = {json.dumps(data, separators=(',', ':'), allow_nan=False)};\n".replace("<", "\\u003c")

    def _first(self, column, values, rows):
        first = rows.drop_duplicates(column).set_index(column)
        return [tuple(first.loc[value, ["submission", "method"]]) for value in values]

    def tier(self, tier):
        """Overall tables, best of each modality, and figures of one tier."""
        here = self.across[self.across["tier"] == tier]
        overall = dict(list(here[here["facet"] == "overall"].groupby("selection", sort=True)))
        modalities = here[(here["facet"] == "modality") & (here["selection"] == "default")]
        best = {name: rows[rows["rank"].notna()].head(3) for name, rows in modalities.groupby("value", sort=False)}
        default = overall.pop("default", here[:0])
        ranked = default[default["mean_rank"].notna()].sort_values(["mean_rank", "label"])
        test = self.made.tests[
            (self.made.tests["tier"] == tier)
            & (self.made.tests["facet"] == "overall")
            & (self.made.tests["selection"] == "default")
        ]
        diagram = (
            charts.critical_difference(
                list(zip(ranked["label"], ranked["mean_rank"])),
                float(test["critical_difference"].iloc[0]),
                f"Critical-difference diagram: mean ranks of {len(ranked)} methods",
            )
            if len(test) and len(ranked) > 1
            else ""
        )
        return {
            "tier": tier,
            "overall": default,
            "apart": overall,
            "best": best,
            "diagram": diagram,
            "test": test.iloc[0] if len(test) else None,
            "trade": self.trade(default, "", f"{tier} tier"),
            "groups": int(default["groups"].max()) if len(default) else 0,
        }

    def trade(self, rows, up, name, short=str):
        """Distance to retraining over work, of all rows but the original's, which does nothing."""
        points = [
            {
                "x": row.relative_flops,
                "y": getattr(row, RANKED),
                "name": short(row.label),
                "kind": _kind(row.method),
                "href": up + self.page_of[row.submission, row.method],
            }
            for row in rows.itertuples()
            if row.method != "original"
        ]
        return charts.scatter(
            points,
            "work, % of retraining (log)",
            "gap to retrain, %",
            log=True,
            describe=f"{name}: distance to retraining over work, as a share of retraining's",
        )

    def task(self, task, name):
        """A task's page with all its groups; of a task with many rows, a list of pages, one of each group."""
        rows = self.rows[self.rows["task"] == task]
        models = list(dict.fromkeys(rows["model"]))
        ratios = [
            {"model": model, "svg": self.over_ratio(rows[rows["model"] == model], f"{task} / {model}")}
            for model in models
        ]
        groups = [self.group(group, part) for group, part in rows.groupby("group", sort=False)]
        base = task.split(" ")[0]
        card = registry.load_task(base) if base in registry.tasks.names() else None
        apart, stem = len(rows) > MANY, name.removesuffix(".html")
        for group in groups:
            group["page"] = f"{stem}-{group['id']}.html" if apart else f"{name}#{group['id']}"
        shared = {
            "up": "../",
            "task": task,
            "card": card,
            "modality": rows["modality"].iloc[0],
            "about": _about(card) if card else "",
        }
        yield (
            name,
            self.page(
                "task.html",
                **shared,
                groups=[] if apart else groups,
                pages=groups if apart else [],
                ratios=[r for r in ratios if r["svg"]],
            ),
        )
        for group in groups if apart else ():
            yield (
                group["page"],
                self.page("task.html", **shared, groups=[group], pages=[], ratios=[], back=Path(name).name),
            )

    def group(self, name, rows):
        """A group's table and charts for each way that hyperparameters were chosen, all next to the references."""
        reference, parts = rows["method"].isin(REFERENCES), []
        for variant in dict.fromkeys(rows.loc[~reference, "variant"]) or ["default"]:
            parts.append({"variant": variant} | self.part(name, rows[reference | (rows["variant"] == variant)]))
        ranked = rows[rows["rank"].notna() & (rows["variant"] == "default")]
        return {
            "name": name,
            "id": _slug(name),
            "parts": parts,
            "ranked": len(ranked),
            "best": ranked.iloc[0] if len(ranked) else None,
        }

    def part(self, name, rows):
        there = rows[rows["n"] > 0]
        short = lambda label: re.sub(r" \(tuned, \d+ trials\)", "", label)  # the heading says it
        points = [
            {
                "x": r.forget_score,
                "y": r.test_score,
                "name": short(r.label),
                "kind": _kind(r.method),
                "href": "../" + self.page_of[r.submission, r.method],
            }
            for r in there.itertuples()
        ]
        guess = there["random_guess"].dropna()
        lines = [(float(guess.iloc[0]), "random")] if len(guess) else []
        if not (~there["method"].isin(REFERENCES)).any():
            return {"rows": rows, "scatter": "", "trade": "", "roc": ""}
        scatter = charts.scatter(
            points,
            "forget score, %",
            "test score, %",
            lines=lines,
            describe=f"{name}: test score over forget score of every method",
        )
        trade = self.trade(there, "../", name, short)
        return {"rows": rows, "scatter": scatter, "trade": trade, "roc": self.roc(name, there)}

    def roc(self, name, rows):
        """Mean ROC curves of the loss attack: references and the best methods."""
        lines = []
        chosen = [*rows[rows["method"].isin(REFERENCES)].itertuples(), *rows[rows["rank"].notna()].itertuples()][
            :ROC_LINES
        ]
        for row in chosen:
            mine = self.made.runs_of(row.Index)
            known = [curve for curve in mine["roc"] if curve is not None and len(curve) == len(RATES)]
            if known:
                points = list(zip((100 * RATES).tolist(), np.mean([list(c) for c in known], axis=0).tolist()))
                lines.append({"name": row.label, "kind": _kind(row.method), "points": points})
        return charts.curves(
            lines,
            "false positives (test examples called members), %",
            "true positives (forget examples found), %",
            diagonal=True,
            square=True,
            describe=f"{name}: ROC curves of the membership attack by loss",
        )

    def over_ratio(self, rows, name, labels=None):
        """Distance to retraining over deletion ratio with bootstrap bands, where there are two ratios or more."""
        rows = rows[(rows["n"] > 0) & (rows["variant"] == "default") & ~rows["ratio"].str.startswith("file")]
        if rows["ratio"].nunique() < 2:
            return ""
        lines, best = [], rows.groupby("label")[RANKED].mean().sort_values().index
        chosen = [label for label in best if label in REFERENCES] + [label for label in best if label not in REFERENCES]
        for label in labels or chosen[:8]:
            mine = rows[rows["label"] == label].assign(x=lambda r: r["ratio"].astype(float)).sort_values("x")
            lines.append(
                {
                    "name": label,
                    "kind": _kind(label),
                    "points": list(zip(mine["x"], mine[RANKED])),
                    "band": list(zip(mine["x"], mine[f"{RANKED}_low"], mine[f"{RANKED}_high"])),
                }
            )
        return charts.curves(
            lines,
            "deletion ratio, %",
            "gap to retrain, %",
            describe=f"{name}: distance to retraining over deletion ratio, with 95 % bands",
        )

    def method(self, submission, method):
        rows = self.rows[(self.rows["submission"] == submission) & (self.rows["method"] == method)]
        ranked = {}
        for key, part in self.rows[self.rows["rank"].notna()].groupby(["group", "variant"], sort=False):
            ranked[key] = len(part)
        wins = self.wins.get(rows["label"].iloc[0])
        known = registry.load_method(method) if not submission and method in registry.methods.names() else None
        about = self.about.get(submission, {})
        default = rows[(rows["variant"] == "default") & (rows["n"] > 0)]
        charted = [
            chart
            for (task, model), part in default.groupby(["task", "model"], sort=False)
            if (
                chart := self.over_ratio(
                    self.rows[(self.rows["task"] == task) & (self.rows["model"] == model)],
                    f"{task} / {model}",
                    [*REFERENCES, default["label"].iloc[0]],
                )
            )
        ]
        across = self.across[(self.across["submission"] == submission) & (self.across["method"] == method)]
        placed = default[default["rank"].notna()].assign(
            place=lambda r: [k / ranked[g, v] for k, g, v in zip(r["rank"], r["group"], r["variant"])]
        )
        return {
            "method": method,
            "submission": submission,
            "rows": rows,
            "ranked": ranked,
            "across": across[across["facet"] != "task"],
            "taxonomy": known.taxonomy() if known else about.get("taxonomy"),
            "about": _about(known) if known else about.get("description", ""),
            "paper": known.paper if known else about.get("paper"),
            "code": about.get("code"),
            "wins": wins,
            "charts": charted[:4],
            "best": placed.sort_values(["place", "group"]).head(3),
            "worst": placed[placed["place"] > 0.5].sort_values(["place", "group"], ascending=False).head(3),
            "defaults": known.defaults() if known else {},
            "deviations": known.deviations if known else (),
            "official": known.official if known else None,
            "owner": self.owner_page.get(submission),
        }

    @functools.cached_property
    def wins(self):
        """Label → others with the share of common groups won, most first."""
        found = {}
        for tier in dict.fromkeys(self.rows["tier"]):
            table = self.made.wins(tier)
            for label, shares in zip(table.index, table.to_numpy()):
                found.setdefault(
                    label,
                    sorted(
                        (
                            (other, float(s))
                            for other, s in zip(table.columns, shares)
                            if other != label and not math.isnan(s)
                        ),
                        key=lambda pair: (-pair[1], pair[0]),
                    ),
                )
        return found

    def submission(self, owner, name):
        runs = self.runs[self.runs["submission"] == owner]
        about, methods = self.about.get(owner, {}), []
        for method, part in runs.groupby("method", sort=True):
            page = f"{name.removesuffix('.html')}-{_slug(method)}.html"
            methods.append({"name": method, "page": Path(page).name, "runs": part})
            yield (
                page,
                self.page(
                    "runs.html",
                    up="../",
                    owner=owner or "mubench",
                    method=method,
                    runs=_run_rows(part),
                    about=about,
                    back=Path(name).name,
                    environments=_environments(part),
                    page_of=self.page_of.get((owner, method)),
                ),
            )
        yield (
            name,
            self.page(
                "submission.html",
                up="../",
                owner=owner or "mubench",
                own=not owner,
                about=about,
                methods=methods,
                runs=runs,
            ),
        )


# -- helpers
# ---------------------------------------------------------------------------------------------------------------------


@functools.cache
def environment():
    """Jinja2 with all text escaped and a few filters."""
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.filters |= {
        "cell": cell,
        "percent": lambda share: f"{100 * share:.0f} %",
        "link": _link,
        "ranked": lambda rows: rows["rank"].notna() | rows["method"].isin(REFERENCES),
    }
    env.tests["missing"] = lambda value: value is None or value is pd.NA or value != value
    return env


def cell(row, name):
    """A value with its interval, as in the tables: ``87.4 ±1.2``."""
    value = row[name]
    if value is pd.NA or value != value:
        return "–"
    half, scale = row.get(f"{name}_half_width", math.nan), SCALES.get(name, 100)
    return f"{scale * value:.1f}" + ("" if half != half else f" ±{scale * half:.1f}")


def _link(url):
    """An address that may be followed: https, and nothing a browser would run; "" for anything else."""
    return url if isinstance(url, str) and re.fullmatch(r"https://[^\s\"'<>\\]+", url) else ""


def _run_rows(runs):
    return runs.sort_values(["task", "model", "ratio_order", "params", "seed"], kind="stable").to_dict("records")


def _environments(runs):
    return [json.loads(text) for text in dict.fromkeys(runs["environment"])]


def _about(thing):
    return " ".join((thing.__doc__ or "").strip().split("\n\n")[0].split())


def _kind(method):
    return method if method in REFERENCES else "method"


def _codes(values, known):
    places = {name: i for i, name in enumerate(known)}
    return [places[value] for value in values]


def _whole(values, scale):
    return [None if v is pd.NA or v != v else round(scale * v) for v in values.tolist()]


def _slug(text):
    """A file name for any text: letters, digits and dashes, and a hash where something was left out."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"
    return (
        plain
        if plain.replace("-", "_") == text.lower().replace("-", "_")
        else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    )


def _slugs(texts):
    slugs = [_slug(text) for text in texts]
    return [
        slug if slugs.count(slug) == 1 else f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
        for slug, text in zip(slugs, texts)
    ]
