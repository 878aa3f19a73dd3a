"""FActScore's biographies by InstructGPT."""

import json

from mubench.errors import MubenchError
from mubench.tasks.readers.files import text
from mubench.tasks.readers.published import Published

PARTS = {"train": "labeled", "test": "unlabeled"}  # set → its folder


class BioFactFiles(Published):
    """Rows have ``name`` and ``biography``."""

    def from_archive(self, folder):
        import datasets

        files = {name: folder / "data" / part / "InstructGPT.jsonl" for name, part in PARTS.items()}
        return datasets.DatasetDict(
            {name: datasets.Dataset.from_list(list(_biographies(path))) for name, path in files.items()}
        )

    def write_sample(self, folder):
        for part, n in zip(PARTS.values(), (60, 40), strict=True):
            lines = []
            for i in range(n):
                name = f"{part.title()} Person {i}"
                output = f"{name} lived in the year {1900 + i} and wrote {i % 7} books."
                row = {"input": f"Question: Tell me a bio of {name}.", "output": output, "topic": name}
                lines.append(json.dumps(row))
            (folder / "data" / part).mkdir(parents=True)
            (folder / "data" / part / "InstructGPT.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _biographies(path):
    """The rows of a file."""
    for number, line in enumerate(text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield {"name": row["topic"].strip(), "biography": row["output"].strip()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise MubenchError(
                f"{path}, line {number}: it must be a JSON object with a topic and an output: {line[:60]!r}"
            ) from None
