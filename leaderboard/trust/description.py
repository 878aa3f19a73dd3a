"""What a submission's submission.json may hold."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mubench.errors import MubenchError
from mubench.leaderboard.trust.layout import FOLDER, SUBMISSION, escaped
from mubench.leaderboard.trust.limits import LIMITS
from mubench.leaderboard.trust.schema import Count, Facts, Line, Taxonomy
from mubench.leaderboard.trust.untrusted import parse_json, read_bytes, schema_errors

Link = Annotated[
    str, Field(max_length=300, pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~:/?#@!$&*+,;=%-]*)?$")
]
HubCommit = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*@[0-9a-f]{40}$")]


class Submission(Facts):
    """submission.json."""

    schema_version: Literal[1] = Field(1, alias="schema", description="version of this format")
    name: Annotated[str, Field(pattern=f"^{FOLDER}$", description="of the folder")]
    title: Annotated[str, Field(min_length=1, max_length=100, description="the method's name as its authors write it")]
    description: Annotated[str, Field(max_length=2000)] = ""
    paper: Link | None = None
    code: Link | None = None
    contact: Line | None = None
    taxonomy: Taxonomy | None = None
    selection: Literal["default", "tuned"] = Field("default", description="how hyperparameters were chosen")
    trials: Count = Field(0, description="settings tried on validation data, for each task and model")
    budget: Line = Field("", description="of one trial, in words")
    weights: HubCommit | None = Field(
        None, description="hub repository @ commit, in it a folder <id>/ with model.safetensors for each result"
    )


def read_submission(root, limits=LIMITS):
    """The `Submission` that a folder says it is."""
    path = Path(root) / SUBMISSION
    with schema_errors(path):
        submission = Submission.model_validate(parse_json(read_bytes(path, limits.json), path, limits))
    if submission.name != Path(root).absolute().name:
        raise MubenchError(
            f"{path}: the folder is called {escaped(Path(root).name)}, the submission {submission.name!r}"
        )
    return submission
