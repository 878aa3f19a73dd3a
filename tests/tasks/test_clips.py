"""Sounds and videos of the paper tier: what is read of a file, and what is said of a damaged one."""

import numpy as np
import pytest
import soundfile

from mubench.errors import MubenchError
from mubench.registry import load_task
from mubench.tasks.speech.readers.audio import decode, fitted
from mubench.tasks.video.readers.clips import read_clip, write_clip


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A task of the paper tier with its sample in the user's folder."""

    def make(name):
        task = load_task(name)
        task.write_sample(tmp_path)
        task.rows = {}
        monkeypatch.setenv("MUBENCH_DATA", str(tmp_path))
        return task

    return make


def test_speech_rows_are_sorted_and_split_by_the_lists(at, tmp_path):
    data = at("speech_commands").data
    assert data["train"]["name"] == sorted(data["train"]["name"])
    listed = set((tmp_path / "speech_commands_v0.01" / "validation_list.txt").read_text().split())
    assert set(data["validation"]["name"]) == listed and not listed & set(data["train"]["name"])
    names = data["train"].features["label"].names
    pairs = [pair for rows in data.values() for pair in zip(rows["name"], rows["label"], strict=True)]
    label = {name.split("/")[0]: names[number] for name, number in pairs}
    assert label["_background_noise_"] == "_silence_" and label["bed"] == "_unknown_" and label["yes"] == "yes"


def test_the_same_split_wherever_the_archive_lies(at, tmp_path, monkeypatch):
    first = at("speech_commands").split(5)
    (tmp_path / "elsewhere").mkdir()
    for name in ("speech_commands_v0.01", "speech_commands_test_set_v0.01"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    monkeypatch.setenv("MUBENCH_DATA", str(tmp_path / "elsewhere"))
    again = load_task("speech_commands")
    again.rows = {}
    assert again.split(5) == first


@pytest.mark.parametrize(
    "damage, complaint",
    [("folder", "go is missing"), ("list", "yes/gone.wav is missing"), ("test", "test_set_v0.01 is missing")],
)
def test_incomplete_speech_archives_name_what_is_missing(at, tmp_path, damage, complaint):
    task, root = at("speech_commands"), tmp_path / "speech_commands_v0.01"
    if damage == "folder":
        (root / "go").rename(tmp_path / "go")
    elif damage == "test":
        (tmp_path / "speech_commands_test_set_v0.01").rename(tmp_path / "other")
    else:
        (root / "testing_list.txt").write_text("yes/gone.wav\n")
    with pytest.raises(MubenchError, match=complaint):
        task.data["train"]


def test_row_counts_of_another_version_are_refused(at):
    task = at("speech_commands")
    del task.rows
    with pytest.raises(MubenchError, match="51094"):
        task.data["train"]


@pytest.mark.parametrize(
    "damage, complaint",
    [
        ("cut", "cut short, 10 bytes"),
        ("noise", "no sound"),
        ("rate", "got 8000 Hz"),
        ("stereo", "shape"),
        ("empty", "no sound"),
        ("gone", "missing"),
    ],
)
def test_a_bad_sound_is_named(tmp_path, damage, complaint):
    path, tone = tmp_path / "tone.wav", np.sin(np.arange(16000) / 9)
    soundfile.write(
        path, np.stack([tone, tone], 1) if damage == "stereo" else tone, 8000 if damage == "rate" else 16000
    )
    whole = path.read_bytes()
    if damage in ("cut", "noise", "empty"):
        path.write_bytes({"cut": whole[:-10], "noise": bytes(range(256)) * 9, "empty": b""}[damage])
    if damage == "gone":
        path.unlink()
    with pytest.raises(MubenchError, match=f"tone.wav.*{complaint}"):
        decode(None, str(path))


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_sounds_are_read_as_they_were_written(tmp_path, form):
    tone = (np.sin(np.arange(12000) / 9) * 20000).astype(np.int16)
    soundfile.write(tmp_path / "tone", tone, 16000, format=form)
    clip = decode(None, str(tmp_path / "tone"))
    assert (
        np.array_equal(clip, tone.astype(np.float32) / 32768)
        and len(fitted(clip)) == 16000
        and not fitted(clip)[12000:].any()
    )


def film(frames, height=48, width=64):
    """Frame t is as bright as t says, its right half black."""
    made = np.zeros((frames, height, width, 3), np.uint8)
    made[:, :, : width // 2] = np.arange(frames).reshape(-1, 1, 1, 1) * 2 + 20
    return made


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4"])
def test_frames_are_the_middle_ones_at_the_stride(tmp_path, name):
    write_clip(tmp_path / name, film(101))
    read = read_clip(tmp_path / name, 16, 4, 32)
    assert read.shape == (16, 32, 32, 3)
    shown = (read[:, 4:28, 2:8].mean((1, 2, 3)) - 20) / 2
    assert np.abs(shown - (20 + 4 * np.arange(16))).max() < 2  # lossy, but never a whole stride off
    assert read[:, :, 24:].mean() < 8


def test_short_clips_are_spread(tmp_path):
    write_clip(tmp_path / "clip.avi", film(10))
    shown = (read_clip(tmp_path / "clip.avi", 16, 4, 32)[:, 4:28, 2:8].mean((1, 2, 3)) - 20) / 2
    assert shown[0] < 1.5 and shown[-1] > 7.5 and (np.diff(shown) > -1).all()


@pytest.mark.parametrize("keep, complaint", [(-100, "cut short, 100 bytes"), (0.5, "cut short"), (0, "no video")])
def test_a_bad_video_is_named(tmp_path, keep, complaint):
    path = tmp_path / "clip.avi"
    write_clip(path, film(20))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(MubenchError, match=f"clip.avi.*{complaint}"):
        read_clip(path, 16, 4, 32)


def test_video_rows_are_in_the_order_of_the_official_list(at, tmp_path):
    task = at("ucf101")
    listed = [line.split()[0] for line in (tmp_path / "ucfTrainTestlist" / "trainlist01.txt").read_text().splitlines()]
    assert task.data["train"]["name"] == listed
    assert [task.labels[i] for i in task.data["train"]["label"]] == [name.split("/")[0] for name in listed]
    assert [task.labels[i] for i in task.data["transfer"]["label"]] == ["ApplyEyeMakeup", "Basketball"]


def test_a_missing_clip_and_other_classes_are_named(at, tmp_path):
    task = at("ucf101")
    victim = next((tmp_path / "UCF-101").rglob("*.avi"))
    victim.unlink()
    with pytest.raises(MubenchError, match=f"{victim.name} is missing"):
        task.data["train"]
    (tmp_path / "ucfTrainTestlist" / "classInd.txt").write_text("1 Walking\n")
    with pytest.raises(MubenchError, match="classInd.txt"):
        load_task("ucf101").data["train"]


def test_missing_archives_are_named_with_their_remedy(monkeypatch):
    monkeypatch.delenv("MUBENCH_DATA", raising=False)
    with pytest.raises(MubenchError, match="UCF101.rar.*--data-dir"):
        load_task("ucf101").data["train"]
    with pytest.raises(MubenchError, match="speech_commands_v0.01.tar.gz.*--data-dir"):
        load_task("speech_commands").data["train"]
