"""The command line: instant where it can be, and one sentence for whatever is wrong."""

import dataclasses
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import mubench as mu
from mubench import registry
from mubench.cli import main, parser, verbs
from mubench.errors import MubenchError
from mubench.registry import Registry, load_task
from mubench.splits import make_split

ROOT = Path(__file__).parents[2]
VERBS = tuple(verbs())
METHOD = '''from mubench.methods.base import Method, Term


class Mine(Method):
    """Ascent on D_f, told in a file of one's own."""

    schedule = "forget_only"
    terms = (Term("forget", "loss", "true", weight=-1.0),)
    lr_factor = 0.01
'''


def sentence(done, *parts, code=1):
    """An error is one line on stderr that says what is wrong, and nothing else."""
    assert done.code == code, done
    assert done.err.startswith("mubench: ") and done.err.endswith("\n") and done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err and "not yours" not in done.err, done.err
    for part in parts:
        assert part in done.err, done.err


@pytest.fixture
def original(tmp_path):
    """A copy of the packaged original that may be damaged."""
    return Path(shutil.copytree(load_task("fashion").originals_dir("resnet"), tmp_path / "checkpoint"))


# -- help and listings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)], ids=lambda words: " ".join(words) or "mubench")
def test_help(cli, words):
    done = cli(*words, "--help")
    assert done.code == 0 and done.out.startswith(" ".join(["usage: mubench", *words])) and not done.err
    assert f"example: mubench {words[0]}" in done.out if words else all(verb in done.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_examples_of_the_help_are_valid_command_lines(cli, verb):
    example = re.search(r"^example: mubench (.+)$", cli(verb, "--help").out, re.M)[1]
    assert parser().parse_args(example.split()).function.__name__ == verb


def test_version(cli):
    assert re.fullmatch(r"mubench \d+\.\d+\.\d+\n", cli("--version").out)


@pytest.mark.parametrize(
    "kind, some",
    [("tasks", "fashion"), ("models", "resnet"), ("methods", "salun"), ("metrics", "test_score"), ("pairs", "salun")],
)
def test_ls(cli, kind, some):
    done = cli("ls", kind)
    lines = done.out.splitlines()
    assert done.code == 0 and lines[0].split()[0] == kind.rstrip("s").replace("model", "task").replace("pair", "method")
    assert any(some in line.split() for line in lines[1:])
    if kind in ("tasks", "methods"):
        assert sorted(line.split()[0] for line in lines[1:]) == getattr(registry, kind).names()


def test_ls_of_one_thing(cli):
    assert "lr_factor" in cli("ls", "salun").out and "resnet" in cli("ls", "fashion").out
    sentence(cli("ls", "metrcs"), "unknown name 'metrcs': did you mean 'metrics'")


def test_listings_import_nothing_heavy():
    code = """
import contextlib, io, sys
from mubench.cli import main
heavy = {"torch", "transformers", "datasets", "pandas", "numpy", "accelerate", "sklearn"}
for words in (["--help"], ["ls", "tasks"], ["ls", "models"], ["ls", "methods"], ["ls", "metrics"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(words)
    print(*words, *heavy & {*sys.modules})
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "--help\nls tasks\nls models\nls methods\nls metrics\n"


@pytest.mark.parametrize("folder", ["tasks", "methods", "leaderboard"])
def test_rooms_cannot_be_imported_under_their_bare_names(folder):
    done = subprocess.run([sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True)
    assert (
        done.returncode
        and done.stderr.splitlines()[-1]
        == f"ImportError: import mubench.{folder}, not a bare '{folder}': install the package (pip install -e .) first"
    )


# -- what is wrong, in one sentence ------------------------------------------------------------------------------------

RUN = ("run", "fashion", "neggrad", "--limit", "32")


@pytest.mark.parametrize(
    "words, parts",
    [
        (("run", "fashoin", "salun"), ["unknown task 'fashoin'", "did you mean 'fashion'", "`mubench ls tasks`"]),
        (("run", "fashion", "salum"), ["unknown method 'salum'", "did you mean 'salun'", "`mubench ls methods`"]),
        (("run", "fashion,", "salun,original,scrbu"), ["unknown method 'scrbu'", "'scrub'"]),
        ((*RUN, "--model", "resnte"), ["unknown model of fashion 'resnte'", "'resnet'"]),
        ((*RUN, "--set", "epohcs=2"), ["unknown hyperparameter of neggrad 'epohcs'", "'epochs'"]),
        ((*RUN, "--set", "epochs=few"), ["epochs='few' does not fit neggrad", "int"]),
        ((*RUN, "--set", "epochs"), ["--set 'epochs': write NAME=VALUE"]),
        ((*RUN, "--set", "=2"), ["--set '=2': write NAME=VALUE"]),
        *(
            ((*RUN, "--ratio", ratio), [f"ratio '{ratio}'", "above 0 and at most 50"])
            for ratio in ("0", "-1", "60", "five", "nan", "inf")
        ),
        ((*RUN, "--seed", "-1"), ["seed=-1"]),
        (("run", "fashion", "neggrad", "--limit", "0"), ["limit=0"]),
        ((*RUN, "--max-steps", "0"), ["max_steps=0"]),
        ((*RUN, "--max-steps", "3", "--shard"), ["among processes, and there is one", "torchrun"]),
        ((*RUN, "--max-seconds", "-1"), ["max_seconds=-1"]),
        ((*RUN, "--split-file", "none.txt"), ["no index file 'none.txt'"]),
        ((*RUN, "--checkpoint", "no/such/folder"), ["no checkpoint folder 'no/such/folder'", "safetensors"]),
        (("run", "fashion", "none.py:Mine"), ["no file 'none.py'", "path/to/file.py:Class"]),
        (("run", "none.py:Mine", "salun"), ["no file 'none.py'"]),
        (("fetch", "fashoin"), ["unknown task 'fashoin'"]),
        (("split", "fashion", "--ratio", "five"), ["ratio 'five'"]),
        (("split", "fashion", "--ratio", "0.001"), ["no unit at all"]),
        (("split", "fashion", "--check", "none.txt"), ["no index file 'none.txt'"]),
        (("original", "fashion", "--model", "vitt"), ["unknown model of fashion 'vitt'", "'vit'"]),
        (("evaluate", "fashion", "no/such/folder"), ["no checkpoint folder 'no/such/folder'"]),
        (("evaluate", "fashion", "."), ["has no model.safetensors", "safe_serialization=True"]),
        (("score", "none"), ["no results below none"]),
        (("board", "none"), ["no results below none"]),
        (("check", "fashoin"), ["unknown task, method or result folder 'fashoin'", "'fashion'"]),
        (("check", "."), ["no result at '.'"]),
        (("new", "method", "My-Method"), ["'My-Method' must be snake_case"]),
        (("new", "method", "salun"), ["salun is already a method"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_one_sentence(cli, tmp_path, monkeypatch, words, parts):
    monkeypatch.chdir(tmp_path)
    sentence(cli(*words), *parts)


PLACE = {  # verb → its words up to here, the arguments that it must have
    "run": ["fashion", "neggrad"],
    "tune": ["fashion", "neggrad"],
    "ablate": ["lora", "fashion"],
    "fetch": ["fashion"],
    "evaluate": ["fashion", "owner/name"],
    "score": ["."],
    "split": ["fashion"],
    "original": ["fashion"],
    "check": ["fashion"],
    "new": ["method", "x"],
    "submit": [".", "--name", "x"],
    "board": ["."],
    "report": ["."],
    "ls": [],
}
WRONG_NUMBERS = {int: ["-1", "-99999999999999999999"], float: ["-1", "nan", "inf", "-inf"]}
ZERO_IS_RIGHT = {
    "--seed",
    "--sample",
    "--gpus-per-run",
    "--margin",
    "--seconds",
    ("run", "--trials"),
    ("submit", "--trials"),
}
PLACES = re.compile(r"FOLDER|FILE|RESULT|RUN$|CHECKPOINT|ZIP")
CHECKED_BY_NAME = {("check", "what"), ("run", "sweep")}  # a name or a place; a file that is read at once


def declared():
    """(verb, argument's name, argparse's action) of all that the command line takes."""
    for verb, its in verbs().items():
        for action in its.get_default("actions").values():
            yield verb, action.option_strings[-1] if action.option_strings else action.dest, action


NUMBERS = [(verb, name, value) for verb, name, action in declared() for value in WRONG_NUMBERS.get(action.type, ())]
NUMBERS += [
    (verb, name, "0")
    for verb, name, action in declared()
    if action.type in WRONG_NUMBERS and not {name, (verb, name)} & ZERO_IS_RIGHT
]
NUMBERS += [("board", "--port", "65536"), ("run", "--ray", "nonsense"), ("run", "--ray", "host:port")]
NUMBERS += [
    (verb, "--ratio", ratio) for verb in ("run", "tune", "ablate", "evaluate", "split") for ratio in ("0", "60", "x")
]


@pytest.fixture
def untouched(monkeypatch):
    """No verb does anything."""
    import mubench.cli as command_line

    asked = []
    monkeypatch.setattr(
        command_line, "VERBS", [dataclasses.replace(verb, function=asked.append) for verb in command_line.VERBS]
    )
    return asked


def words_with(verb, name, value):
    """A command line that is right but for one argument."""
    words = [verb, *PLACE[verb]]
    if name.startswith("-"):
        return [*words, f"{name}={value}"]
    place = [n for v, n, action in declared() if v == verb and not action.option_strings].index(name)
    words[1 + place : 2 + place] = [value]
    return words


@pytest.mark.parametrize("verb, name, value", NUMBERS)
def test_a_number_that_cannot_be_is_refused_before_anything_is_loaded(cli, untouched, verb, name, value):
    sentence(cli(*words_with(verb, name, value)))
    assert not untouched


@pytest.mark.parametrize("verb, name", [(v, n) for v, n, a in declared() if a.type in WRONG_NUMBERS])
def test_a_number_that_can_be_is_taken(cli, untouched, tmp_path, verb, name):
    assert cli(*words_with(verb, name, 1)).code == 0 and len(untouched) == 1


@pytest.mark.parametrize(
    "verb, name, action",
    [
        (verb, name, action)
        for verb, name, action in declared()
        if PLACES.search(str(action.metavar).upper()) and (verb, action.dest) not in CHECKED_BY_NAME
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_place_that_cannot_be_is_refused_before_anything_is_loaded(
    cli, untouched, tmp_path, monkeypatch, verb, name, action
):
    """What is read must be there; what is written must have a folder that can be written to."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    written = name in ("--out", "--site", "--figures", "--export")
    sentence(cli(*words_with(verb, name, "file/below" if written else "no/such/place")))
    if written:
        monkeypatch.setattr(os, "access", lambda *_, **__: False)
        sentence(cli(*words_with(verb, name, tmp_path / "new")), "permission denied")
        if name == "--export":
            sentence(cli(*words_with(verb, name, "no/such/folder")), "there is no such folder")
    assert not untouched


@pytest.mark.parametrize("verb", [verb for verb, name, _ in declared() if name == "--out"])
def test_a_place_that_can_be_made_is_taken(cli, untouched, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    assert cli(*words_with(verb, "--out", "new/folder")).code == 0 and not list(tmp_path.iterdir())


def test_every_number_and_place_has_a_check():
    """A new one cannot be forgotten."""
    lacking = []
    for verb, its in verbs().items():
        for action in its.get_default("actions").values():
            place = PLACES.search(str(action.metavar).upper()) and (verb, action.dest) not in CHECKED_BY_NAME
            if (place or action.type in WRONG_NUMBERS) and action.dest not in its.get_default("checks"):
                lacking.append(f"{verb} {action.dest}")
    assert not lacking


@pytest.mark.parametrize(
    "words",
    [
        ("run", "fashion", "salun", "--workers", "0"),
        ("run", "fashion", "salun", "--checkpoint", "nope"),
        ("run", "fashion", "salun", "--limit", "0"),
        ("tune", "fashion", "salun", "--trials", "0"),
        ("evaluate", "fashion", "nope"),
        ("board", "nope"),
        ("report", "nope"),
        ("submit", "nope", "--name", "x"),
        ("check", "nope"),
        ("ls", "nope"),
    ],
    ids=" ".join,
)
def test_what_is_refused_imports_no_torch(words):
    code = (
        "import sys\nfrom mubench.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print({'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "set()\n" and done.stderr.startswith("mubench: ")


def test_a_checkpoint_that_is_not_there_leaves_no_note(cli, tmp_path):
    out = tmp_path / "out"
    sentence(cli(*RUN, "--checkpoint", "nope", "--out", out), "no checkpoint folder 'nope'")
    with pytest.raises(MubenchError, match="no checkpoint folder 'nope'"):
        mu.run("fashion", "neggrad", checkpoint="nope", out=out)
    assert not out.exists()


def test_a_table_shows_the_failures_of_what_it_shows(cli, tmp_path):
    """Not those of other runs that lie in the folder, however alike."""
    (tmp_path / "fails.py").write_text(METHOD.replace("weight=-1.0", "weight=float('nan')"))
    out, fails = tmp_path / "out", f"{tmp_path / 'fails.py'}:Mine"
    some = ("--limit", 32, "--out", out)
    assert "failed: " in cli("run", "fashion", f"{fails},original", *some).out.partition("note: ")[2]
    assert "failed: " not in cli("run", "fashion", "original", *some).out
    assert "failed: " in cli("board", out).out


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("rnu",),
        ("run",),
        ("run", "fashion"),
        (*RUN, "--seed", "one"),
        (*RUN, "--precision", "fp8"),
        (*RUN, "--workers", "two"),
        ("new", "thing", "x"),
        ("ls", "tasks", "methods"),
    ],
    ids=" ".join,
)
def test_wrong_usage(cli, words):
    done = cli(*words)
    assert done.code == 2 and done.err.startswith("usage: mubench") and "error: " in done.err and not done.out


def test_debug_shows_where(cli, mubench):
    with pytest.raises(MubenchError, match="unknown method"):
        main(["run", "fashion", "salum", "--debug"])
    done = mubench("run", "fashion", "salum", "--debug")
    assert done.code == 1 and done.err.startswith("Traceback") and "unknown method 'salum'" in done.err.splitlines()[-1]
    assert cli("run", "fashion", "salum").err == f"mubench: {done.err.splitlines()[-1].partition(': ')[2]}\n"


def test_an_unforeseen_error_is_one_line_too(cli, monkeypatch):
    monkeypatch.setattr("mubench.listing.show", lambda what: 1 / 0)
    done = cli("ls", "tasks")
    assert done.code == 1 and done.err.startswith("mubench: ZeroDivisionError") and done.err.count("\n") == 1
    assert "--debug" in done.err


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m mubench ls methods | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0" and not done.stderr


# -- wherever it is started --------------------------------------------------------------------------------------------

ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}


@pytest.mark.parametrize(
    "words", [("--help",), *((verb, "--help") for verb in VERBS), ("ls", "methods"), ("ls", "metrics")], ids=" ".join
)
def test_a_terminal_that_shows_ascii_only(mubench, words):
    done = mubench(*words, env=os.environ | ASCII)
    assert done.code == 0 and done.out.isascii() and not done.err


def test_nothing_is_lost_for_a_character(mubench, tmp_path):
    """Neither in this process nor in its workers: they are told so by the environment they inherit."""
    (tmp_path / "words.py").write_text(
        METHOD.replace("class", "print('Ω is read')\n\n\nclass").replace("lr_factor = 0.01", 'word: str = "Größe"'),
        encoding="utf-8",
    )
    out, words = tmp_path / "out", ("--limit", 32, "--workers", 2, "--seed", 0, 1)
    done = mubench("run", "fashion", f"{tmp_path / 'words.py'}:Mine", *words, "--out", out, env=os.environ | ASCII)
    assert done.code == 0 and "2 done, 0 there before, 0 failed; results in" in done.out, done
    assert done.out.isascii() and done.out.count("? is read") >= 3 and "Traceback" not in done.err
    record = json.loads(next(out.rglob("result.json")).read_text(encoding="utf-8"))
    assert record["method"]["hyperparameters"]["word"] == "Größe"
    (tmp_path / "grown.yaml").write_text("täsk: fashion", encoding="utf-8")
    for failing in (
        ("run", "--from", tmp_path / "grown.yaml"),
        ("ls", "Größe"),
        ("run", "fashion", "salun", "--out", "ö"),
    ):
        failed = mubench(*failing, env=os.environ | ASCII, cwd=tmp_path)
        assert failed.err.isascii() and not (tmp_path / "ö").exists()
        sentence(failed, *["set PYTHONUTF8=1"] * ("--from" not in failing))


WITHOUT_EDITABLE = "sys.meta_path[:] = [one for one in sys.meta_path if 'Editable' not in getattr(one, '__name__', '')]"


@pytest.mark.parametrize("start", ["module", "script"])
def test_a_checkout_finds_its_own_rooms_whatever_is_installed(tmp_path, start):
    """Python takes the folder `mubench` of the place it is started in for the package: its rooms lie beside it."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n{WITHOUT_EDITABLE}\n")
    (tmp_path / "mubench").mkdir()
    (tmp_path / "mubench/__init__.py").write_text("raise ImportError('the installed one')")
    code = (
        "import mubench, mubench.methods, mubench.leaderboard\n"
        "print(mubench.__file__, mubench.methods.__file__, mubench.leaderboard.__file__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    words = ["-m", "mubench", "ls", "tasks"] if start == "module" else ["-c", code]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rooms = [str(ROOT / room / "__init__.py") for room in ("mubench", "methods", "leaderboard")]
    assert "fashion" in done.stdout if start == "module" else done.stdout.split() == rooms


def test_an_installed_package_looks_nowhere_else_for_its_rooms(tmp_path):
    package = Path(mu.__file__).parent
    (tmp_path / "mubench").mkdir()
    for part in [*package.iterdir(), *(ROOT / room for room in ("tasks", "methods", "leaderboard"))]:
        if not (tmp_path / "mubench" / part.name).exists():
            (tmp_path / "mubench" / part.name).symlink_to(part)
    done = subprocess.run(
        [sys.executable, "-c", "import mubench, mubench.tasks; print(mubench.__path__)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{[str(tmp_path / 'mubench')]}\n", done.stderr


# -- nothing of it stays in the process --------------------------------------------------------------------------------


def state():
    """What a command could change for whoever calls it from a notebook."""
    import huggingface_hub.utils
    import optuna
    import torch

    names = ["", *logging.Logger.manager.loggerDict]
    return {
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "levels": {name: logging.getLogger(name).level for name in names},
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "optuna": optuna.logging.get_verbosity(),
        "bars": huggingface_hub.utils.are_progress_bars_disabled(),
        "folder": os.getcwd(),
    }


@pytest.mark.parametrize(
    "words",
    [
        ("ls", "methods"),
        ("run", "fashion", "salum"),
        (*RUN, "--data-dir", "somewhere", "--out", "out"),
        (*RUN, "--dry-run"),
        (*RUN, "--workers", "2", "--seed", "0", "1", "--out", "two"),
        ("tune", "fashion", "neggrad", "--limit", "32", "--trials", "1", "--out", "tuned"),
        ("evaluate", "fashion", "no/such/folder"),
    ],
    ids=lambda words: words if isinstance(words, str) else " ".join(words),
)
def test_a_command_leaves_the_process_as_it_was(cli, tmp_path, monkeypatch, words, foretold):
    import datasets  # noqa: F401 (what libraries do when they are imported is theirs)
    import diffusers  # noqa: F401
    import optuna
    import sklearn.svm  # noqa: F401
    import transformers  # noqa: F401

    import mubench.runner  # noqa: F401

    monkeypatch.chdir(tmp_path)
    (tmp_path / "somewhere").mkdir()
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MUBENCH_DATA", "mine")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        before = state()
        cli(*words)
        after = state()
        after["levels"] = {name: after["levels"][name] for name in before["levels"]}
        assert {name: value for name, value in after.items() if value != before[name]} == {}


def test_a_command_is_quiet_and_its_workers_find_the_data(monkeypatch):
    from mubench.cli.quiet import environment, quiet

    for name in ("TRANSFORMERS_VERBOSITY", "MUBENCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    with quiet(), environment(MUBENCH_DATA="here"):
        assert warnings.filters[0][0] == "ignore" and logging.getLogger("transformers").level == logging.ERROR
        code = "import os; print(os.environ['MUBENCH_DATA'], os.environ['TRANSFORMERS_VERBOSITY'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "here error\n"
    with pytest.raises(ValueError), environment(MUBENCH_DATA="there"):
        raise ValueError
    assert os.environ.get("MUBENCH_DATA") is None


# -- checkpoints -------------------------------------------------------------------------------------------------------


def damage(name, change):
    def apply(folder):
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return apply


def no_card(then):
    def apply(folder):
        (folder / "card.json").unlink()
        then(folder)

    return apply


def other_head(folder):
    import transformers

    config = transformers.ResNetConfig.from_pretrained(folder, num_labels=7)
    transformers.ResNetForImageClassification(config).save_pretrained(folder)


def wider(folder):
    import transformers

    config = transformers.ResNetConfig.from_pretrained(folder, hidden_sizes=[16, 32, 48])
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    shutil.copy(load_task("fashion").originals_dir("resnet") / "config.json", folder)


@pytest.mark.parametrize(
    "harm, parts",
    [
        (lambda folder: (folder / "model.safetensors").unlink(), ["has no model.safetensors"]),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            ["only safetensors are read"],
        ),
        (lambda folder: (folder / "config.json").unlink(), ["has no config.json"]),
        (damage("model.safetensors", lambda b: b[:-1000]), ["are not those their card describes"]),
        (damage("model.safetensors", lambda b: b[:-1] + bytes([b[-1] ^ 1])), ["are not those their card describes"]),
        (damage("card.json", lambda b: b[:50]), ["card.json is damaged"]),
        (damage("card.json", lambda b: b"{}"), ["card.json is damaged"]),
        (no_card(damage("model.safetensors", lambda b: b[:-1000])), ["cannot be read", "damaged"]),
        (no_card(damage("model.safetensors", lambda b: b[:20])), ["cannot be read"]),
        (no_card(damage("model.safetensors", lambda b: b"")), ["cannot be read"]),
        (no_card(damage("config.json", lambda b: b[:-50])), ["cannot be read"]),
        (
            no_card(damage("config.json", lambda b: b.replace(b'"resnet"', b'"vit"'))),
            ["is a vit, resnet of fashion is a resnet"],
        ),
        (no_card(other_head), ["has 7 classes, fashion has 10"]),
        (no_card(wider), ["does not hold", "of the weights of resnet"]),
    ],
    ids=[
        "no weights",
        "pickled weights",
        "no config",
        "cut",
        "altered",
        "cut card",
        "empty card",
        "cut, no card",
        "header cut",
        "empty",
        "cut config",
        "other architecture",
        "other head",
        "other widths",
    ],
)
def test_a_checkpoint_that_cannot_be_used(cli, original, harm, parts):
    harm(original)
    sentence(cli("evaluate", "fashion", original, "--limit", 32), *parts)
    done = cli(
        "run", "fashion", "original", "--limit", 32, "--checkpoint", original, "--out", original.parent / "results"
    )
    sentence(done, "1 of 1 runs failed", *parts)


def test_a_damaged_original_of_the_package(cli, original, monkeypatch):
    monkeypatch.setattr("mubench.tasks.base.Task.originals_dir", lambda self, model: original)
    assert json.loads(cli("original", "fashion").out)["source"] == str(original)
    damage("model.safetensors", lambda b: b[:-8] + b"\0" * 8)(original)
    run = ("run", "fashion", "original", "--out", original.parent / "out")
    for words in (("original", "fashion"), ("original", "fashion", "--verify"), run):
        sentence(cli(*words), "are not those their card describes", "reinstall the package")


def test_nothing_else_on_stderr_in_a_process_of_its_own(mubench, original):
    no_card(damage("model.safetensors", lambda b: b[:-1000]))(original)
    sentence(mubench("evaluate", "fashion", original, "--limit", 32), "cannot be read")


def test_evaluate_gives_the_numbers_of_run_original(cli, original, tmp_path):
    assert cli("run", "fashion", "original", "--limit", 64, "--out", tmp_path / "results").code == 0
    [path] = (tmp_path / "results").rglob("result.json")
    done = cli("evaluate", "fashion", original, "--limit", 64)
    shown = dict(line.split() for line in done.out.splitlines())
    assert done.code == 0 and shown == {
        name: "undefined" if value is None else f"{value:.4f}"
        for name, value in json.loads(path.read_text())["metrics"].items()
    }
    scored = cli("score", path.parent)
    assert [line for line in scored.out.splitlines() if line.startswith("  ")] == done.out.splitlines()


def test_verify_measures_the_packaged_original_again(cli):
    shown = json.loads(cli("original", "fashion", "--verify").out)
    card = json.loads((load_task("fashion").originals_dir("resnet") / "card.json").read_text())
    assert shown["sha256"] == card["sha256"] and shown["scores"] == pytest.approx(card["scores"], abs=0.005)


# -- files and folders -------------------------------------------------------------------------------------------------


def test_an_index_file_is_a_split(cli, tmp_path):
    rows = tmp_path / "rows.txt"
    assert cli("split", "fashion", "--ratio", 1, "--export", rows).code == 0
    assert cli("split", "fashion", "--ratio", "1.0", "--check", rows).code == 0
    assert cli(*RUN, "--split-file", rows, "--out", tmp_path / "out").code == 0
    [path] = (tmp_path / "out").rglob("result.json")
    record = json.loads(path.read_text())
    assert record["split"]["forget"] == 50 and record["split"]["name"].startswith("file-")
    assert path.parent.parent.name == "file"
    assert record["split"]["checksum"] == load_task("fashion").split(1).checksum


@pytest.mark.parametrize(
    "content, part",
    [
        ("4999\n5000\n", "line 2: row 5000 is out of range, the training set has rows 0 to 4999"),
        ("1\nx\n", "line 2: 'x' is not a row index"),
    ],
)
def test_an_index_file_for_other_rows(cli, tmp_path, content, part):
    (tmp_path / "rows.txt").write_text(content)
    sentence(cli(*RUN, "--split-file", tmp_path / "rows.txt", "--out", tmp_path / "out"), part)
    sentence(cli("split", "fashion", "--check", tmp_path / "rows.txt"), part)


def test_a_result_folder_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        sentence(cli(*RUN, "--out", out), f"cannot write {out}", "a file is in the way")
    sentence(cli("split", "fashion", "--export", tmp_path / "none" / "rows.txt"), "cannot write")
    sentence(cli("original", "fashion", "--train", "--out", tmp_path / "file"), f"cannot write {tmp_path / 'file'}")


def test_dry_run_lists_and_touches_nothing(cli, tmp_path, foretold):
    words = ("run", "fashion", "original,salun", "--seed", 0, 1, "--limit", 32, "--out", tmp_path / "out", "--dry-run")
    lines = cli(*words).out.partition("\n\n")[0].splitlines()
    assert len(lines) == 4 and all("to do" in line for line in lines) and not (tmp_path / "out").exists()
    assert cli("run", "fashion", "original", "--limit", 32, "--out", tmp_path / "out").code == 0
    assert [" done " in line for line in cli(*words).out.splitlines()[:4]] == [True, False, False, False]
    [path] = (tmp_path / "out").rglob("result.json")
    assert path.parent.name == lines[0].split()[0]


# -- one's own methods and tasks ---------------------------------------------------------------------------------------


def test_a_method_by_path(cli, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(METHOD)
    for reference in (f"{file}:Mine", file):
        assert cli("run", "fashion", reference, "--limit", 32, "--out", tmp_path / "out").code == 0
    assert {path.relative_to(tmp_path / "out").parts[:4] for path in (tmp_path / "out").rglob("result.json")} == {
        ("fashion", "resnet", "mine", "5")
    }
    assert "Ascent on D_f" in cli("ls", f"{file}:Mine").out
    assert "changes the model" in cli("check", f"{file}:Mine").out


@pytest.mark.parametrize(
    "name, text, parts",
    [
        (
            "mine.py",
            METHOD.replace("class Mine(Method):", "class Mine(Method)"),
            ["mine.py cannot be imported: SyntaxError"],
        ),
        (
            "mine.py",
            METHOD.replace("mubench.methods.base", "mubench.nowhere"),
            ["mine.py cannot be imported: ModuleNotFoundError"],
        ),
        ("mine.py", "x = 1\n", ["must define one subclass of Method, it has 0"]),
        (
            "mine.py",
            METHOD + "\n\nclass Other(Mine):\n    lr_factor = 1.0\n",
            ["must define one subclass of Method, it has 2", "file.py:Class"],
        ),
        ("mine.py:Yours", METHOD, ["has no class 'Yours'"]),
        ("mine.py:Term", METHOD, ["is not a subclass of mubench.methods.base.Method"]),
        ("mine.py", METHOD.replace('"true"', '"turth"'), ["mine.py cannot be imported", "target true/wrong/random"]),
        (
            "mine.py",
            METHOD.replace('"forget_only"', '"forgetonly"'),
            ["unknown schedule 'forgetonly'", "'forget_only'"],
        ),
        ("salun.py", METHOD, ["rename the file"]),
        ("My-Method.py", METHOD, ["'My-Method' must be snake_case"]),
    ],
)
def test_a_method_file_that_is_none(cli, tmp_path, name, text, parts):
    (tmp_path / name.partition(":")[0]).write_text(text)
    for words in (("run", "fashion", tmp_path / name), ("check", tmp_path / name)):
        sentence(cli(*words), *parts)


def test_a_method_file_with_a_dataclass(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        + METHOD
        + "\n\n@dataclass\nclass Helper:\n    x: int = 0\n"
    )
    assert registry.methods.get(tmp_path / "mine.py").name == "mine"


def test_new_method_passes_its_check_and_is_not_overwritten(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "mubench check my_method.py:MyMethod" in cli("new", "method", "my_method").out
    done = cli("check", "my_method.py:MyMethod")
    assert done.code == 0 and "changes the model" in done.out
    assert cli("run", "fashion", "my_method.py", "--limit", 32).code == 0
    Path("my_method.py").write_text("mine")
    sentence(cli("new", "method", "my_method"), "my_method.py exists already")
    assert Path("my_method.py").read_text() == "mine"


def test_new_task_passes_its_check(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    assert "mubench original my_task.py:MyTask --train" in cli("new", "task", "my_task").out
    sentence(cli("check", "my_task.py:MyTask"), "has no original resnet yet", "--train")
    card = json.loads(cli("original", "my_task.py:MyTask", "--train").out)
    assert card["scores"]["train"] > 0.97 and card["scores"]["test"] > 0.85
    done = cli("check", "my_task.py:MyTask")
    assert done.code == 0 and "original " + card["sha256"][:12] in done.out
    assert cli("run", "my_task.py:MyTask", "salun", "--limit", 64).code == 0
    sentence(cli("new", "task", "my_task"), "exists already")


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """An installed package that adds a method and a task."""
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mubench.methods]\nplugged = plugged_code:Mine\nbroken = plugged_nowhere:Mine\ntask_as_method ="
        " plugged_code:Data\n[mubench.tasks]\nplugged_data = plugged_code:Data\n"
    )
    (tmp_path / "plugged_code.py").write_text(
        METHOD + "\n\nfrom mubench.tasks.image.fashion import Fashion\n\n\n"
        "class Data(Fashion):\n    '''Fashion under another name.'''\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("plugged_code", None)


def test_entry_points_of_installed_packages(distribution):
    methods, tasks = Registry("method"), Registry("task")
    assert {"plugged", "broken", "salun"} <= set(methods.names()) and "plugged_data" in tasks.names()
    assert methods.get("plugged")(epochs=2).epochs == 2 and methods.get("plugged").name == "plugged"
    task = tasks.get("plugged_data")()
    assert task.name == "plugged_data" and task.split(5).forget == make_split("plugged_data", 5, range(5000), "").forget
    with pytest.raises(MubenchError, match="unknown method 'plugedg': did you mean 'plugged'"):
        methods.get("plugedg")
    with pytest.raises(MubenchError, match="broken .*cannot be imported"):
        methods.get("broken")
    with pytest.raises(MubenchError, match="is not a subclass of"):
        methods.get("task_as_method")


def test_entry_points_on_the_command_line(distribution, cli, tmp_path, monkeypatch):
    for known in (registry.methods, registry.tasks):
        working = {name: entry for name, entry in Registry(known.kind).plugins.items() if name.startswith("plugged")}
        monkeypatch.setitem(vars(known), "plugins", working)
    assert re.search(r"^plugged ", cli("ls", "methods").out, re.M)
    assert re.search(r"^plugged_data ", cli("ls", "tasks").out, re.M)
    assert cli("run", "fashion", "plugged", "--limit", 32, "--out", tmp_path / "out").code == 0
    assert list((tmp_path / "out" / "fashion" / "resnet" / "plugged").rglob("result.json"))
