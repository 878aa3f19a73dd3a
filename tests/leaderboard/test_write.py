"""Tables as text: whatever a cell or a header holds, each format gives it back, escaped once."""

import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from mubench.leaderboard import escape, write

PUBLISHED = Path(__file__).parents[2] / "leaderboard/board.tex"
HOSTILE = [
    "#",
    "test_score",
    "work, % ↓",
    "a & b",
    "\\textbf{x}",
    "C:\\new\\",
    "~x~",
    "x^2",
    "{}",
    "{x}",
    "$x$",
    "a|b",
    "<b>bold</b>",
    "`code`",
    "**bold**",
    "_it_",
    "[x](javascript:alert(1))",
    "&lt;",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "ünïcode é ß",
    "71.3±0.9",
    "",
]
LATEX = {  # what LaTeX prints for each command
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    **{f"\\{character}": character for character in "&%$#_{}"},
    **{command: symbol for symbol, command in write.SYMBOLS.items()},
}


def printed(latex):
    """The text that LaTeX prints; what is no known command is printed as it is, and must not be special."""
    commands = "|".join(map(re.escape, sorted(LATEX, key=len, reverse=True)))
    assert not re.search(r"[\\&%$#_{}~^]", re.sub(commands, "", latex)), latex
    return re.sub(commands, lambda command: LATEX[command[0]], latex)


def shown(markdown):
    """The text that Markdown shows, where all that is special is behind a backslash."""
    assert not re.search(r"(?<!\\)[`*\[\]<>|~&$#]", re.sub(r"\\\\", "", markdown)), markdown
    return re.sub(r"\\([^a-zA-Z0-9\s])", r"\1", markdown)


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_gives_back_the_text_of_headers_and_cells(text):
    lines = write.latex({text: [text], "other": ["x"]}).splitlines()
    header, cell = (re.fullmatch(r"(?:\{\}(?=[\[*]))?(.*) & (other|x) \\\\", lines[number])[1] for number in (2, 4))
    assert header == cell == escape.latex(text).translate(str.maketrans(write.SYMBOLS)) and printed(cell) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_gives_back_the_text_of_headers_and_cells(text):
    header, rule, cell = write.markdown({text: [text], "other": ["x"]}).splitlines()
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", line)[1].strip() for line in (header, cell)]
    assert len({len(line) for line in (header, rule, cell)}) == 1
    assert [shown(escape.markdown(text))] * 2 == [text] * 2 == [shown(part) for part in cells]


class Html(HTMLParser):
    """The texts of cells, and every tag that is no table's."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.tags = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.cells += [""] if tag in ("td", "th") else []
        self.tags |= {tag} - {"table", "thead", "tbody", "tr", "td", "th"}

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def test_a_markdown_parser_shows_the_texts():
    markdown = pytest.importorskip("markdown")
    texts = [text for text in HOSTILE if text and not set(text) & set("~&$<>")]  # it knows no escape of these
    html = Html(markdown.markdown(write.markdown({"#": texts, "a|b": ["x"] * len(texts)}), extensions=["tables"]))
    html.cells = [cell.strip() for cell in html.cells]
    assert html.cells[:2] == ["#", "a|b"] and html.cells[2::2] == texts and html.tags == set()


def test_plain_text_is_what_it_is():
    head, _, *lines = write.plain({"text": HOSTILE, "n": ["1"] * len(HOSTILE)}, left=["text"]).splitlines()
    assert [line[: len(head) - 3].rstrip() for line in lines] == HOSTILE


def test_csv_gives_back_all_but_formulas_which_get_an_apostrophe():
    frame = pd.DataFrame({"text": HOSTILE, "value": [1 / 3] * len(HOSTILE)})
    again = pd.read_csv(io.StringIO(write.csv(frame)), keep_default_na=False, float_precision="round_trip")
    expected = [f"'{text}" if text[:1] in set("=+-@") - {""} and text else text for text in HOSTILE]
    assert again["text"].tolist() == expected and (again["value"] == 1 / 3).all()
    assert sum(text.startswith("'") for text in expected) == 4


def test_json_gives_back_everything():
    frame = pd.DataFrame({"text": [*HOSTILE, None], "value": [float("nan"), *[0.1] * len(HOSTILE)]})
    fields = {'a"b': HOSTILE, "rows": write.records(frame), "none": []}
    again = json.loads(write.json_object(fields))
    assert again == fields and "value" not in again["rows"][0] and "text" not in again["rows"][-1]
    assert write.json_object(fields).count("\n") == len(fields) + len(HOSTILE) + len(frame)


def test_frames_and_dicts_of_columns_are_written_alike():
    table = {"#": ["1", ""], "a_b": ["x", "50%"]}
    for text in (write.latex, write.markdown, write.plain):
        assert text(table) == text(pd.DataFrame(table))


def test_columns_of_numbers_are_taken_as_they_are():
    table = {"#": ["1"], "_x_": ["_y_"]}
    assert r"\_x\_ \\" in write.latex(table, words=()) and "1 & _y_" in write.latex(table, words=())
    assert r"\_x\_" in write.markdown(table, words=()) and " _y_ " in write.markdown(table, words=())


def test_one_line_has_no_control_characters():
    assert escape.one_line(" a\x1b[31m\n b\u202e\tc ") == "a [31m b c"


# -- what LaTeX makes of it --------------------------------------------------------------------------------------------


def compiled(folder, tables):
    """What pdflatex says of a document with the packages that the tables ask for."""
    packages = "".join(re.findall(r"\\usepackage(?:\[\w+\])?\{\w+\}", tables.splitlines()[0]))
    document = rf"\documentclass{{article}}{packages}\begin{{document}}\tiny\noindent {tables}\end{{document}}"
    (folder / "tables.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "tables.pdf").stat().st_size > 1000


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_the_published_tables_compile(tmp_path):
    compiled(tmp_path, PUBLISHED.read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_hostile_texts_compile(tmp_path):
    compiled(tmp_path, f"{write.PREAMBLE}\n{write.latex({text: [text, *HOSTILE] for text in HOSTILE[:9]})}")
    if shutil.which("pdftotext"):
        subprocess.run(["pdftotext", "-layout", "tables.pdf"], cwd=tmp_path, check=True)
        text = (tmp_path / "tables.txt").read_text()
        assert all(part in text for part in ("test_score", "a & b", "\\textbf{x}", "<b>bold</b>", "a|b"))


def test_no_header_is_escaped_twice():
    published = PUBLISHED.read_text(encoding="utf-8")
    assert r"\textbackslash" not in published and "\n\\# & method & gap $\\downarrow$ & test $\\uparrow$" in published
