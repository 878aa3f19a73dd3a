import re

from mubench.train.recipe import Recipe
from mubench.tasks._sources import Published, dataset, hub, optional, text, texts, there
from mubench.tasks.base import Model
from mubench.tasks.text import TextClassification


class Imdb(Published, TextClassification):
    """Sentiment of IMDB reviews (25,000 / 25,000, balanced).

    Rows are ordered by label, then text: the archive's files have no order. Index files made for another order do not
    fit.
    """

    source = "https://ai.stanford.edu/~amaas/data/sentiment; stanfordnlp/imdb on the Hugging Face Hub"
    licence = "none stated by the authors (research use); Rotten Tomatoes: none stated"
    citation = (
        "Maas et al. 2011, aclanthology.org/P11-1015; Rotten Tomatoes: Pang & Lee 2005, aclanthology.org/P05-1015"
    )
    labels = ("neg", "pos")
    random_guess = 1 / 2
    transfer = "Rotten Tomatoes: all 10,662 sentences"
    shortcut = (
        "the writer's own mark in the text (3/10, 8 out of 10), which the labels were made from: up to 5, above it or"
        " none"
    )
    rows = {"train": 25_000, "test": 25_000, "transfer": 10_662}
    archive = "aclImdb"
    remedy = (
        "unpack aclImdb_v1.tar.gz (https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz, sha256 "
        "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe) into FOLDER"
    )
    recipe = Recipe(
        lr=5e-5, epochs=20, batch_size=32, lr_schedule="linear", keep_best=True
    )  # as MU-Bench trains its originals
    models = {
        "distilbert": Model(
            "DistilBertForSequenceClassification",
            pretrained="distilbert/distilbert-base-uncased",
            inputs=dict(length=128),
        ),
        "bert_base": Model(
            "BertForSequenceClassification", pretrained="google-bert/bert-base-uncased", inputs=dict(length=128)
        ),
        "bert_large": Model(
            "BertForSequenceClassification", pretrained="google-bert/bert-large-uncased", inputs=dict(length=128)
        ),
        "electra_base": Model(
            "ElectraForSequenceClassification",
            pretrained="google/electra-base-discriminator",
            original="jialicheng/imdb-electra-base",
            inputs=dict(length=128),
        ),
        "roberta_base": Model(
            "RobertaForSequenceClassification", pretrained="FacebookAI/roberta-base", inputs=dict(length=128)
        ),
        "roberta_large": Model(
            "RobertaForSequenceClassification", pretrained="FacebookAI/roberta-large", inputs=dict(length=128)
        ),
    }

    def attribute(self, row):
        mark = re.search(r"\b(10|\d(?:\.\d)?)\s*(?:/|out of)\s*10\b", row["text"], re.IGNORECASE)
        return "no mark" if not mark else "low mark" if float(mark[1]) < 5.5 else "high mark"

    def read(self):
        data = super().read()
        remedy = (
            "unpack rt-polaritydata.tar.gz"
            " (https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz) into FOLDER"
        )
        if sentences := optional(
            self, lambda: self.found("rt-polaritydata", remedy, self._rotten_archive, self._rotten_hub)
        ):
            data["transfer"] = sentences
        return data

    def from_archive(self, folder):
        import datasets

        return datasets.DatasetDict(
            {
                name: self._ordered(
                    {
                        label: texts(sorted(there(folder / self.archive / name / label).glob("*.txt")))
                        for label in self.labels
                    }
                )
                for name in ("train", "test")
            }
        )

    def from_hub(self):
        import datasets

        data = hub("stanfordnlp/imdb", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31", {"text": "text", "label": "label"})
        return datasets.DatasetDict({name: self._by_label([data[name]]) for name in ("train", "test")})

    def _rotten_archive(self, folder):
        said = {
            label: text(folder / "rt-polaritydata" / f"rt-polarity.{label}", "latin-1").split("\n")
            for label in self.labels
        }
        return self._ordered({label: [line.strip() for line in lines if line.strip()] for label, lines in said.items()})

    def _rotten_hub(self):
        data = hub(
            "cornell-movie-review-data/rotten_tomatoes",
            "aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
            {"text": "text", "label": "label"},
        )
        return self._by_label(data.values())

    def _by_label(self, parts):
        rows = [pair for part in parts for pair in zip(part["text"], part["label"])]
        return self._ordered(
            {name: [said for said, label in rows if label == number] for number, name in enumerate(self.labels)}
        )

    def _ordered(self, said):
        return dataset(
            {
                "text": [text for label in self.labels for text in sorted(said[label])],
                "label": [label for label in self.labels for _ in said[label]],
            },
            self.labels,
        )

    def write_sample(self, folder):
        words = {"neg": ("dull", "awful", "boring"), "pos": ("great", "moving", "superb")}
        for name, n in (("train", 60), ("test", 40)):
            for i in range(n):
                label = self.labels[i % 2]
                path = folder / self.archive / name / label / f"{i}_{1 + 8 * (i % 2)}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"Film {name} {i}: {words[label][i % 3]} story,\n{words[label][i // 3 % 3]} acting.")
        (folder / "rt-polaritydata").mkdir()
        for label in self.labels:
            lines = [f"a {word} piece of caf\xe9 cinema , part {i} \n" for i in range(10) for word in words[label]]
            (folder / "rt-polaritydata" / f"rt-polarity.{label}").write_bytes("".join(lines).encode("latin-1"))
