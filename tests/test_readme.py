"""The README is run: its Python, its commands; its listings are what the commands print. `python tests/test_readme.py`
renews the listings."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCKS = re.findall(r"(?:<!-- (.+?) -->\n)?```(\w+)\n(.*?)```", README.read_text(), re.S)
LISTING = re.compile(r"(<!-- mubench ls (\w+) -->\n```text\n)(.*?)(```)", re.S)


def test_every_block_is_of_a_kind_that_is_tested():
    assert {kind for _, kind, _ in BLOCKS} == {"bash", "python", "text"}
    assert all(
        comment == "make demo" or comment.startswith("mubench ls ") for comment, kind, _ in BLOCKS if kind == "text"
    )


@pytest.mark.parametrize("what", [what for _, what, _, _ in LISTING.findall(README.read_text())])
def test_listings_are_not_stale(what):
    from mubench.listing import show

    shown = {what: text for _, what, text, _ in LISTING.findall(README.read_text())}
    assert shown[what] == show(what) + "\n", "python tests/test_readme.py renews the README"


def test_its_python_and_commands_run_in_order(tmp_path, monkeypatch, capsys, foretold):
    """One after the other in one folder, as a reader would; grids and runs on few rows and in this process, everything
    else as it stands.
    """
    from mubench.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    names = {}
    for _, kind, text in BLOCKS:
        if kind == "python":
            exec(text, names)
        for line in text.splitlines() if kind == "bash" else ():
            words = shlex.split(line, comments=True)
            if words[0] == "make":
                assert words[1] in targets
                continue
            assert words[0] == "mubench"
            if words[1] in ("run", "tune"):
                words += ["--limit", "64", "--out", "trials"] + ["--trials", "2"] * (words[1] == "tune")
                words += ["--workers", "1"] * ("--workers" in words)
            if words[1] == "board" or words[1] == "score":
                main(["run", "fashion", "original,finetune", "--max-steps", "1"])  # a few results for it to read
            main(words[1:])
    assert "MyMethod" in names and names["result"].metrics["forget_score"] > 0.5
    assert "fashion" in capsys.readouterr().out


if __name__ == "__main__":
    from mubench.listing import show

    README.write_text(LISTING.sub(lambda m: m[1] + show(m[2]) + "\n" + m[4], README.read_text()))
