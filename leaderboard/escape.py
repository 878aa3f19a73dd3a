"""Text of strangers, made harmless for the format it is written to: each function escapes once."""

import re

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def one_line(text):
    """One line of printable characters: terminals obey control characters."""
    text = str(text)
    if not text.isprintable():  # which of all white space a space alone is
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())


def markdown(text):
    """Text that GitHub-flavoured Markdown shows as it is."""
    return re.sub(r"[\\`*\[\]<>|~&$#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def latex(text):
    """Text that LaTeX sets as it is, in the encoding T1."""
    return text.translate(LATEX)


def spreadsheet(frame):
    """A frame in which text that a spreadsheet would run as a formula has an apostrophe before it."""
    texts = frame.select_dtypes(include=["object", "string", "str"])
    return frame.assign(**{name: texts[name].map(_formula) for name in texts})


def _formula(cell):
    return "'" + cell if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell
