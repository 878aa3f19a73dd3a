"""The index beside results: what is believed, what is read again, and who may write to it."""

import json
import multiprocessing
import shutil

import numpy as np
import pytest

from boards import change, row, submit
from mubench.leaderboard import index, recompute, stored
from mubench.leaderboard.board import board
from mubench.leaderboard.index import INDEX, Index


@pytest.fixture
def readings(monkeypatch):
    """The folders whose predictions are read."""
    found, read = [], recompute.read_run
    monkeypatch.setattr(recompute, "read_run", lambda folder, **known: found.append(folder) or read(folder, **known))
    return found


@pytest.fixture
def records(monkeypatch):
    """The folders whose records are read."""
    found, read = [], stored.read_record
    monkeypatch.setattr(stored, "read_record", lambda folder: found.append(folder) or read(folder))
    return found


def scores(root, method="salun"):
    return row(board(root), method)[["test_score", "gap_to_retrain", "seconds", "n"]].tolist()


def test_a_second_board_reads_the_index_alone(stored, readings, records):
    folders = [*stored.five("retrain", "salun"), *stored.five("scrub", schema=1)]
    first = board(stored.root)
    assert sorted(readings) == sorted(records) == sorted(folders), "each once"
    readings.clear(), records.clear()
    again = board(stored.root)
    assert not readings and not records
    assert again.runs.equals(first.runs) and again.text() == first.text()


def test_a_new_record_costs_its_reading_and_that_of_its_reference(stored, readings):
    stored.five("retrain", "salun")
    board(stored.root)
    readings.clear()
    new, retrain = stored("scrub", 3), next(run for run in indexed(stored.root) if run.role and run.seed == 3)
    board(stored.root)
    assert sorted(map(str, readings)) == sorted([str(new), retrain.folder])


def indexed(root):
    made = Index(root)
    made.scan(lambda name: True)
    return made.runs.values()


def test_of_a_known_reference_no_attack_is_made_again(stored, monkeypatch):
    from mubench.measure.metrics import membership

    stored.five("retrain", "salun")
    board(stored.root)
    stored("scrub", 3)
    attacks, attack = [], membership._called_nonmember
    monkeypatch.setattr(membership, "_called_nonmember", lambda *given: attacks.append(1) or attack(*given))
    assert np.isfinite(row(board(stored.root), "scrub")["gap_to_retrain"]) and len(attacks) == 1


def test_whatever_is_touched_is_read_again(stored, readings):
    stored("retrain"), stored("scrub")
    folder = stored("salun")
    before = scores(stored.root)
    readings.clear()
    change(folder, lambda data: data["costs"].update(cpu_seconds=11.0))  # as many bytes as before
    assert scores(stored.root)[2] == 11 != before[2] and readings[0] == folder
    retrain = next(stored.root.glob("fashion/resnet/retrain/*/*"))
    change(retrain, lambda data: data.update(command="another"))
    readings.clear()
    board(stored.root)
    assert len(readings) == 3, "the reference, and what is compared with it"
    (folder / "predictions.parquet").write_bytes(b"something else")
    assert any("was changed" in note for note in board(stored.root).notes)


def test_what_is_deleted_or_replaced_is_not_shown(stored):
    stored("retrain")
    folder, other = stored("salun", 0), stored("salun", 1)
    assert scores(stored.root)[3] == 2
    shutil.rmtree(other)
    assert scores(stored.root)[3] == 1
    (folder / "result.json").unlink()
    assert set(board(stored.root).rows["method"]) == {"original", "retrain"}
    again = stored("salun", 0, frame=stored.predictions(7))
    assert (
        again == folder
        and scores(stored.root)[0] == json.loads((again / "result.json").read_text())["metrics"]["test_score"]
    )


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-40], lambda text: text.replace(b"salun", b"scrub"), lambda text: b"\0" * 99]
)
def test_a_line_that_is_torn_or_changed_is_as_if_it_were_not_there(stored, damage, readings):
    stored.five("retrain", "salun")
    before, path = board(stored.root), stored.root / INDEX
    path.write_bytes(damage(path.read_bytes()))
    readings.clear()
    again = board(stored.root)
    assert again.runs.equals(before.runs) and readings
    readings.clear()
    assert board(stored.root).runs.equals(before.runs) and not readings


def test_lines_of_other_code_are_not_believed_and_go_in_time(stored, readings, monkeypatch):
    stored.five("retrain", "salun")
    board(stored.root)
    for version in range(8):
        monkeypatch.setattr(index, "code", lambda version=version: b"%016d" % version)
        readings.clear()
        board(stored.root)
        assert len(readings) == 10
        readings.clear()
        board(stored.root)
        assert not readings
    lines = (stored.root / INDEX).read_bytes().split(b"\n")
    assert len([*filter(None, lines)]) <= 2 * 10 + index.SPARE, "written anew where most are of no use"


def test_an_index_that_comes_with_copied_records_is_not_believed(stored, tmp_path, readings):
    stored("retrain"), stored("salun")
    before = board(stored.root)
    shutil.copytree(stored.root, tmp_path / "copy")
    assert (tmp_path / "copy" / INDEX).is_file()
    readings.clear()
    assert len(board(tmp_path / "copy").runs) == len(before.runs) and len(readings) == 2


def test_an_index_of_somebody_else_is_neither_read_nor_written(stored, monkeypatch, readings):
    stored("retrain"), stored("salun")
    board(stored.root)
    text = (stored.root / INDEX).read_bytes()
    monkeypatch.setattr(index.os, "getuid", lambda: 4321)
    readings.clear()
    board(stored.root)
    assert len(readings) == 2 and (stored.root / INDEX).read_bytes() == text


def test_nothing_is_written_into_a_submission(stored):
    stored("retrain")
    folder = submit(stored, "mine", "salun")
    root = folder.parents[5]
    for given in (root, root / "results"):
        board(given)
    assert not [*root.rglob(INDEX)]
    board(root.parent)
    assert [*root.parent.rglob(INDEX)] == [root.parent / INDEX]


def test_a_folder_that_cannot_be_written_to_has_tables_all_the_same(stored, monkeypatch):
    stored("retrain"), stored("salun")

    def refuse(path, *flags, opened=index.os.open):
        if str(path).endswith(INDEX):
            raise PermissionError
        return opened(path, *flags)

    monkeypatch.setattr(index.os, "open", refuse)
    made = Index(stored.root)
    run = made.run(made.scan(lambda name: True)[0][0])
    made.keep(run, b"{}")
    made.save()
    assert not (stored.root / INDEX).exists()


def _append(root, name, times):
    made = Index(root)
    run = made.run(name)
    run.roc = [0.5] * 2000  # a line of many pages
    for i in range(times):
        made.keep(run, json.dumps({"retrain": [f"{name} {i}"]}).encode())
        made.save()


def test_processes_append_at_once_and_no_line_is_lost(stored):
    names = [stored("salun", seed).relative_to(stored.root).as_posix() for seed in range(4)]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(stored.root, name, 25)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [len(run.checked) for run in indexed(stored.root)] == [25] * 4
