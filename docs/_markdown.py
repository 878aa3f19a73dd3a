"""Docstrings, declarations and listings as Markdown."""

import importlib
import inspect
import re
from pathlib import Path

from mubench import listing

ROOT = Path(__file__).parent.parent
FIELD = re.compile(r"(\w+(?:(?:, | and | or )\w+)*): +(?=\S)")  # the start of a line on a field or argument


def join(*parts):
    """Paragraphs with an empty line between; empty ones are left out."""
    return "\n\n".join(part for part in map(str, parts) if part.strip()) + "\n"


# -- text
# ---------------------------------------------------------------------------------------------------------------


def prose(thing):
    """A docstring as Markdown; a paragraph of ``name: meaning`` lines, their continuation indented, becomes a list."""
    blocks = []
    for block in (inspect.getdoc(thing) or "").split("\n\n"):
        lines = block.split("\n")
        if FIELD.match(lines[0]) and all(FIELD.match(line) or line.startswith("    ") for line in lines):
            block = "\n".join(
                FIELD.sub(r"- ``\1``: ", line, count=1) if FIELD.match(line) else line[2:] for line in lines
            )
        blocks.append(escape(block))
    return "\n\n".join(blocks)


def documented(reference):
    """The docstring of ``module:name``, or of the module."""
    module, _, name = reference.partition(":")
    module = importlib.import_module(module)
    return prose(getattr(module, name) if name else module)


def escape(text):
    """Text with ``literals`` and *stress* as Markdown in which nothing else has a meaning but addresses, which become
    links.
    """
    parts = re.split(r"(``.+?``|`[^`\n]+`)", text, flags=re.S)
    return "".join(
        "`" + " ".join(part.strip("`").split()) + "`" if number % 2 else _escape_plain(part)
        for number, part in enumerate(parts)
    )


def _escape_plain(text):
    text = re.sub(r"\*\*(?=\w)", r"\*\*", text).replace("<", "&lt;")
    text = re.sub(r"https?://[^\s;,)]*[^\s;,.)]", r"[\g<0>](\g<0>)", text)
    text = re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"(?<=\bcode )[\w.-]+/[\w.-]*\w", r"[\g<0>](https://github.com/\g<0>)", text)


def code(value):
    """A value as code, a float without needless digits."""
    return "`" + (f"{value:g}" if isinstance(value, float) else str(value)) + "`"


def links(folder, names):
    return ", ".join(f"[{name}](../{folder}{name}.md)" for name in names)


def source(thing):
    """The file a thing is declared in, below the repository's root."""
    return Path(inspect.getfile(thing)).resolve().relative_to(ROOT.resolve())


# -- tables
# ---------------------------------------------------------------------------------------------------------------


def table(rows):
    """Rows (dicts of the same keys) as a Markdown table; columns that are empty in all rows are left out."""
    if not rows:
        return ""
    keys = [key for key in rows[0] if any(str(row[key]).strip() for row in rows)]
    lines = [[key or " " for key in keys], ["---"] * len(keys), *([_cell(row[key]) for key in keys] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value):
    text = str(value) if "](" in str(value) else escape(str(value))
    return text.replace("|", "\\|").replace("\n", " ") or " "


def facts(values):
    """A table of two columns without a head; what is empty is left out."""
    return table([{"": name, " ": value} for name, value in values.items() if value])


def listed(kind):
    """What `mubench ls` shows of a kind."""
    return table(listing._KINDS[kind]())


# -- the README
# ---------------------------------------------------------------------------------------------------------------


def readme(heading):
    """What the README says between a heading and the next one, its listings as tables."""
    text = (ROOT / "README.md").read_text()
    # A comment in a fence is no heading.
    bare = re.sub(r"^```.*?^```", lambda fence: re.sub(r"[^\n]", " ", fence[0]), text, flags=re.M | re.S)
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", bare, re.M | re.S)
    if not found:
        raise ValueError(f"the README has no heading {heading!r}")
    section = text[found.start(1) : found.end(1)]
    section = re.sub(
        r"<!-- mubench ls (\w+) -->\n```text\n.*?```", lambda listing: listed(listing[1]), section, flags=re.S
    )
    return re.sub(r"<!--.*?-->\n", "", section).replace("](docs/", "](").strip()
