"""Tiny ImageNet: its authors' archive, and the copy on the Hub."""

from pathlib import Path

from mubench.errors import MubenchError
from mubench.tasks.readers.files import existing, text
from mubench.tasks.readers.published import Published, hub

TABLE = Path(__file__).parent.parent / "data" / "tiny_imagenet-classes.tsv"
# Of each class, in the order of its labels: its WordNet id, the id that the copy on the Hub has for it, its first name
# in WordNet 3.0.
CLASSES = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()]


class TinyImagenetFiles(Published):
    """Rows have ``image``, ``text``, the prompt, and ``label``; they are ordered by class, then file name."""

    def from_archive(self, folder):
        import datasets

        folder = folder / self.archive
        sets = {"train": _train_files(folder / "train"), "test": _test_files(folder / "val")}
        return datasets.DatasetDict(
            {
                name: self._rows([existing(path).read_bytes() for path, _ in files], [label for _, label in files])
                for name, files in sets.items()
            }
        )

    def from_hub(self):
        import datasets

        revision = "5a77092c28e51558c5586e9c5eb71a7e17a5e43f"
        copy = hub("zh-plus/tiny-imagenet", revision, {"image": "image", "label": "label"})
        numbers = {hub_id: label for label, (_, hub_id, _) in enumerate(CLASSES)}
        data = datasets.DatasetDict()
        for name, split in (("train", "train"), ("test", "valid")):
            names = copy[split].features["label"].names
            if set(names) != set(numbers):
                raise MubenchError(
                    f"zh-plus/tiny-imagenet and the names known of it differ in {min(set(names) ^ set(numbers))}: use"
                    " the archive, --data-dir FOLDER"
                )
            labels = [numbers[names[label]] for label in copy[split]["label"]]
            order = sorted(range(len(labels)), key=labels.__getitem__)
            pictures = copy[split].cast_column("image", datasets.Image(decode=False)).select(order)["image"]
            data[name] = self._rows([picture["bytes"] for picture in pictures], [labels[row] for row in order])
        return data

    def _rows(self, pictures, labels):
        """Pictures, as the bytes of their files, with their labels and prompts."""
        import datasets

        texts = [self.templates[0].format(self.labels[label]) for label in labels]
        return datasets.Dataset.from_dict(
            {"image": [{"bytes": picture} for picture in pictures], "text": texts, "label": labels},
            features=self.features,
        )

    def write_sample(self, folder):
        """Two training pictures and one test picture of each class, each of a shade of its own, some grey as in the
        archive.
        """
        import numpy as np

        random, root, lines = np.random.default_rng(0), folder / self.archive, []
        for label, (wnid, *_) in enumerate(CLASSES):
            for number in range(2):
                _write_picture(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", label, random)
            _write_picture(root / "val" / "images" / f"val_{label}.JPEG", label, random)
            lines.append(f"val_{label}.JPEG\t{wnid}\t0\t0\t63\t63\n")
        (root / "val" / "val_annotations.txt").write_text("".join(lines), encoding="utf-8")


def _train_files(folder):
    """(path, label) of the training pictures, ordered by class, then name."""
    return [
        (path, label)
        for label, (wnid, *_) in enumerate(CLASSES)
        for path in sorted(existing(folder / wnid / "images").glob("*.JPEG"))
    ]


def _test_files(folder):
    """(path, label) of the pictures of the published validation set, ordered by class, then name."""
    numbers = {wnid: label for label, (wnid, *_) in enumerate(CLASSES)}
    table = folder / "val_annotations.txt"
    try:
        rows = [line.split("\t") for line in text(table).splitlines()]
        files = sorted((numbers[wnid], name) for name, wnid, *_ in rows)
    except (KeyError, ValueError) as error:
        raise MubenchError(
            f"{table} has a line without a file and one of the 200 classes ({error}): unpack the archive again"
        ) from None
    return [(folder / "images" / name, label) for label, name in files]


def _write_picture(path, label, random):
    """A picture of the sample's, of its label's shade."""
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    shade = np.array([label, 255 - label, label * 7 % 256])
    pixels = (shade + random.normal(0, 20, (64, 64, 3))).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels if label % 50 else pixels[..., 0]).save(path)
