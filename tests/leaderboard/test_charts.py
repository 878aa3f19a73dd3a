"""Figures: the same bytes, text that stays text, names that cover nothing; in pages, no style, id or address of
Matplotlib's own.
"""

import re
import threading
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from mubench.leaderboard.charts import Line, Panel, critical_difference, drawn, inline, save
from mubench.leaderboard.charts.drawing import number
from mubench.leaderboard.charts.labels import apart

NAMES = ("original", "retrain", "salun", "neggrad_plus", "rand_label", "bad_t", "scrub", "finetune")


def dots(**options):
    """A panel of named points, the references among them."""
    places = np.random.default_rng(0).random((len(NAMES), 2)) * 100
    lines = [
        Line(name, [x], [y], kind="named", colour=name if name in ("original", "retrain") else 0, link=f"{name}.html")
        for name, (x, y) in zip(NAMES, places.tolist(), strict=True)
    ]
    return Panel("", "forget score, %", "test score, %", lines, **options)


def curves(**options):
    """A panel of lines with bands, one of which is not known everywhere."""
    lines = [
        Line("original", [1, 2, 5], [10.0, 11.0, 12.0], colour="original"),
        Line("salun", [1, 2, 5], [5.0, 6.0, 6.0], half=[1.0, np.nan, 2.0]),
        Line("scrub", [1, 2, 5], [5.1, 6.1, 6.1], half=[[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]], colour=1),
    ]
    return Panel("", "deletion ratio, %", "gap to retrain, %", lines, **options)


def boxes(panel):
    """The boxes of all texts inside and beside a drawn panel, name → box."""
    with drawn([[panel]]) as figure:
        figure.canvas.draw()
        return {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}


@pytest.mark.parametrize("panel", [dots(log=True), dots(guides={"random": 10}), curves(key=True), curves(floor=0)])
def test_a_figure_of_a_page_is_the_same_in_any_thread_and_brings_nothing_of_its_own(panel):
    found = []
    threads = [threading.Thread(target=lambda: found.append(inline(panel, "what it shows"))) for _ in range(3)]
    before = dict(matplotlib.rcParams)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and dict(matplotlib.rcParams) == before
    svg = ElementTree.fromstring(found[0])
    assert svg.get("aria-label") == "what it shows"
    assert {e.tag for e in svg.iter()} <= {"svg", "g", "a", "title", "path", "text", "defs", "clipPath", "rect"}
    assert not [e for e in svg.iter() if {"style", "class"} & set(e.attrib)]
    assert all(e.tag == "clipPath" for e in svg.iter() if "id" in e.attrib)
    colours = {e.get(name) for e in svg.iter() for name in ("fill", "stroke")} - {None, "none"}
    assert colours and all(re.fullmatch(r"var\(--\w+\)", colour) for colour in colours)


def test_points_have_names_titles_and_links():
    svg = ElementTree.fromstring(inline(dots(), "points"))
    assert set(NAMES) <= {text.text for text in svg.iter("text")} and svg.get("role") == "group"
    assert {a.get("href") for a in svg.iter("a")} == {f"{name}.html" for name in NAMES}
    assert all(a.find(".//title").text.startswith(a.get("href").removesuffix(".html")) for a in svg.iter("a"))


def test_two_figures_of_a_page_share_no_id():
    ids = [re.findall(r'id="([^"]+)"', inline(panel, "x")) for panel in (curves(), curves(floor=0))]
    assert ids[0] and not set(ids[0]) & set(ids[1])


@pytest.mark.parametrize("evil", ["<script>x()</script>", '"><b>', "$\\frac$", "a\x00b\x08", "two\nlines", "long" * 50])
def test_names_of_strangers_are_text(evil):
    panel = Panel("", evil, "y", [Line(evil, [1.0, 2.0], [1.0, 2.0], link="x.html")])
    for found in (inline(panel, evil), critical_difference([(evil, 1.0), ("other", 2.0)], 0.5, evil)):
        ElementTree.fromstring(found)
        assert "<script" not in found and "<b>" not in found


def test_nothing_to_draw_is_no_figure():
    assert (
        inline(Panel("", "x", "y", []), "nothing") == "" == inline(Panel("", "x", "y", [Line("a", [], [])]), "nothing")
    )


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_files_are_the_same_twice(tmp_path, suffix):
    for name in ("a", "b"):
        save([[curves(), dots(diagonal=True)], [dots(log=True)]], tmp_path / name, [suffix])
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_text_of_a_file_is_text(tmp_path):
    save([[curves(levels={"retrain": 3})]], tmp_path / "a", ["svg"])
    assert {"salun", "scrub", "retrain", "deletion ratio, %"} <= {
        text.text for text in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")
    }


def test_names_at_the_ends_of_lines_do_not_cover_each_other():
    heights = apart([0.5, 0.5, 0.51, 0.9], 0.1)
    assert np.diff(np.sort(heights)).min() > 0.0999 and heights[3] == pytest.approx(0.9, abs=0.05)
    found = boxes(curves())
    assert found["salun"].y1 <= found["scrub"].y0 + 2


def test_names_of_points_and_levels_do_not_cover_each_other():
    found = list(boxes(dots(levels={"one": 50, "two": 58, "near": 58.1})).items())
    assert {"one", "two, near"} <= {name for name, _ in found}
    for place, (_, box) in enumerate(found):
        assert not [name for name, other in found[:place] if box.padded(-1).overlaps(other.padded(-1))]


def test_bars_join_what_cannot_be_told_apart():
    ranks = [(name, 1.5 + place) for place, name in enumerate(NAMES)]
    svg = ElementTree.fromstring(critical_difference(ranks, 2.2, "mean ranks"))
    bars = [e for e in svg.iter("path") if e.get("stroke") == "var(--ink)" and e.get("stroke-width") == "3"]
    assert len(bars) == len(NAMES) - 2 and "critical difference 2.2" in {t.text for t in svg.iter("text")}
    assert {f"{name}: mean rank {rank:.1f}" for name, rank in ranks} == {t.text for t in svg.iter("title")}


def test_numbers_are_said_shortly():
    assert [number(x) for x in (0, -2.5, 1234, 0.1 + 0.2)] == ["0", "−2.5", "1234", "0.3"]
    assert [number(x, log=True) for x in (1e-5, 2e-5, 0.01, 1e6)] == ["10⁻⁵", "2·10⁻⁵", "0.01", "10⁶"]
