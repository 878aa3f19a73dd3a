"""NLVR2: the sentences of its repository, and the pictures that its authors give on request."""

import json

from mubench.errors import MubenchError
from mubench.tasks.readers.files import pictures, text
from mubench.tasks.readers.published import Published
from mubench.tasks.readers.tables import dataset

FILES = {"train": "train", "validation": "dev", "test": "test1", "transfer": "test2"}


class Nlvr2Files(Published):
    """Rows have ``left`` and ``right``, the names of pictures' files, ``text`` and ``label``."""

    def from_archive(self, folder):
        import datasets

        data = datasets.DatasetDict({name: self._rows(folder, name) for name in ("train", "validation", "test")})
        second_test = lambda folder: self._rows(folder, "transfer")
        return self.add_transfer(data, "data/test2.json", self.remedy, second_test)

    def _rows(self, folder, name):
        """The rows of a set; every picture must be there."""
        path = folder / "data" / f"{FILES[name]}.json"
        lines = enumerate(text(path).removesuffix("\n").split("\n"), 1)
        rows = [self._row(line, name, f"{path}, line {number}") for number, line in lines]
        absent = (f for row in rows for f in (row["left"], row["right"]) if not self._file(f).is_file())
        if missing := next(absent, None):
            raise MubenchError(f"{self._file(missing)} is missing, a picture of {path.name}: unpack the pictures again")
        return dataset({column: [row[column] for row in rows] for column in rows[0]}, self.labels)

    def _row(self, line, name, place):
        """A line of a set's file as a row; ``place``: where the line is, for people."""
        try:
            example = json.loads(line)
            pair = example["identifier"].rpartition("-")[0]  # what follows is the number of the sentence
            folder = f"{FILES[name]}/{example['directory']}" if name == "train" else FILES[name]
            row = {
                "left": f"{folder}/{pair}-img0.png",
                "right": f"{folder}/{pair}-img1.png",
                "text": example["sentence"],
                "label": str(example["label"]),
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MubenchError(f"{place}: it is no example of NLVR2 ({type(error).__name__}: {error})") from error
        if row["label"] not in self.labels or not row["text"].strip():
            raise MubenchError(f"{place}: it needs a sentence and the label True or False, not {row['label']!r}")
        return row

    def _file(self, name):
        """The path of a picture."""
        bare = self.data_dir / name  # the smaller sets' archives unpack without the folder images
        return bare if bare.exists() else self.data_dir / "images" / name

    def pairs(self, dataset):
        names = zip(dataset["left"], dataset["right"], strict=True)
        return pictures([self._file(name) for pair in names for name in pair])

    def write_sample(self, folder):
        """Of two plain pictures one is as red as the sentence says, or is not."""
        (folder / "data").mkdir()
        for name, n in (("train", 60), ("dev", 20), ("test1", 40), ("test2", 30)):
            lines = [_write_example(folder, name, number) for number in range(n)]
            (folder / "data" / f"{name}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_example(folder, name, number):
    """Write the two pictures of an example of the sample's; returns its line."""
    from PIL import Image

    images = folder / "images" / name / (str(number % 3) if name == "train" else "")
    images.mkdir(parents=True, exist_ok=True)
    side, true = number // 2 % 2, bool(number % 2)
    for image in (0, 1):
        red = 220 if (image == side) == true else 20
        picture = Image.new("RGB", (40 + number % 3 * 8, 48), (red, 40 + number, 60))
        picture.save(images / f"{name}-{number}-0-img{image}.png")
    return json.dumps(
        {
            "identifier": f"{name}-{number}-0-0",
            "directory": number % 3,
            "label": str(true),
            "sentence": f"The {('left', 'right')[side]} image is red.",
        }
    )
