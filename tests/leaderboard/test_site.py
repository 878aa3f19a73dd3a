"""The static site: the same bytes, all text escaped, small; in a real browser: sorting, filters, the address, no
errors, no barriers.
"""

import functools
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from generated_runs import generate
from mubench.errors import MubenchError
from mubench.leaderboard.board import Board
from mubench.leaderboard.report import report
from mubench.leaderboard.site import HERE, Pages, write_site

EVIL = [
    "<script>pwned()</script>",
    '"><img src=x onerror=pwned()>',
    "{{7*7}}",
    "=1+1",
    "' onmouseover='pwned()",
    "</title><svg onload=pwned()>",
]


def hostile(runs):
    """The same runs, every text field of which somebody has put markup into."""
    runs = runs.copy()
    mine = runs["method"] == "method_03"
    for number, name in enumerate(
        ("method", "params", "flags", "command", "environment", "hyperparameters", "spec", "paper")
    ):
        evil = EVIL[number % len(EVIL)]
        runs.loc[mine, name] = {
            "params": '{"x": "</script><b>"}',
            "environment": '{"<i>x": "</script>"}',
            "spec": '{"task": "<u>"}',
        }.get(name, evil)
    runs.loc[mine, "submission"] = EVIL[1]
    for name, evil in (("task", EVIL[0]), ("model", EVIL[5]), ("modality", EVIL[4]), ("architecture", EVIL[1])):
        first = runs[name].iloc[-1]
        runs[name] = runs[name].replace(first, evil)
    return runs


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site of some generated runs at two ratios."""
    folder = tmp_path_factory.mktemp("site")
    runs = generate(15_000)
    write_site(Board(runs[runs["method"].isin(["original", "retrain", *(f"method_0{i}" for i in range(6))])]), folder)
    return folder


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    runs = generate(10_000)
    write_site(Board(hostile(runs[runs["method"].isin(["original", "retrain", "method_01", "method_03"])])), folder)
    return folder


class Links(HTMLParser):
    """Elements of a page that are not of its own making, and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.ids, self.handlers = [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        said = dict(attributes)
        self.links += [said[name] for name in ("href", "src") if name in said]
        self.ids += [said["id"]] if "id" in said else []
        self.handlers += [name for name in said if name.startswith("on")]


def test_the_same_board_gives_the_same_bytes(tmp_path):
    runs = generate(600)
    for name in ("a", "b"):
        write_site(Board(runs.sample(frac=1, random_state=3) if name == "b" else runs), tmp_path / name)
    files = [
        {
            p.relative_to(tmp_path / name): p.read_bytes()
            for p in (tmp_path / name).rglob("*.*")
            if p.suffix != ".parquet"
        }
        for name in ("a", "b")
    ]
    assert files[0].keys() == files[1].keys() and len(files[0]) > 80
    assert not [name for name in files[0] if files[0][name] != files[1][name] and name.parts[0] != "tables"]


@pytest.mark.parametrize("which", ["site", "attacked"])
def test_every_link_leads_somewhere_and_nothing_comes_from_elsewhere(which, request):
    folder = request.getfixturevalue(which)
    parsed = functools.cache(lambda path: Links(path.read_text()))
    files = {path.resolve() for path in folder.rglob("*.*")}
    for page in folder.rglob("*.html"):
        found = parsed(page)
        assert not found.handlers and len(found.ids) == len(set(found.ids))
        assert not found.tags & {"iframe", "object", "embed", "img"}
        for link in found.links:
            path, _, anchor = link.partition("#")
            if link == "data:,":
                continue
            assert not re.match(r"\w+:", link), f"{page}: {link}"
            target = (page.parent / path if path else page).resolve()
            assert target in files, f"{page}: {link}"
            if anchor and "=" not in anchor and target.suffix == ".html":
                assert anchor in parsed(target).ids


def test_text_of_strangers_is_text(attacked):
    for page in [*attacked.rglob("*.html"), attacked / "data.js"]:
        text = page.read_text()
        for evil in ("<script>pwned", "<img", "<svg onload", "</title><svg", "<b>", "<i>", "<u>"):
            assert evil not in text, f"{page} holds {evil}"
        assert "49" not in re.findall(r"<h1>(.*?)</h1>", text)
    assert any("&lt;script&gt;pwned()" in page.read_text() for page in attacked.rglob("*.html"))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(MubenchError, match="not empty"):
        write_site(Board(generate(100)), tmp_path)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The pages of 10,000 rows that show them all."""
    made, folder = Board(generate(50_000)), tmp_path_factory.mktemp("large")
    assert len(made.rows) == 10_000
    pages = Pages(made, "mubench")
    (folder / "data.js").write_text(pages.data())
    (folder / "table.html").write_text(pages.page("table.html"))
    (folder / "index.html").write_text(pages.page("index.html", tiers=[pages.tier("mini")]))
    for file in (HERE / "static").iterdir():
        shutil.copy(file, folder)
    return folder


def test_ten_thousand_rows_stay_below_a_megabyte(large):
    size = {p.name: p.stat().st_size for p in large.iterdir()}
    assert size["table.html"] + size["data.js"] + size["site.js"] + size["site.css"] < 1e6
    assert size["index.html"] + size["site.js"] + size["site.css"] < 1e6


def test_a_task_of_many_rows_lists_pages_of_its_groups():
    runs = generate(50_000)
    pages = dict(Pages(Board(runs[runs["task"] == "birds"]), "mubench").task("birds", "tasks/birds.html"))
    first = Links(pages.pop("tasks/birds.html"))
    assert len(pages) > 10 and {f"../{name}" for name in pages} <= set(first.links)
    assert max(map(len, pages.values())) < 200_000


def test_what_a_submitter_only_claims_is_marked():
    runs = generate(2_000)
    pages = Pages(Board(runs.assign(submission="theirs", folder="nowhere", level="recomputed")), "mubench")
    theirs = [text for name, text in pages.submission("theirs", "submissions/theirs.html")]
    assert all("Claimed, not measured again" in text for text in theirs) and "seconds (claimed)" in theirs[0]
    own = [text for name, text in Pages(Board(runs), "mubench").submission("", "submissions/mubench.html")]
    assert not any("(claimed)" in text or "not measured again" in text for text in own)


def test_neither_reading_nor_building_imports_torch(stored, tmp_path):
    for method in ("original", "retrain", "salun"):
        stored(method)
    code = (
        f"import sys\nfrom mubench.leaderboard.board import board\nfrom mubench.leaderboard.site import write_site\n"
        f"write_site(board({str(stored.root)!r}, {str(tmp_path / 'tables')!r}), {str(tmp_path / 'www')!r})\n"
        "sys.exit('torch is imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "MUBENCH_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "www/index.html").is_file()


# -- in a browser
# ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e '.[test]'"
    )
    there = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if there is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    quiet = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=there, args=quiet)


@pytest.fixture
def page(browser):
    """A page that complains at the end of whatever its console said, and of any script of a stranger's that ran."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page, said = context.new_page(), []
    page.set_default_timeout(15_000)
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.add_init_script("window.pwned = () => { console.error('a script of a stranger ran'); };")
    yield page
    context.close()
    assert said == []


def cells(page, column):
    return [text.strip() for text in page.locator(f"#board tbody tr > :nth-child({column})").all_text_contents()]


def number(text):
    return float(text.split(" ")[0])


def test_sorting_filtering_and_the_address(page, site):
    page.goto((site / "table.html").as_uri())
    assert len(cells(page, 2)) == 100 and "the first 100 shown" in page.locator("#count").text_content()
    page.get_by_role("button", name="overall ↑").click()
    assert page.locator("th[aria-sort=descending]").text_content() == "overall ↑"
    values = [*map(number, cells(page, 12))]
    assert values == sorted(values, reverse=True)
    page.get_by_role("button", name="gap ↓").click()
    assert page.locator("th[aria-sort=ascending]").text_content() == "gap ↓"
    values = [*map(number, cells(page, 6))]
    assert values == sorted(values)
    page.get_by_label("task").select_option("birds")
    page.get_by_label("search").fill("method_02")
    assert set(cells(page, 3)) == {"birds"} and set(cells(page, 2)) == {"method_02"}
    assert {"task=birds", "q=method_02", "sort=gap_to_retrain"} <= set(page.url.partition("#")[2].split("&"))
    seen, count = cells(page, 12), page.locator("#count").text_content()
    page.reload()
    assert cells(page, 12) == seen and page.locator("#count").text_content() == count
    page.get_by_role("button", name="Clear filters").click()
    assert "#" not in page.url and len(cells(page, 2)) == 100
    page.get_by_role("button", name="Show more").click()
    assert len(cells(page, 2)) > 100


def test_the_download_holds_what_is_shown(page, attacked):
    page.goto((attacked / "table.html").as_uri() + "#task=reviews")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    import pandas as pd

    table = pd.read_csv(download.value.path())
    assert set(table["task"]) == {"reviews"} and f"{len(table)} of " in page.locator("#count").text_content()
    assert table["gap_to_retrain"].between(0, 1).all() and "gap_to_retrain_half_width" in table
    assert not table["label"].astype(str).str.match(r"[=+@-]").any()


def test_injected_markup_is_shown_and_never_run(page, attacked):
    for name in ("table.html", "compare.html", "index.html"):
        page.goto((attacked / name).as_uri())
    page.goto((attacked / "table.html").as_uri())
    assert page.get_by_label("task").locator("option", has_text="<script>pwned()</script>").count() == 1
    page.get_by_label("search").fill("pwned")
    assert all("<script>pwned()</script>" in label for label in cells(page, 2)) and cells(page, 2)
    for path in sorted(
        [*(attacked / "methods").iterdir(), *(attacked / "tasks").iterdir(), *(attacked / "submissions").iterdir()]
    ):
        if "pwned" in path.name or "x-onerror" in path.name:
            page.goto(path.as_uri())
            assert "pwned" in page.locator("h1").text_content() or "pwned" in page.locator("body").text_content()


def test_two_methods_are_compared(page, site):
    page.goto((site / "compare.html").as_uri() + "#a=method_01&b=method_04")
    assert page.get_by_label("first").input_value() == "method_01"
    said = page.locator("#verdict").text_content()
    assert re.match(r"method_01 has the smaller gap to retrain in \d+ of \d+ groups", said)
    page.get_by_label("second").select_option("method_05")
    assert "b=method_05" in page.url and page.locator("#comparison tbody tr").count() > 10


def test_the_static_tables_sort_by_keyboard(page, site):
    page.goto((site / "tasks/birds.html").as_uri())
    table = page.locator("table.sortable").first
    button = table.get_by_role("button", name="test ↑")
    button.focus()
    page.keyboard.press("Enter")
    values = [number(text) for text in table.locator("tbody tr > :nth-child(4)").all_text_contents()]
    assert values == sorted(values)


def test_a_phone_never_scrolls_sideways(browser, site):
    context = browser.new_context(viewport={"width": 360, "height": 700})
    page = context.new_page()
    for name in (
        "index.html",
        "table.html",
        "compare.html",
        "about.html",
        "tasks/birds.html",
        "methods/method-01.html",
        "submissions/mubench.html",
    ):
        page.goto((site / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
    context.close()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_no_serious_fault(browser, site, tmp_path, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    ).Axe()
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    names = (
        "index.html",
        "table.html",
        "compare.html",
        "about.html",
        "tasks/birds.html",
        "methods/method-01.html",
        "submissions/mubench.html",
        "submissions/mubench-method-01.html",
    )
    run = min((HERE / "results/fashion/resnet/salun/5").iterdir())
    for path in (*(site / name for name in names), report(run, tmp_path / "report.html")):
        page.goto(path.as_uri())
        faults = [v for v in axe.run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert not faults, f"{path.name}: " + "; ".join(f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in faults)
    context.close()


def test_ten_thousand_rows_are_shown_within_a_second(browser, large):
    page = browser.new_page()
    page.goto((large / "table.html").as_uri())
    assert "of 10000 rows" in page.locator("#count").text_content()
    assert page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd") < 1000
    page.close()
