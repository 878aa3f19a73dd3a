"""Figures inside pages: SVG that takes its colours and its font from the page's style sheet.

Matplotlib's SVG carries styles, ids and addresses that a page with a strict content policy refuses, or that would
clash with another figure's. Here it is written again with attributes alone: colours as CSS variables, no ids but of
clip paths, a title for the mouse and a link for each line that has them.
"""

import hashlib
import io
import re
from xml.etree import ElementTree

from markupsafe import Markup

from mubench.leaderboard.charts.drawing import UNDATED, Sheet, drawn, number
from mubench.leaderboard.charts.panel import COLOURS, GRID, INK, PAPER, SOFT

WIDE, NARROW = Sheet(560, 360, 13, 9), Sheet(380, 310, 13, 9)  # of scatters; of curves, which a phone shows whole
VARIABLES = {INK: "ink", SOFT: "soft", GRID: "line", PAPER: "back"} | {c: f"c{n}" for n, c in enumerate(COLOURS)}
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML cannot hold
SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
KEPT = ("x", "y", "d", "transform", "width", "height", "clip-path", "viewBox")


def inline(panel, describe, narrow=False):
    """A panel as SVG for a page; "" where there is nothing to draw.

    panel: a `Panel`.
    describe: what a screen reader says.
    narrow: whether it is for a column, or for the whole width of a page.
    """
    if not any(len(line.x) for line in panel.lines):
        return Markup("")
    hovers = {f"line-{n}": (_hover(line), line.link) for n, line in enumerate(panel.lines)}
    with drawn([[panel]], NARROW if narrow else WIDE) as figure:
        return embed(figure, describe, hovers, "narrow" if narrow else "")


def embed(figure, describe, hovers, kind=""):
    """A Matplotlib figure as SVG for a page.

    hovers: id of an artist → what is shown under the mouse, and where it leads to; "" for nothing.
    kind: a class for the style sheet.
    """
    figure.patch.set_visible(False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=UNDATED["svg"])
    drawing = ElementTree.fromstring(UNPRINTABLE.sub("\ufffd", text.getvalue()))
    prefix = "f" + hashlib.sha256(f"{describe}{text.getvalue()}".encode()).hexdigest()[:8]
    shapes = {path.get("id"): path for path in drawing.iter(f"{SVG}path") if path.get("id")}
    links = any(link for _, link in hovers.values())
    root = ElementTree.Element("svg", {"class": kind} if kind else {})
    root.attrib |= {
        "viewBox": drawing.get("viewBox"),
        "role": "group" if links else "img",  # links in an image would not be announced
        "aria-label": describe,
        "stroke-linejoin": "round",
    }
    _copy(drawing, root, hovers, shapes, prefix)
    return Markup(UNPRINTABLE.sub("\ufffd", ElementTree.tostring(root, encoding="unicode")))


def _hover(line):
    if not line.name or line.kind not in ("named", "points"):
        return line.name
    return f"{line.name}: {number(line.x[0])}, {number(line.y[0])}"


def _copy(source, target, hovers, shapes, prefix):
    """Copy what is inside ``source`` into ``target``."""
    for element in source:
        tag = element.tag.removeprefix(SVG)
        if tag == "defs":
            clips = [child for child in element if child.tag == f"{SVG}clipPath"]
            _copy(clips, ElementTree.SubElement(target, "defs"), {}, shapes, prefix) if clips else None
        elif tag == "use":  # a mark: its shape in its place
            mark = shapes[element.get(LINK).removeprefix("#")]
            place = f"translate({element.get('x')} {element.get('y')})"
            look = _attributes(mark, prefix) | _attributes(element, prefix)
            look = {name: value for name, value in look.items() if name not in ("x", "y")}
            ElementTree.SubElement(target, "path", look | {"transform": _rounded(place)})
        elif tag != "metadata":
            copy = _element(target, tag, element, hovers, prefix)
            copy.text = (element.text or "").strip() or copy.text
            _copy(element, copy, hovers, shapes, prefix)


def _element(target, tag, source, hovers, prefix):
    """A new element in ``target``; the target itself for a group that says nothing."""
    attributes, (hover, link) = _attributes(source, prefix), hovers.get(source.get("id"), ("", ""))
    if link:
        target = ElementTree.SubElement(target, "a", {"href": link, "tabindex": "-1"})
    if tag == "g" and not attributes and not hover:
        return target
    new = ElementTree.SubElement(target, tag, attributes)
    if hover:
        ElementTree.SubElement(new, "title").text = hover
    return new


def _attributes(element, prefix):
    """The attributes of an element, its style among them."""
    found = {name: _rounded(value) for name, value in element.attrib.items() if name in KEPT}
    for declaration in filter(None, (element.get("style") or "").split(";")):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font-size":
            found[name] = _rounded(value)
        elif name != "font-family":  # the page's own
            found[name] = f"var(--{VARIABLES[value]})" if value in VARIABLES else value
    if element.tag == f"{SVG}clipPath":
        found["id"] = prefix + element.get("id")
    if "clip-path" in found:
        found["clip-path"] = found["clip-path"].replace("#", f"#{prefix}")
    if re.fullmatch(r"rotate\(-?0 .*", found.get("transform", "")):
        del found["transform"]
    return found


def _rounded(text):
    """Positions to a tenth of a pixel, on one line."""
    short = re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda n: f"{float(n[0]):.1f}".removesuffix(".0"), text)
    return " ".join(short.split())
