"""Which files a submission holds, and where.

NAME/submission.json                                             the description
NAME/results/<task>/<model>/<method>/<ratio>/<id>/result.json    and predictions.parquet
                                             …/probes/*.parquet  where other probes than the evaluation were carried out
                                             …/model/*.safetensors, where the weights are part of it;
                                                                 of a wrapper …/model/wrapper.json and
                                                                 …/model/<part>/*.safetensors
NAME/verified.json                                               what the leaderboard found, never sent
"""

import os
import re
import stat
from pathlib import Path

from mubench.errors import MubenchError
from mubench.models.networks import WRAPPER
from mubench.records.predictions import PREDICTIONS, probe_file
from mubench.records.result import RESULT
from mubench.records.store import MODEL

SUBMISSION, VERIFIED = "submission.json", "verified.json"
FOLDER = r"[a-z0-9][a-z0-9_-]{0,63}"  # of a submission
UNIT = r"[a-z][a-z0-9_]{0,63}"  # of deletion, where it is not the task's first
HOME = rf"results/[a-z][a-z0-9_]*/[A-Za-z0-9][A-Za-z0-9_.-]*/[a-z][a-z0-9_]*/([0-9.]+(-{UNIT})?|file)/[0-9a-f]{{12}}"
WEIGHTS = rf"({WRAPPER}|([a-z][a-z0-9_]{{0,63}}/)?[\w-]+\.safetensors)"  # in the folder of a model
PROBE_FILES = probe_file("[a-z][a-z0-9_]{0,63}").replace(".", r"\.")
FILES = re.compile(rf"{SUBMISSION}|{HOME}/({RESULT}|{PREDICTIONS}|{PROBE_FILES}|{MODEL}/{WEIGHTS})", re.ASCII)


def inspect_folder(root, limits):
    """Raise with the first file of a submission's folder that is not expected there, a link or too large."""
    count = total = 0
    for folder, folders, files in os.walk(root, onerror=_refuse_unlisted):
        for name in [*folders, *files]:
            path, about = Path(folder) / name, os.lstat(Path(folder) / name)
            inner = path.relative_to(root).as_posix()
            count, total = count + 1, total + about.st_size
            expected = stat.S_ISDIR if name in folders else stat.S_ISREG
            if not expected(about.st_mode):
                raise MubenchError(f"{root}: {escaped(inner)} is a link or device")
            if name in files and inner != VERIFIED and not FILES.fullmatch(inner):
                raise MubenchError(f"{root}: {escaped(inner)} is no file of a submission")
            if name in files and about.st_size > (most := largest(inner, limits)):
                raise MubenchError(f"{root}: {escaped(inner)} has {about.st_size:,} bytes, at most {most:,} are read")
            if count > 4 * limits.files or total > limits.total:
                raise MubenchError(f"{root} holds more than {limits.files:,} files or {limits.total:,} bytes")


def largest(name, limits):
    """The bytes that a file of a submission may have."""
    by_suffix = {".json": limits.json, ".parquet": limits.predictions}
    return by_suffix.get(Path(name).suffix, limits.weights) * (16 if name == VERIFIED else 1)


def escaped(name):
    """A file's name, for an error."""
    return ascii(name)[:120]


def _refuse_unlisted(error):
    raise MubenchError(f"{error.filename} cannot be listed: {error.strerror}")
