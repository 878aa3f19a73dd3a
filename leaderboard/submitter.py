"""Whose a result is: the submission it lies in, and what that says of itself."""

import json
import os
from pathlib import Path

from mubench.leaderboard.escape import one_line
from mubench.leaderboard.trust.layout import SUBMISSION

OWN = ""  # the submission of results that lie in no submission: the project's own
FIELDS = ("title", "description", "paper", "code", "contact", "selection", "budget", "weights")


def submission_folder(folder):
    """The folder with the `submission.json` that a result belongs to, or None.

    folder: of the result, NAME/results/task/model/method/ratio/id.
    """
    above = Path(folder).absolute().parents[4:6]
    return next((place for place in above if os.path.lexists(place / SUBMISSION)), None)


def about(folder):
    """What a submission says of itself: strings, and a dict of strings as its ``taxonomy``.

    folder: of one of its results.

    Returns an empty dict where it cannot be read.
    """
    try:
        content = json.loads((submission_folder(folder) / SUBMISSION).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return {}
    if not isinstance(content, dict):
        return {}
    texts = _texts({name: content.get(name) for name in FIELDS})
    taxonomy = content.get("taxonomy")
    taxonomy = _texts(taxonomy) if isinstance(taxonomy, dict) else {}
    return texts | ({"taxonomy": taxonomy} if taxonomy else {})


def _texts(values):
    return {name: one_line(value) for name, value in values.items() if isinstance(value, str)}
