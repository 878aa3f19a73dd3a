"""The documentation is followed to the letter: it builds without a warning, every command line in it is a valid one,
and every block is run in an empty folder, page by page, unless the page's source says why not.

Before a block may stand ``<!-- slow -->`` (run by `make test-slow`), ``<!-- file: NAME -->`` (its text becomes that
file) or ``<!-- not run: REASON -->``. What a page says of commands that are not there yet is left out here as it is on
the site.
"""

import contextlib
import glob
import io
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import _generate  # the hook that makes the site's pages
import pytest

from mubench.cli import main, parser, verbs

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
REASONS = {"network", "GPU", "cluster", "long"}
FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
MARK = re.compile(r"<!-- (slow|file|not run)(?:: (.+?))? -->\n\Z")


@dataclass
class Block:
    """A fenced block of a page: ``kind`` is its language, ``mark`` what stands before it, ``said`` what that says."""

    kind: str
    text: str
    mark: str
    said: str

    @property
    def commands(self):
        """Command lines as words, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(path):
    page = path.read_text()
    for fence in FENCE.finditer(page):
        mark = MARK.search(page[: fence.start()])
        yield Block(fence["kind"], fence["text"], *((mark[1], mark[2]) if mark else (None, None)))


def valid(words):
    """Whether the command line knows these words (without ``mubench``)."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            parser().parse_args(words)
        except SystemExit:
            return False
    return True


def run(block, names):
    """Do what a block says; ``names``: of the page's Python so far."""
    if block.mark == "file":
        Path(block.said).write_text(block.text)
    elif block.kind == "python":
        exec(compile(block.text, "the page", "exec"), names)
    else:
        for words in block.commands:
            words = [name for word in words for name in sorted(glob.glob(word)) or [word]]  # as a shell does
            if words[0] == "mubench":
                main(words[1:])
            else:
                subprocess.run(
                    [sys.executable, "-m", {"torchrun": "torch.distributed.run"}[words[0]], *words[1:]],
                    check=True,
                    timeout=300,
                )


def follow(path, tmp_path, monkeypatch, slow):
    """Run a page from above; without ``slow`` all but its slow blocks, with it all of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"__name__": "__main__"}
    for block in blocks(path):
        if (
            block.mark == "file"
            or block.mark != "not run"
            and block.kind in ("bash", "python")
            and (slow or block.mark != "slow")
        ):
            run(block, names)


@pytest.fixture(autouse=True)
def own_cache(_cache, tmp_path_factory, monkeypatch):
    """Originals that a page trains stay out of the other tests' cache."""
    mine = tmp_path_factory.mktemp("cache")
    shutil.copytree(_cache / "originals", mine / "originals", symlinks=True)
    monkeypatch.setenv("MUBENCH_CACHE", str(mine))


RUN = [p for p in PAGES if any(b.kind in ("bash", "python") and b.mark not in ("not run", "slow") for b in blocks(p))]
SLOW = [p for p in PAGES if any(b.mark == "slow" for b in blocks(p))]


@pytest.mark.parametrize("path", RUN, ids=lambda p: p.stem)
def test_a_page_can_be_followed(path, tmp_path, monkeypatch, foretold):
    follow(path, tmp_path, monkeypatch, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("path", SLOW, ids=lambda p: p.stem)
def test_a_page_can_be_followed_where_it_takes_long(path, tmp_path, monkeypatch):
    follow(path, tmp_path, monkeypatch, slow=True)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_no_command_escapes_the_tests(path):
    """Commands stand in bash blocks, each of which is run or says why not; what is not run is at least a valid command
    line.
    """
    page = path.read_text()
    assert page.count("```") == 2 * len([*blocks(path)]) and not re.search(r"^    ", FENCE.sub("", page), re.M), (
        "code stands in fences"
    )
    for block in blocks(path):
        assert block.mark != "not run" or block.said in REASONS, block
        assert block.kind in ("bash", "python") or not re.search(
            r"^\W*(mubench|python|pip|torchrun|accelerate)\s", block.text, re.M
        ), block
        for words in block.commands if block.kind == "bash" else ():
            if "mubench" in words:
                assert valid(words[words.index("mubench") + 1 :]), words
            else:
                assert block.mark == "not run" and words[0] in ("export", "srun", "sleep"), words


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site, and what MkDocs warned of."""
    pytest.importorskip("mkdocs", reason="the documentation needs MkDocs: pip install mubench[docs]")
    import logging

    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    warned, folder = [], tmp_path_factory.mktemp("site")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    return folder, warned


def test_the_site_builds_and_every_link_leads_somewhere(site):
    from mubench import registry
    from mubench.measure.metrics import METRICS

    folder, warned = site
    assert not warned
    for kind, names in (("tasks", registry.tasks.modules), ("methods", registry.methods.modules), ("metrics", METRICS)):
        assert {p.stem for p in (folder / kind).glob("*.html")} == {"index", *names}
    assert not [
        page
        for page in folder.rglob("*.html")
        if re.search(r"<(?:link|script|img)[^>]*(?:href|src)=\"(?:https?:)?//", page.read_text())
    ]


def test_generated_pages_say_what_the_declarations_say(site):
    text = lambda path: re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (site[0] / path).read_text()))
    salun, fashion = text("methods/salun.html"), text("tasks/fashion.html")
    assert "saliency_ratio 0.5 0.1 to 0.9" in salun and "Loss Data Loss sparse internal alternate" in salun
    assert "test (D_t) 800" in fashion and "5 % 250 4,750" in fashion and "MIT, Zalando SE" in fashion


@pytest.mark.parametrize("name", [p.name for p in PAGES] + ["generated pages"])
def test_commands_in_running_text_are_valid(name):
    pages = _generate.pages().values() if name == "generated pages" else [(ROOT / "docs" / name).read_text()]
    for command in {c for page in pages for c in re.findall(r"`mubench ([a-z][^`]*)`", page)}:
        assert valid(command.split()) or command in verbs(), command
