from mubench.errors import MubenchError
from mubench.train.recipe import Recipe
from mubench.tasks._sources import Published, dataset, hub, optional, plain_pickle, there
from mubench.tasks.base import Model
from mubench.tasks.image import ImageClassification

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
SEVERITIES = 5


class Cifar100(Published, ImageClassification):
    """CIFAR-100 (50,000 / 10,000 pictures of 32×32, 100 classes), scaled to the size its models were pretrained at.

    Pictures are held as bytes of pixels (height, width, channel), whichever source they come from. The published
    originals were trained on 42,500 of the 50,000 rows and selected on the test set; `mubench original cifar100
    --train` trains on all of D.
    """

    source = (
        "https://www.cs.toronto.edu/~kriz/cifar.html; uoft-cs/cifar100 on the Hugging Face Hub; CIFAR-100-C: doi"
        " 10.5281/zenodo.3555552"
    )
    licence = "none stated by the authors (research use); CIFAR-100-C: CC BY 4.0"
    citation = (
        "Krizhevsky 2009, Learning multiple layers of features from tiny images; Hendrycks & Dietterich 2019,"
        " arXiv:1903.12261"
    )
    labels = (
        "apple",
        "aquarium_fish",
        "baby",
        "bear",
        "beaver",
        "bed",
        "bee",
        "beetle",
        "bicycle",
        "bottle",
        "bowl",
        "boy",
        "bridge",
        "bus",
        "butterfly",
        "camel",
        "can",
        "castle",
        "caterpillar",
        "cattle",
        "chair",
        "chimpanzee",
        "clock",
        "cloud",
        "cockroach",
        "couch",
        "crab",
        "crocodile",
        "cup",
        "dinosaur",
        "dolphin",
        "elephant",
        "flatfish",
        "forest",
        "fox",
        "girl",
        "hamster",
        "house",
        "kangaroo",
        "keyboard",
        "lamp",
        "lawn_mower",
        "leopard",
        "lion",
        "lizard",
        "lobster",
        "man",
        "maple_tree",
        "motorcycle",
        "mountain",
        "mouse",
        "mushroom",
        "oak_tree",
        "orange",
        "orchid",
        "otter",
        "palm_tree",
        "pear",
        "pickup_truck",
        "pine_tree",
        "plain",
        "plate",
        "poppy",
        "porcupine",
        "possum",
        "rabbit",
        "raccoon",
        "ray",
        "road",
        "rocket",
        "rose",
        "sea",
        "seal",
        "shark",
        "shrew",
        "skunk",
        "skyscraper",
        "snail",
        "snake",
        "spider",
        "squirrel",
        "streetcar",
        "sunflower",
        "sweet_pepper",
        "table",
        "tank",
        "telephone",
        "television",
        "tiger",
        "tractor",
        "train",
        "trout",
        "tulip",
        "turtle",
        "wardrobe",
        "whale",
        "willow_tree",
        "wolf",
        "woman",
        "worm",
    )
    random_guess = 1 / 100
    transfer = (
        "CIFAR-100-C: each picture of D_t under one of its 15 corruptions at one of 5 severities, where --data-dir"
        " has it"
    )
    rows = {"train": 50_000, "test": 10_000}
    archive = "cifar-100-python"
    remedy = (
        "unpack cifar-100-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz, md5 "
        "eb9058c3a382ffc7106e4002c42a8d85) into FOLDER"
    )
    recipe = Recipe(
        lr=2e-5, epochs=10, batch_size=32, lr_schedule="linear", keep_best=True
    )  # as the cards of the first published originals
    models = {
        "resnet_18": Model("ResNetForImageClassification", pretrained="microsoft/resnet-18"),
        "resnet_34": Model("ResNetForImageClassification", pretrained="microsoft/resnet-34"),
        "resnet_50": Model(
            "ResNetForImageClassification", pretrained="microsoft/resnet-50", original="jialicheng/cifar100-resnet-50"
        ),
        "mobilenet_v2": Model("MobileNetV2ForImageClassification", pretrained="google/mobilenet_v2_1.0_224"),
        "convnext_base": Model("ConvNextForImageClassification", pretrained="facebook/convnext-base-224"),
        "vit_small": Model(
            "ViTForImageClassification", pretrained="WinKawaks/vit-small-patch16-224"
        ),  # timm's, converted; no other is known
        "vit_base": Model("ViTForImageClassification", pretrained="google/vit-base-patch16-224-in21k"),
        "vit_large": Model(
            "ViTForImageClassification",
            pretrained="google/vit-large-patch16-224-in21k",
            original="jialicheng/cifar100-vit-large",
        ),
        "swin_tiny": Model("SwinForImageClassification", pretrained="microsoft/swin-tiny-patch4-window7-224"),
        "swin_small": Model("SwinForImageClassification", pretrained="microsoft/swin-small-patch4-window7-224"),
        "swin_base": Model("SwinForImageClassification", pretrained="microsoft/swin-base-patch4-window7-224"),
    }

    def read(self):
        data = super().read()
        remedy = (
            "unpack CIFAR-100-C.tar (https://zenodo.org/records/3555552, md5 11f0ed0f1191edbf9fa23466ae6021d3) into"
            " FOLDER"
        )
        read = lambda folder: self.corrupted(folder / "CIFAR-100-C", data["test"]["label"])
        if corrupted := optional(self, lambda: self.found("CIFAR-100-C", remedy, read)):
            data["transfer"] = corrupted
        return data

    def from_archive(self, folder):
        import datasets

        return datasets.DatasetDict({name: self._split(folder / self.archive / name) for name in ("train", "test")})

    def _split(self, path):
        import numpy as np

        held = plain_pickle(path)
        try:
            pictures, labels = np.asarray(held[b"data"], np.uint8), [int(label) for label in held[b"fine_labels"]]
            pictures = pictures.reshape(len(labels), 3, 32, 32).transpose(0, 2, 3, 1)
        except (KeyError, TypeError, ValueError) as error:
            raise MubenchError(
                f"{path} does not hold pictures of 3×32×32 and a fine label for each ({error}): it is not CIFAR-100's "
                "file, unpack the archive again"
            ) from error
        if wrong := {label for label in labels if not 0 <= label < self.num_labels}:
            raise MubenchError(f"{path} holds the label {min(wrong)}, CIFAR-100 has 0 to 99: it is of another data set")
        return self._rows(pictures, labels)

    def from_hub(self):
        import datasets
        import numpy as np

        data = hub(
            "uoft-cs/cifar100", "aadb3af77e9048adbea6b47c21a81e47dd092ae5", {"img": "image", "fine_label": "label"}
        )
        return datasets.DatasetDict(
            {
                name: self._rows([np.asarray(p.convert("RGB")) for p in rows["image"]], rows["label"])
                for name, rows in data.items()
            }
        )

    def corrupted(self, folder, labels):
        """Row r of D_t under corruption r mod 15 at severity 1 + ⌊r/15⌋ mod 5. Each file has all test pictures once per
        severity.
        """
        import numpy as np

        n, rows = len(labels), self.test_rows(len(labels))[1]
        files = {name: there(folder / f"{name}.npy") for name in (*CORRUPTIONS, "labels")}
        try:
            held = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in files.items()}
        except (ValueError, EOFError, OSError) as error:
            raise MubenchError(f"{folder} holds a damaged file ({error}): unpack the archive again") from error
        for name, array in held.items():
            if (
                array.shape != (shape := (SEVERITIES * n, 32, 32, 3)[: 1 if name == "labels" else 4])
                or array.dtype.kind not in "ui"
            ):
                raise MubenchError(
                    f"{files[name]} has the shape {array.shape} of {array.dtype}, not {shape} of bytes: it is of"
                    " another version"
                )
        if list(held["labels"]) != list(labels) * SEVERITIES:
            raise MubenchError(f"{files['labels']} are not the labels of the test pictures: it is of another data set")
        pictures = [held[CORRUPTIONS[row % 15]][row // 15 % SEVERITIES * n + row].astype(np.uint8) for row in rows]
        return self._rows(pictures, [labels[row] for row in rows])

    def _rows(self, pictures, labels):
        return dataset(
            {"image": [picture.tobytes() for picture in pictures], "label": labels}, self.labels, image="binary"
        )

    def pixels(self, dataset):
        import numpy as np

        return np.frombuffer(bytearray().join(dataset["image"]), np.uint8).reshape(-1, 32, 32, 3)

    def write_sample(self, folder):
        """Four classes, each of a hue of its own, under noise."""
        import pickle

        import numpy as np

        draw, hues = np.random.default_rng(0), np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
        for path in (folder / self.archive, folder / "CIFAR-100-C"):
            path.mkdir()
        for name, n in (("train", 60), ("test", 40)):
            labels = [i % 4 for i in range(n)]
            pictures = (hues[labels][:, None, None] + draw.normal(0, 40, (n, 32, 32, 3))).clip(0, 255).astype(np.uint8)
            held = {
                b"data": pictures.transpose(0, 3, 1, 2).reshape(n, -1),
                b"fine_labels": labels,
                b"coarse_labels": [0] * n,
                b"filenames": [b"%d.png" % i for i in range(n)],
                b"batch_label": name.encode(),
            }
            (folder / self.archive / name).write_bytes(pickle.dumps(held, protocol=2))
        for name in CORRUPTIONS:
            np.save(folder / "CIFAR-100-C" / f"{name}.npy", np.concatenate([pictures // s for s in range(1, 6)]))
        np.save(folder / "CIFAR-100-C" / "labels.npy", np.array(labels * SEVERITIES))
