"""Biographies of FActScore, in the layout of its release."""

import pytest

from mubench.errors import MubenchError
from mubench.registry import load_task


def test_biographies_of_factscore_are_read_as_released(tmp_path):
    task = load_task("bio_fact")
    twin = task.sample(tmp_path)
    assert task.random_guess is None
    names = twin.data["train"]["name"], twin.data["test"]["name"]
    assert (len(names[0]), len(names[1])) == (60, 40) and not set(names[0]) & set(names[1])
    assert 0 < twin.random_guess < 1 and twin.random_guess == twin.guess
    file = tmp_path / "data" / "data" / "labeled" / "InstructGPT.jsonl"
    file.write_text(file.read_text() + '{"topic": "Nobody"}\n')
    again = type(twin)()
    with pytest.raises(MubenchError, match="line 61"):
        again.data["train"]


def test_biographies_that_are_not_at_hand_are_asked_for(monkeypatch):
    monkeypatch.delenv("MUBENCH_DATA", raising=False)
    with pytest.raises(MubenchError, match="data.zip.*--data-dir"):
        load_task("bio_fact").data["train"]
