from mubench.errors import MubenchError
from mubench.train.recipe import Recipe
from mubench.tasks._sources import Published, hub, optional, text
from mubench.tasks.base import Model
from mubench.tasks.generation import TextGeneration


class Samsum(Published, TextGeneration):
    """Summaries of messenger dialogues that linguists wrote (SAMSum, 14,732 / 818 / 819).

    Rows are in the archive's order. An empty dialogue stays, as every row's number counts; line ends are "\\n" wherever
    they come from.
    """

    source = "https://arxiv.org/abs/1911.12237v2 (ancillary file corpus.7z); knkarthick/samsum on the Hugging Face Hub"
    licence = "CC BY-NC-ND 4.0 (SAMSum); XSum: none stated by the authors, texts by the BBC"
    citation = "Gliwa et al. 2019, arXiv:1911.12237; XSum: Narayan et al. 2018, aclanthology.org/D18-1206"
    transfer = "XSum: the 11,334 test articles of the BBC, each with a sentence that says it all"
    rows = {"train": 14_732, "validation": 818, "test": 819, "transfer": 11_334}
    archive = "train.json"
    remedy = "unpack corpus.7z (https://arxiv.org/src/1911.12237v2/anc/corpus.7z) into FOLDER"
    prompt, answer = "summarize: {dialogue}", "{summary}"
    measured = {"train": 800, "retain": 800, "transfer": 800}
    evaluation_batch = 64
    recipe = Recipe(lr=5e-5, epochs=5, batch_size=16, lr_schedule="linear")  # as MU-Bench trains its originals
    models = {
        f"t5_{size}": Model(
            "T5ForConditionalGeneration", pretrained=f"google/t5-v1_1-{size}", inputs=dict(prompt=512, answer=128)
        )
        for size in ("small", "base", "large", "xl")
    }

    def read(self):
        data = super().read()
        remedy = (
            "put xsum-test.parquet (EdinburghNLP/xsum on the Hugging Face Hub, revision refs/convert/parquet) into"
            " FOLDER"
        )
        if articles := optional(self, lambda: self.found("xsum-test.parquet", remedy, self._xsum_file, self._xsum_hub)):
            data["transfer"] = articles
        return data

    def from_archive(self, folder):
        import json

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
        return _articles(
            hub(
                "EdinburghNLP/xsum",
                "5484b3547a597693f9c099954c1cd6a8192a4573",
                {"document": "document", "summary": "summary", "id": "id"},
                files={"test": "default/xsum-test.parquet"},
            )["test"]
        )

    def write_sample(self, folder):
        import json

        import pyarrow
        import pyarrow.parquet

        for name, n in (("train", 60), ("val", 10), ("test", 20)):
            rows = [
                {
                    "id": f"{name}{i}",
                    "summary": f"Ann buys {i} {THINGS[i % 3]}s.",
                    "dialogue": f"Ann: {name} shop, {THINGS[i % 3]}s?\r\nBob: {i}, please 😀" if i else "",
                }
                for i in range(n)
            ]
            (folder / f"{name}.json").write_text(json.dumps(rows))
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(
                [
                    {
                        "document": f"The shop sold {i} {THINGS[i % 3]}s.\nNobody knows why.",
                        "summary": f"{i} {THINGS[i % 3]}s were sold.",
                        "id": f"{i}",
                    }
                    for i in range(20)
                ]
            ),
            folder / "xsum-test.parquet",
        )


COLUMNS = ("id", "dialogue", "summary")
THINGS = ("pen", "hat", "cup")  # of the sample


def _dialogues(data):
    """The ``DatasetDict`` of rows as archive (text) and Hub (a table whose empty field is None, whose line ends may
    differ) have them.
    """
    import datasets

    features = datasets.Features({name: datasets.Value("string") for name in COLUMNS})
    return datasets.DatasetDict(
        {
            part: datasets.Dataset.from_dict(
                {name: [(row[name] or "").replace("\r\n", "\n") for row in rows] for name in COLUMNS}, features=features
            )
            for part, rows in data.items()
        }
    )


def _articles(rows):
    return _dialogues(
        {"test": [{"id": row["id"], "dialogue": row["document"], "summary": row["summary"]} for row in rows]}
    )["test"]
