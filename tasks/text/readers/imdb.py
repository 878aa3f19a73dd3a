"""IMDB reviews and Rotten Tomatoes sentences: their authors' archives, and the copies on the Hub."""

from mubench.tasks.readers.files import existing, text, texts
from mubench.tasks.readers.published import Published, hub
from mubench.tasks.readers.tables import dataset


class ImdbFiles(Published):
    """Rows have ``text`` and ``label``; they are ordered by label, then text."""

    def read(self):
        data = super().read()
        remedy = (
            "unpack rt-polaritydata.tar.gz"
            " (https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz) into FOLDER"
        )
        return self.add_transfer(data, "rt-polaritydata", remedy, self._rotten_archive, self._rotten_hub)

    def from_archive(self, folder):
        import datasets

        return datasets.DatasetDict({name: self._reviews(folder / self.archive / name) for name in ("train", "test")})

    def _reviews(self, folder):
        """The rows of a set: a folder for each label, in it a file for each review."""
        files = {label: sorted(existing(folder / label).glob("*.txt")) for label in self.labels}
        return self._ordered({label: texts(paths) for label, paths in files.items()})

    def from_hub(self):
        import datasets

        data = hub("stanfordnlp/imdb", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31", {"text": "text", "label": "label"})
        return datasets.DatasetDict({name: self._by_label([data[name]]) for name in ("train", "test")})

    def _rotten_archive(self, folder):
        files = {label: folder / "rt-polaritydata" / f"rt-polarity.{label}" for label in self.labels}
        lines = {label: text(path, "latin-1").split("\n") for label, path in files.items()}
        return self._ordered({label: [line.strip() for line in lines[label] if line.strip()] for label in lines})

    def _rotten_hub(self):
        data = hub(
            "cornell-movie-review-data/rotten_tomatoes",
            "aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
            {"text": "text", "label": "label"},
        )
        return self._by_label(data.values())

    def _by_label(self, parts):
        """The rows of some data sets of the Hub, whose labels are numbers, as one set."""
        rows = [row for part in parts for row in zip(part["text"], part["label"], strict=True)]
        return self._ordered(
            {name: [text for text, label in rows if label == number] for number, name in enumerate(self.labels)}
        )

    def _ordered(self, texts):
        """The texts of each label as a data set, ordered by label, then text."""
        return dataset(
            {
                "text": [text for label in self.labels for text in sorted(texts[label])],
                "label": [label for label in self.labels for _ in texts[label]],
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
                path.write_text(
                    f"Film {name} {i}: {words[label][i % 3]} story,\n{words[label][i // 3 % 3]} acting.",
                    encoding="utf-8",
                )
        (folder / "rt-polaritydata").mkdir()
        for label in self.labels:
            lines = [f"a {word} piece of caf\xe9 cinema , part {i} \n" for i in range(10) for word in words[label]]
            (folder / "rt-polaritydata" / f"rt-polarity.{label}").write_bytes("".join(lines).encode("latin-1"))
