"""Sweeps as files: the same runs as flags make, and a sentence for what is not right."""

import pytest

from mubench.cli import parser
from mubench.sweep.sweep_file import read

SWEEP = """
task: fashion
method: [original, neggrad]
seed: [0, 1]
limit: 32
set: {lr: 1e-3}
precision: no
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        return path

    return write


def test_a_file_is_the_same_sweep_as_its_flags(file, cli, tmp_path, foretold):
    text = SWEEP.replace("set: {lr: 1e-3}\n", "") + f"out: {tmp_path / 'out'}\n"
    said = cli("run", "--from", file(text), "--dry-run")
    typed = cli(
        "run", "fashion", "original,neggrad", "--seed", 0, 1, "--limit", 32, "--out", tmp_path / "out", "--dry-run"
    )
    assert said.code == 0 and said.out == typed.out and said.out.count("to do  fashion/resnet") == 4
    assert "4 runs, 0 done, 4 to do, time not known: " in said.out and "peak" in said.out

    assert cli("run", "--from", file(text), "--seed", 0, "--workers", 1).out.count("there before") == 1
    known = cli("run", "--from", file(text), "--dry-run").out
    assert "4 runs, 2 done, 2 to do, about " in known and "not known" not in known
    part = cli("run", "--from", file(text.replace("neggrad", "neggrad, salun")), "--dry-run").out
    assert "6 runs, 2 done, 4 to do, about " in part and " (2 of them not known)" in part


@pytest.mark.parametrize(
    "words, expected",
    [
        (
            [],
            {
                "task": "fashion",
                "method": "original,neggrad",
                "seed": [0, 1],
                "limit": 32,
                "set": ["lr=1e-3"],
                "precision": "no",
            },
        ),
        (
            ["--seed", "7", "--set", "epochs=1", "--precision", "bf16"],
            {"seed": [7], "set": ["lr=1e-3", "epochs=1"], "precision": "bf16"},
        ),
        (["headlines", "--limit", "5"], {"task": "headlines", "method": "original,neggrad", "limit": 5}),
    ],
)
def test_the_command_line_goes_first(file, words, expected):
    path = str(file(SWEEP))
    for argv in (["run", "--from", path, *words], ["run", *words, "--from", path]):
        first = parser().parse_args(argv)
        args = parser(read(path, first.parser, first.actions)).parse_args(argv)
        assert {name: getattr(args, name) for name in expected} == expected


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("task: fashion\nmethod: salun\nseeds: [0]\n", "unknown key of * 'seeds': did you mean 'seed' or *"),
        ("task: fashion\nmethod: salun\nseed: []\n", "*seed is empty*"),
        ("task: fashion\nmethod:\n", "*method is empty*"),
        ("", "*nothing to run*"),
        ("- fashion\n", "*nothing to run*"),
        ("task: [fashion\n", "*no YAML*"),
        ("task: fashion\nmethod: salun\nlimit: [1, 2]\n", "*limit takes one value*"),
        ("task: fashion\nmethod: salun\nseed: [one]\n", "*--seed: invalid int value: 'one'*"),
        ("task: fashion\nmethod: salun\nforce: maybe\n", "*force is 'maybe'*true or false*"),
        ("task: fashion\nseed: 1\n", "*names no method*"),
    ],
)
def test_a_wrong_file_is_answered_with_one_sentence(file, cli, text, sentence):
    import fnmatch

    done = cli("run", "--from", file(text))
    assert done.code == 1 and done.err.count("\n") == 1 and fnmatch.fnmatch(done.err, f"mubench: {sentence}\n"), (
        done.err
    )


def test_a_missing_file_and_no_file(cli, tmp_path):
    assert "cannot read the sweep" in cli("run", "--from", tmp_path / "none.yaml").err
    assert cli("run", "fashion").code == 2
