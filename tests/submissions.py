"""A small submission that comes from a real run, and ways to alter one."""

import functools
import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path

import pandas as pd

import mubench
from mubench.measure.metrics import compute_all
from mubench.records.result import Result

FILES = "result.json", "predictions.parquet"


@functools.cache
def tiny(rows=5):
    """The folder of a submission of one run on a few rows, made once for all tests."""
    root = Path(tempfile.mkdtemp(prefix="mubench-submission-"))
    mubench.run("fashion", "neggrad", limit=rows, out=root / "results", save_model=True)
    list(
        mubench.submit(
            root / "results",
            "Tiny",
            description="A small one",
            paper="https://example.org/paper",
            weights="local",
            out=root,
        )
    )
    return root / "tiny"


class Altered:
    """A copy of a submission, its one result to be altered."""

    def __init__(self, source, folder):
        self.root = Path(shutil.copytree(source, Path(folder) / Path(source).name))

    @property
    def result(self):
        return next(self.root.glob("results/*/*/*/*/*"))

    def json(self, name="result.json"):
        return json.loads(self.path(name).read_text())

    def path(self, name):
        return self.root / name if name == "submission.json" else self.result / name

    def edit(self, name="result.json", **changes):
        """Replace fields, ``a__b`` being b in a; a function is given the old value."""
        record = self.json(name)
        for path, value in changes.items():
            *parents, last = path.split("__")
            inner = functools.reduce(lambda at, key: at[key], parents, record)
            inner[last] = value(inner[last]) if callable(value) else value
        self.path(name).write_text(json.dumps(record))
        return self

    def seal(self, data, honest=True):
        """Put other predictions in place with the checksum recorded, and, ``honest``, the metrics they give."""
        record = self.json()
        frame = pd.read_parquet(io.BytesIO(data)) if honest else None
        if honest:
            record["metrics"] = compute_all(frame, Result(**record).facts)
            record["predictions"]["rows"] = len(frame)
        record["predictions"]["sha256"] = hashlib.sha256(data).hexdigest()
        self.path("predictions.parquet").write_bytes(data)
        self.path("result.json").write_text(json.dumps(record))
        return self

    def frame(self, change, honest=True):
        """Alter the predictions as a frame, and seal them."""
        buffer = io.BytesIO()
        change(pd.read_parquet(self.path("predictions.parquet"))).to_parquet(buffer, index=False)
        return self.seal(buffer.getvalue(), honest)
