"""What makes a level: the levels of trust, and verified.json, which records what a check found."""

import enum
import hashlib
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.leaderboard.trust.layout import PROBE_FILES, SUBMISSION, VERIFIED
from mubench.leaderboard.trust.limits import LIMITS
from mubench.leaderboard.trust.reading import is_elsewhere, read_record
from mubench.leaderboard.trust.schema import Facts, Hash, Line, RunId
from mubench.leaderboard.trust.untrusted import parse_json, read_bytes, schema_errors
from mubench.records.predictions import PREDICTIONS
from mubench.records.result import RESULT


class Level(str, enum.Enum):
    """What a result's numbers rest on, from least to most."""

    REPORTED = "reported"  # the numbers alone were given: shown, never ranked
    RECOMPUTED = "recomputed"  # every metric follows from predictions, which are of the task's own examples and targets
    RE_EVALUATED = "re-evaluated"  # the predictions were made again from the weights
    REPRODUCED = "reproduced"  # the run was done again from its spec

    __str__ = str.__str__

    @property
    def rank(self):
        return list(Level).index(self)


class Unavailable(MubenchError):
    """What would raise a result's level is not to be had; nothing was found against it."""


ResultFile = Annotated[str, Field(pattern=rf"^({re.escape(RESULT)}|{re.escape(PREDICTIONS)}|{PROBE_FILES})$")]


class Verdict(Facts):
    """What a check found of one result.

    level: established.
    files: name → SHA-256 of the very files it was found for.
    flags: sentences on what is strange.
    mubench: version of the checker.
    machine: it ran on.
    checked: what was predicted or run again, in words.
    """

    level: Level = Field(strict=False)
    files: dict[ResultFile, Hash]
    flags: list[Line] = []
    mubench: Line
    machine: Line
    checked: Line = ""


class Verified(Facts):
    """verified.json: result id → `Verdict`. Written by the leaderboard, never taken from a submission."""

    schema_version: Literal[1] = Field(1, alias="schema")
    results: dict[RunId, Verdict]


def read_verified(root, limits=LIMITS):
    """Result id → `Verdict`, as recorded in a submission's folder; empty where nothing is."""
    path = Path(root) / VERIFIED
    if not os.path.lexists(path):
        return {}
    with schema_errors(path):
        return Verified.model_validate(parse_json(read_bytes(path, 16 * limits.json), path, limits)).results


def write_verified(root, verdicts):
    """Record result id → `Verdict` in a submission's folder. Returns the file."""
    path = Path(root) / VERIFIED
    with whole(path) as file:
        file.write_text(
            Verified(schema=1, results=verdicts).model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8"
        )
    return path


def level_of(folder, result=None):
    """`Level` and flags of a stored result.

    folder: of the result.
    result: its `Result`, where that is read already; else `read_record` reads it.

    Of a submission (five folders up lies its submission.json): what `mubench check --record` found, as long as the
    files are those it was found for, else *reported*. Results outside of submissions are one's own, *reproduced* by
    whoever ran them from their spec; of weights that other code unlearned, *re-evaluated*.
    """
    folder = Path(folder).absolute()
    root = ([*folder.parents][5:] or [folder])[0]
    if not os.path.lexists(root / SUBMISSION):
        return standing(result or read_record(folder)), ()
    verdict = read_verified(root).get(folder.name)
    if verdict is None:
        return Level.REPORTED, ()
    for name, recorded in verdict.files.items():
        most = LIMITS.json if name == RESULT else LIMITS.predictions
        if hashlib.sha256(read_bytes(folder / name, most)).hexdigest() != recorded:
            return Level.REPORTED, (f"{name} was changed after it was checked",)
    return verdict.level, tuple(verdict.flags)


def standing(result):
    """The `Level` of one's own result, which is in no submission."""
    own = Level.RE_EVALUATED if is_elsewhere(result.spec.get("method")) else Level.REPRODUCED
    return own if result.predictions else Level.REPORTED
