import json

from mubench.models import networks
from mubench.errors import MubenchError
from mubench.train.recipe import Recipe
from mubench.tasks._sources import Published, dataset, optional, pictures, text
from mubench.tasks.base import Model
from mubench.tasks.vision_language import PairClassification

FILES = {"train": "train", "validation": "dev", "test": "test1", "transfer": "test2"}


class Nlvr2(Published, PairClassification):
    """Is a sentence true of two photographs? NLVR2 (86,373 / 6,982 / 6,967 sentences).

    Rows name the pictures' files; pictures are decoded batch by batch. So the checksum of the rows is over the files'
    names, the sentences and the labels, and not over 10 GB of pixels.
    """

    source = (
        "https://lil.nlp.cornell.edu/nlvr; sentences https://github.com/lil-lab/nlvr (nlvr2/data), pictures on request"
        " from the authors"
    )
    licence = "CC BY 4.0 (sentences); the pictures belong to their owners"
    citation = "Suhr et al. 2019, arXiv:1811.00491"
    labels = ("False", "True")
    random_guess = 1 / 2
    transfer = "test2, the authors' second test set (6,970 sentences about other pictures)"
    rows = {"train": 86_373, "validation": 6_982, "test": 6_967, "transfer": 6_970}
    archive = "data/train.json"
    remedy = (
        "copy nlvr2/data of https://github.com/lil-lab/nlvr to FOLDER/nlvr2/data, ask for the pictures there (their"
        " terms have to be accepted in a form), unpack them into FOLDER/nlvr2/images (train/0…99, dev, test1, test2)"
    )
    lazy = True
    recipe = Recipe(
        lr=1e-4, epochs=10, batch_size=128, lr_schedule="linear", warmup=0.1, keep_best=True
    )  # ViLT's own rate, for all of it
    models = {
        # The published original as the Hub's own converter has rewritten it in safetensors; its main branch has a
        # pickle only.
        "vilt": Model(
            "ViltForImagesAndTextClassification",
            dict(num_images=2, modality_type_vocab_size=3),
            "dandelin/vilt-b32-mlm",
            original="dandelin/vilt-b32-finetuned-nlvr2@refs/pr/2",
            inputs=dict(length=40),
        ),
    }

    def from_archive(self, folder):
        import datasets

        parts = {name: self._rows(folder, name) for name in ("train", "validation", "test")}
        if second := optional(
            self, lambda: self.found("data/test2.json", self.remedy, lambda folder: self._rows(folder, "transfer"))
        ):
            parts["transfer"] = second
        return datasets.DatasetDict(parts)

    def _rows(self, folder, name):
        path, rows = folder / "data" / f"{FILES[name]}.json", []
        for number, line in enumerate(text(path).removesuffix("\n").split("\n"), 1):
            try:
                said = json.loads(line)
                pair = said["identifier"].rpartition("-")[0]  # what follows is the number of the sentence
                inside = f"{FILES[name]}/{said['directory']}" if name == "train" else FILES[name]
                row = {
                    "left": f"{inside}/{pair}-img0.png",
                    "right": f"{inside}/{pair}-img1.png",
                    "text": said["sentence"],
                    "label": str(said["label"]),
                }
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise MubenchError(
                    f"{path}, line {number}: it is no example of NLVR2 ({type(error).__name__}: {error})"
                ) from error
            if row["label"] not in self.labels or not row["text"].strip():
                raise MubenchError(
                    f"{path}, line {number}: it needs a sentence and the label True or False, not {row['label']!r}"
                )
            rows.append(row)
        absent = (f for row in rows for f in (row["left"], row["right"]) if not self._file(f).is_file())
        if missing := next(absent, None):
            raise MubenchError(f"{self._file(missing)} is missing, a picture of {path.name}: unpack the pictures again")
        return dataset({column: [row[column] for row in rows] for column in rows[0]}, self.labels)

    def _file(self, name):
        bare = self.data_dir / name  # the smaller sets' archives unpack without the folder images
        return bare if bare.exists() else self.data_dir / "images" / name

    def pairs(self, dataset):
        return pictures([self._file(name) for pair in zip(dataset["left"], dataset["right"]) for name in pair])

    def build(self, model, seed=0, blank=False):
        import torch

        network = super().build(model, seed, blank)
        if (
            not blank
        ):  # pretrained on one picture: the second one's type begins as the first one's, as in ViLT's own code
            known = networks.pretrained(
                type(network.vilt), self.models[model].pretrained
            ).embeddings.token_type_embeddings
            with torch.no_grad():
                network.vilt.embeddings.token_type_embeddings.weight.copy_(known.weight[[0, 1, 1]])
        return network

    def write_sample(self, folder):
        """Of two plain pictures one is as red as the sentence says, or is not."""
        from PIL import Image

        (folder / "data").mkdir()
        for name, n in (("train", 60), ("dev", 20), ("test1", 40), ("test2", 30)):
            lines = []
            for i in range(n):
                inside = f"images/{name}/{i % 3}" if name == "train" else f"images/{name}"
                (folder / inside).mkdir(parents=True, exist_ok=True)
                side, true = i // 2 % 2, i % 2
                for number in (0, 1):
                    red = (number == side) == bool(true)
                    Image.new("RGB", (40 + i % 3 * 8, 48), (220 if red else 20, 40 + i, 60)).save(
                        folder / inside / f"{name}-{i}-0-img{number}.png"
                    )
                lines.append(
                    json.dumps(
                        {
                            "identifier": f"{name}-{i}-0-0",
                            "directory": i % 3,
                            "label": str(bool(true)),
                            "sentence": f"The {('left', 'right')[side]} image is red.",
                        }
                    )
                )
            (folder / "data" / f"{name}.json").write_text("\n".join(lines) + "\n")
