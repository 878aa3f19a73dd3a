from pathlib import Path

from mubench.errors import MubenchError
from mubench.train.recipe import Recipe
from mubench.tasks._sources import Published, hub, text, there
from mubench.tasks.base import Model
from mubench.tasks.generation._diffusion import ImageGeneration

# Of each class, in the order of its labels: its WordNet id, the id the copy on the Hub has for it, its first name in
# WordNet 3.0.
CLASSES = [
    line.split("\t") for line in (Path(__file__).parent / "data" / "tiny_imagenet-classes.tsv").read_text().splitlines()
]


class TinyImagenet(Published, ImageGeneration):
    """Draw what a prompt names: Tiny ImageNet (100,000 / 10,000 pictures of 64×64, 200 classes) with Stable Diffusion
    1.4.

    The unit of deletion is the class: at r % the pictures of 2r classes go, as the official code means to delete
    classes (its list of them is not published; give single pictures by ``--split-file``). Prompts name a class by its
    WordNet id; the official code takes the label's number for one of ImageNet's 1,000 classes and so names others. D_t
    is the published validation set, the labels of the test set being secret; it shows deleted classes too. The Hub's
    copy has wrong ids for 18 classes, which are set right here; rows are in the order of class and then of file name,
    which for the Hub's copy is taken on trust.
    """

    source = "http://cs231n.stanford.edu/tiny-imagenet-200.zip; zh-plus/tiny-imagenet on the Hugging Face Hub"
    licence = (
        "none of its own: ImageNet's terms (non-commercial research); names: WordNet; Stable Diffusion 1.4: CreativeML"
        " OpenRAIL-M"
    )
    citation = "Le & Yang 2015, Tiny ImageNet Visual Recognition Challenge; Rombach et al. 2022, arXiv:2112.10752"
    labels = tuple(name for _, _, name in CLASSES)
    templates = ("an image of a {}",)
    rows = {"train": 100_000, "test": 10_000}
    archive = "tiny-imagenet-200"
    remedy = "unpack tiny-imagenet-200.zip (http://cs231n.stanford.edu/tiny-imagenet-200.zip) into FOLDER"
    encoder = autoencoder = "CompVis/stable-diffusion-v1-4"
    # which is also the classifier: no published one states its accuracy and keeps to safetensors
    clip = "openai/clip-vit-base-patch32"
    noise = dict(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    recipe = Recipe(lr=1e-5, epochs=2, batch_size=32)
    measured = {"train": 1000, "forget": 1000, "retain": 1000, "test": 1000, "validation": 500}
    evaluation_batch = 64
    models = {
        "stable_diffusion": Model("UNet2DConditionModel", pretrained="CompVis/stable-diffusion-v1-4", part="unet")
    }

    def units(self):
        """The class a picture is of (its WordNet id)."""
        return [CLASSES[label][0] for label in self.data["train"]["label"]]

    def from_archive(self, folder):
        import datasets

        folder = folder / self.archive
        train = [
            (path, label)
            for label, (wnid, *_) in enumerate(CLASSES)
            for path in sorted(there(folder / "train" / wnid / "images").glob("*.JPEG"))
        ]
        numbers, shown = (
            {wnid: label for label, (wnid, *_) in enumerate(CLASSES)},
            folder / "val" / "val_annotations.txt",
        )
        try:
            test = sorted(
                (numbers[wnid], name) for name, wnid, *_ in (line.split("\t") for line in text(shown).splitlines())
            )
        except (KeyError, ValueError) as error:
            raise MubenchError(
                f"{shown} has a line without a file and one of the 200 classes ({error}): unpack the archive again"
            ) from None
        test = [(folder / "val" / "images" / name, label) for label, name in test]
        return datasets.DatasetDict(
            {
                name: self._rows([there(path).read_bytes() for path, _ in rows], [label for _, label in rows])
                for name, rows in (("train", train), ("test", test))
            }
        )

    def from_hub(self):
        import datasets

        data = hub(
            "zh-plus/tiny-imagenet", "5a77092c28e51558c5586e9c5eb71a7e17a5e43f", {"image": "image", "label": "label"}
        )
        numbers = {theirs: label for label, (_, theirs, _) in enumerate(CLASSES)}
        read = {}
        for name, split in (("train", "train"), ("test", "valid")):
            names = data[split].features["label"].names
            if set(names) != set(numbers):
                raise MubenchError(
                    f"zh-plus/tiny-imagenet and the names known of it differ in {min(set(names) ^ set(numbers))}: use"
                    " the archive, --data-dir FOLDER"
                )
            labels = [numbers[names[label]] for label in data[split]["label"]]
            order = sorted(range(len(labels)), key=labels.__getitem__)
            pictures = data[split].cast_column("image", datasets.Image(decode=False)).select(order)["image"]
            read[name] = self._rows([picture["bytes"] for picture in pictures], [labels[row] for row in order])
        return datasets.DatasetDict(read)

    def _rows(self, pictures, labels):
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
        from PIL import Image

        draw, root, lines = np.random.default_rng(0), folder / self.archive, []

        def write(path, label):
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = (
                (np.array([label, 255 - label, label * 7 % 256]) + draw.normal(0, 20, (64, 64, 3)))
                .clip(0, 255)
                .astype(np.uint8)
            )
            Image.fromarray(pixels if label % 50 else pixels[..., 0]).save(path)

        for label, (wnid, *_) in enumerate(CLASSES):
            for number in range(2):
                write(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", label)
            write(root / "val" / "images" / f"val_{label}.JPEG", label)
            lines.append(f"val_{label}.JPEG\t{wnid}\t0\t0\t63\t63\n")
        (root / "val" / "val_annotations.txt").write_text("".join(lines))
