"""Grids: every run once whoever asks for it, whoever is killed; failures are recorded and stop nobody else."""

import contextlib
import itertools
import json
import os
import random
import re
import signal
import time

import pytest
import torch

import mubench as mu
from mubench import registry
from mubench.errors import MubenchError
from mubench.records.predictions import score
from mubench.records.result import read
from mubench.records.store import Store
from mubench.sweep import plan
from mubench.sweep.grid import expand, sweep
from mubench.sweep.progress import reason, span
from sweeps import (
    LIMIT,
    NEEDS,
    check_full_disk,
    check_whole,
    small_disk,
    snapshot,
    spec,
    until,
    until_some_are_done,
    write_plugin,
)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    return write_plugin(tmp_path_factory.mktemp("plugin"))


# -- in this process ---------------------------------------------------------------------------------------------------


def test_expansion_puts_references_first_and_no_run_twice():
    specs, left_out = expand("fashion,fashion", "salun,retrain,original,salun", ["all"], [5, "5.0", 10], [0, 1])
    assert len(specs) == len({s.id for s in specs}) == 3 * 2 * 2 * 2 and not left_out
    for model in ("resnet", "vit"):
        assert [s.method for s in specs if (s.model, s.ratio, s.seed) == (model, "10", 1)] == [
            "retrain",
            "original",
            "salun",
        ]
    mini = {name for name in registry.tasks.names() if mu.load_task(name).tier == "mini"}
    assert {s.task for s in expand("mini", "original")[0]} == mini
    for tasks, methods in (("", "salun"), ("fashion", "")):
        with pytest.raises(MubenchError, match="nothing to run"):
            expand(tasks, methods)


def test_what_is_done_is_skipped_unless_forced(tmp_path):
    specs = [spec("original"), spec("salun")]
    assert sweep(specs[:1], tmp_path) == (specs[:1], [], [])
    first = snapshot(tmp_path)
    assert sweep(specs, tmp_path) == (specs[1:], specs[:1], [])
    assert first.items() <= snapshot(tmp_path).items()
    both = snapshot(tmp_path)
    assert sweep(specs, tmp_path) == ([], specs, []) and snapshot(tmp_path) == both

    records = [read(Store(tmp_path).path(s)) for s in specs]
    assert sweep(specs, tmp_path, force=True) == (specs, [], [])
    assert not snapshot(tmp_path).items() & both.items()
    for s, before in zip(specs, records, strict=True):
        again = read(Store(tmp_path).path(s))
        assert (again.weights, again.metrics, again.predictions) == (before.weights, before.metrics, before.predictions)
    check_whole(tmp_path, specs)


@pytest.mark.parametrize("method", ["scrub", "bad_t"])
def test_the_same_seed_gives_the_same_bits(tmp_path, method):
    def result(store, seed):
        return mu.run("fashion", method, seed=seed, limit=LIMIT, out=tmp_path / store)

    one, two, other = result("one", 0), result("two", 0), result("one", 1)
    assert (one.id, one.weights, one.metrics, one.predictions) == (two.id, two.weights, two.metrics, two.predictions)
    assert other.id != one.id and other.weights != one.weights


def test_failures_are_recorded_and_the_others_go_on(tmp_path, plugin, cli):
    specs = [spec(f"{plugin}:Raises"), spec(f"{plugin}:NoNumber"), spec("original")]
    assert sweep(specs, tmp_path) == (specs[2:], [], specs[:2])
    raised, nan = (json.loads((Store(tmp_path).path(s) / "error.json").read_text()) for s in specs[:2])
    assert raised["reason"] == "ValueError: broken on purpose" and "Traceback" in raised["traceback"]
    assert "the loss is nan at step 1 with lr" in nan["reason"] and nan["costs"]["steps"] == 1
    assert reason(specs[0], tmp_path) == raised["reason"]
    assert len(Store(tmp_path).errors()) == 2 and Store(tmp_path).results() == [Store(tmp_path).path(specs[2])]

    done = cli("run", "fashion", f"{plugin}:Raises,original", "--limit", LIMIT, "--out", tmp_path)
    assert done.code == 1 and "0 done, 1 there before, 1 failed" in done.out
    assert done.err.startswith("mubench: 1 of 2 runs failed") and done.err.endswith("broken on purpose\n")
    assert done.err.count("\n") == 1
    assert cli("run", "fashion", "original", "--limit", LIMIT, "--out", tmp_path).code == 0


def test_a_forced_run_that_fails_keeps_the_old_result_and_says_so(tmp_path, plugin):
    moody = spec(f"{plugin}:Raises", if_there=str(tmp_path / "flag"))
    assert sweep([moody], tmp_path)[0] == [moody]
    before = snapshot(tmp_path)
    (tmp_path / "flag").touch()
    assert sweep([moody], tmp_path, force=True) == ([], [], [moody])
    assert before.items() <= snapshot(tmp_path).items() and reason(moody, tmp_path).endswith("broken on purpose")
    (tmp_path / "flag").unlink()
    assert sweep([moody], tmp_path, force=True) == ([moody], [], [])
    check_whole(tmp_path, [moody])


def test_a_run_that_could_not_even_record_its_failure_has_failed(tmp_path, monkeypatch):
    def full(*_, **__):
        raise MubenchError("cannot write …: the disk is full")

    monkeypatch.setattr(Store, "write", full)
    monkeypatch.setattr(Store, "write_error", full)
    assert sweep([spec("original")], tmp_path) == ([], [], [spec("original")])
    assert "disk" in reason(spec("original"), tmp_path)


def test_a_full_disk_fails_the_run_and_not_the_sweep(tmp_path):
    with small_disk(tmp_path / "out") as out:
        check_full_disk(out)


@pytest.mark.parametrize("of, error", [("gpu", "OutOfMemoryError: CUDA says so"), ("python", "MemoryError: ")])
def test_out_of_memory_is_recorded_with_the_estimate(tmp_path, plugin, of, error):
    large, other = spec(f"{plugin}:TooLarge", of=of), spec("original")
    assert sweep([large, other], tmp_path) == ([other], [], [large])
    assert re.fullmatch(error + NEEDS, reason(large, tmp_path), re.DOTALL)


@pytest.mark.parametrize("room", [True, False])
def test_of_a_plain_error_of_pytorch_the_machine_is_asked_and_no_word_is_read(tmp_path, plugin, monkeypatch, room):
    """What it raises where main memory is wanted has the type of everything else."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert type(raised.value) is RuntimeError, "a type of its own: say so in `plan.explained`"
    if not room:
        monkeypatch.setattr(plan, "has_room", lambda size: size > 2**30)
    large, other = spec(f"{plugin}:TooLarge"), spec("original")
    assert sweep([large, other], tmp_path) == ([other], [], [large])
    error = r"RuntimeError: .*can't allocate memory: you tried to allocate 4503599627370496 bytes.*\)"
    assert re.fullmatch(error + NEEDS * (not room), reason(large, tmp_path), re.DOTALL)
    assert bool(re.search(NEEDS, reason(large, tmp_path))) != room
    said = "CUDA out of memory, not enough memory, cannot allocate memory"
    for error in (RuntimeError(said), ValueError(said), MubenchError(said)):
        noted = plan.explained(other, error, said)
        assert bool(re.fullmatch(said + NEEDS, noted)) == (not room and type(error) is RuntimeError)


def test_an_estimate_that_fails_hides_no_reason(monkeypatch):
    monkeypatch.setattr(plan, "peak", lambda *_: 1 / 0)
    assert plan.explained(spec("original"), MemoryError(), "why") == "why (out of memory?)"
    assert plan.explained(spec("original"), RuntimeError(), "why") == "why"


def test_a_machine_has_room_for_what_it_can_give(background):
    assert plan.has_room(2**20) and not plan.has_room(2**60) and not plan.has_room(2**80)
    process = background(
        "import resource\n"
        "from mubench.sweep.plan import has_room\n"
        "assert has_room(2**33)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))\n"
        "assert has_room(2**20) and not has_room(2**34)"
    )
    process.join(60)
    assert process.exitcode == 0, (process.folder / "err").read_text()


def test_a_run_under_way_elsewhere_is_not_started(tmp_path):
    with Store(tmp_path).claim(spec("original")), pytest.raises(MubenchError, match="is under way in another process"):
        mu.run("fashion", "original", limit=LIMIT, out=tmp_path)


# -- other processes ---------------------------------------------------------------------------------------------------

SWEEP = "from mubench.sweep.grid import sweep; sweep(specs, out, workers)"


def test_two_sweeps_on_one_folder_share_the_work(tmp_path, plugin, background):
    log, out = tmp_path / "log", tmp_path / "out"
    specs = [spec(f"{plugin}:Counts", seed, log=str(log)) for seed in range(6)]
    sweeps = [background(SWEEP, specs=order, out=str(out), workers=1) for order in (specs, specs[::-1])]
    for process in sweeps:
        process.join(120)
        assert process.exitcode == 0, (process.folder / "err").read_text()
    assert sorted(log.read_text().split()) == [str(seed) for seed in range(6)]
    assert sum((p.folder / "out").read_text().count("seed") for p in sweeps) == 6
    check_whole(out, specs)


@pytest.mark.parametrize(
    "workers, rounds, seeds",
    [(1, 3, 4), pytest.param(1, 20, 30, marks=pytest.mark.slow), pytest.param(2, 20, 30, marks=pytest.mark.slow)],
)
def test_killed_again_and_again_then_completed(tmp_path, background, workers, rounds, seeds):
    out, specs = (
        tmp_path / "out",
        [spec(method, seed) for seed in range(seeds) for method in ("original", "neggrad", "salun")],
    )
    for _ in range(rounds):
        before, few = snapshot(out), len(Store(out).results()) + random.randint(0, 2)
        process = background(SWEEP, specs=specs, out=str(out), workers=workers)
        until((process.folder / "out").exists)
        until_some_are_done(process, out, few)
        time.sleep(random.uniform(0, 0.5))
        with contextlib.suppress(ProcessLookupError):  # it was through
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        assert before.items() <= snapshot(out).items()
        for folder in Store(out).results():
            score(folder)
    before = snapshot(out)
    done, there, failed = sweep(specs, out)
    assert sorted([*done, *there], key=specs.index) == specs and not failed
    assert before.items() <= snapshot(out).items()
    check_whole(out, specs)


def test_ctrl_c_keeps_what_is_finished(tmp_path, plugin, background):
    log, out = tmp_path / "log", tmp_path / "out"
    words = ["run", "fashion", f"{plugin}:Sleeps", "--limit", str(LIMIT), "--set", f"log={log}", "--out", str(out)]
    sweep([spec("original")], out)
    before = snapshot(out)
    process = background("from mubench.cli import main; main(words)", words=words)
    until(log.exists)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    err = (process.folder / "err").read_text().strip()
    assert err == "mubench: interrupted; what was finished is kept, the same command goes on from there"
    assert snapshot(out) == before
    check_whole(out, [spec("original")])


@pytest.mark.parametrize("death, code", [("Killed", -9), pytest.param("Exits", 9, marks=pytest.mark.slow)])
def test_a_worker_that_dies_is_replaced(tmp_path, plugin, capfd, death, code):
    log = tmp_path / "log"
    deadly, others = spec(f"{plugin}:{death}"), [spec(f"{plugin}:Counts", seed, log=str(log)) for seed in range(4)]
    done, before, failed = sweep([deadly, *others], tmp_path / "out", workers=2)
    assert (done, before, failed) == (others, [], [deadly])
    assert re.fullmatch(f"the worker process died with exit code {code}{NEEDS}", reason(deadly, tmp_path / "out"))
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3"]
    assert sorted(Store(tmp_path / "out").results()) == sorted(Store(tmp_path / "out").path(s) for s in others)
    lines = [re.search(r"\[(\d)/5(, 1 failed)?(, ~.+ left)?\]$", line) for line in capfd.readouterr().out.splitlines()]
    counts = [int(line[1]) for line in lines]  # of both workers together, and of the dead one's run
    assert len(counts) == 4 and counts == sorted({*counts}) and counts[-1] >= 4
    assert all(bool(line[3]) == (line[1] < "5") for line in lines)


@pytest.mark.slow
def test_ctrl_c_with_workers(tmp_path, plugin, background):
    log, out = tmp_path / "log", tmp_path / "out"
    specs = [spec(f"{plugin}:Sleeps", seed, log=f"{log}{seed}") for seed in (0, 1)]
    code = (
        "import sys\nfrom mubench.sweep.grid import sweep\n"
        "try:\n    sweep(specs, out, 2)\nexcept KeyboardInterrupt:\n    sys.exit(130)"
    )
    process = background(code, specs=specs, out=str(out))
    until(lambda: all((tmp_path / f"log{seed}").exists() for seed in (0, 1)))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    process.join(60)
    assert process.exitcode == 130 and not Store(out).results()
    assert sweep([spec("original")], out)[0]
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, 0)


def test_a_curve_is_recorded_off_the_clock_and_changes_nothing(tmp_path):
    plain = mu.run("fashion", "finetune", limit=100, out=tmp_path / "a")
    curved = mu.run("fashion", "finetune", limit=100, out=tmp_path / "b", eval_every=2)
    assert curved.weights == plain.weights and curved.metrics == plain.metrics and plain.curve == []
    steps = [point["step"] for point in curved.curve]
    assert steps == [*range(0, curved.costs["steps"] + 1, 2), curved.costs["steps"]]
    for one, two in itertools.pairwise(curved.curve):
        assert one["cpu_seconds"] <= two["cpu_seconds"] and one["flops"] <= two["flops"]
    for name in ("test_score", "forget_score", "retain_score"):
        assert curved.curve[-1][name] == curved.metrics[name]
    before = mu.run("fashion", "original", limit=100, out=tmp_path / "b")
    assert all(curved.curve[0][name] == before.metrics[name] for name in ("test_score", "forget_score", "retain_score"))
    assert mu.run("fashion", "finetune", limit=100, out=tmp_path / "a", eval_every=2).curve != []  # it lacked one
    with pytest.raises(MubenchError, match="eval_every=0"):
        mu.run("fashion", "finetune", limit=100, out=tmp_path / "c", eval_every=0)


def test_lines_say_how_far_the_sweep_is(tmp_path, plugin, capfd):
    specs = [spec("original"), spec(f"{plugin}:Raises"), spec("neggrad"), spec("neggrad", 1)]
    sweep(specs[:1], tmp_path / "out")
    capfd.readouterr()
    sweep(specs, tmp_path / "out")
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].endswith("[4/4, 1 failed]") and all("left]" in line for line in lines[:-1])
    assert re.search(r" s \[3/4, 1 failed, ~\d+ s left\]$", lines[-2])


@pytest.mark.parametrize(
    "seconds, words",
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (200_000, "2.3 days")],
)
def test_spans_in_words(seconds, words):
    assert span(seconds) == words
