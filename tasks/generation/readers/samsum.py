"""SAMSum and XSum: an archive each, and the copies on the Hub."""

import json

from mubench.errors import MubenchError
from mubench.tasks.readers.files import text
from mubench.tasks.readers.published import Published, hub

COLUMNS = ("id", "dialogue", "summary")
THINGS = ("pen", "hat", "cup")  # of the sample


class SamsumFiles(Published):
    """Rows have ``id``, ``dialogue`` and ``summary``."""

    def read(self):
        data = super().read()
        remedy = (
            "put xsum-test.parquet (EdinburghNLP/xsum on the Hugging Face Hub, revision refs/convert/parquet) into"
            " FOLDER"
        )
        return self.add_transfer(data, "xsum-test.parquet", remedy, self._xsum_file, self._xsum_hub)

    def from_archive(self, folder):
        data = {}
        for name, file in (("train", "train.json"), ("validation", "val.json"), ("test", "test.json")):
            try:
                data[name] = [{column: row[column] for column in COLUMNS} for row in json.loads(text(folder / file))]
            except (ValueError, KeyError, TypeError) as error:
                raise MubenchError(
                    f"{folder / file} is no list of dialogues with {', '.join(COLUMNS)} ({type(error).__name__}:"
                    f" {error}): it is damaged, unpack the archive again"
                ) from None
        return _dialogues(data)

    def from_hub(self):
        return _dialogues(
            hub("knkarthick/samsum", "2a6b79b3e3c939aebb149d9109d7cdb78a9c2d3b", {name: name for name in COLUMNS})
        )

    def _xsum_file(self, folder):
        import pyarrow.parquet

        return _articles(pyarrow.parquet.read_table(folder / "xsum-test.parquet").to_pylist())

    def _xsum_hub(self):
        columns = {"document": "document", "summary": "summary", "id": "id"}
        files = {"test": "default/xsum-test.parquet"}
        revision = "5484b3547a597693f9c099954c1cd6a8192a4573"
        return _articles(hub("EdinburghNLP/xsum", revision, columns, files=files)["test"])

    def write_sample(self, folder):
        import pyarrow
        import pyarrow.parquet

        for name, n in (("train", 60), ("val", 10), ("test", 20)):
            (folder / f"{name}.json").write_text(json.dumps([_dialogue(name, i) for i in range(n)]), encoding="utf-8")
        articles = pyarrow.Table.from_pylist([_article(i) for i in range(20)])
        pyarrow.parquet.write_table(articles, folder / "xsum-test.parquet")


def _dialogues(data):
    """A ``DatasetDict`` of the rows of each set, as an archive or the Hub has them.

    The archive holds texts. The Hub's tables have None for an empty field, and line ends of their own.
    """
    import datasets

    features = datasets.Features({name: datasets.Value("string") for name in COLUMNS})
    clean = lambda text: (text or "").replace("\r\n", "\n")
    columns = {part: {name: [clean(row[name]) for row in rows] for name in COLUMNS} for part, rows in data.items()}
    return datasets.DatasetDict(
        {part: datasets.Dataset.from_dict(values, features=features) for part, values in columns.items()}
    )


def _articles(rows):
    """XSum's rows under the names of SAMSum's columns."""
    rows = [{"id": row["id"], "dialogue": row["document"], "summary": row["summary"]} for row in rows]
    return _dialogues({"test": rows})["test"]


def _dialogue(name, i):
    """A row of the sample's; the first of each set has an empty dialogue."""
    return {
        "id": f"{name}{i}",
        "summary": f"Ann buys {i} {THINGS[i % 3]}s.",
        "dialogue": f"Ann: {name} shop, {THINGS[i % 3]}s?\r\nBob: {i}, please 😀" if i else "",
    }


def _article(i):
    """A row of the sample's transfer set."""
    return {
        "document": f"The shop sold {i} {THINGS[i % 3]}s.\nNobody knows why.",
        "summary": f"{i} {THINGS[i % 3]}s were sold.",
        "id": f"{i}",
    }
