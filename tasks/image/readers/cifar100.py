"""CIFAR-100 and CIFAR-100-C as their authors publish them, and the copy on the Hub."""

from mubench.errors import MubenchError
from mubench.tasks.readers.files import existing, plain_pickle
from mubench.tasks.readers.published import Published, hub
from mubench.tasks.readers.tables import dataset

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


class Cifar100Files(Published):
    """Rows have ``image``, the bytes of the pixels (height, width, channel), and ``label``."""

    def read(self):
        data = super().read()
        remedy = (
            "unpack CIFAR-100-C.tar (https://zenodo.org/records/3555552, md5 11f0ed0f1191edbf9fa23466ae6021d3) into"
            " FOLDER"
        )
        corrupted = lambda folder: self.corrupted(folder / "CIFAR-100-C", data["test"]["label"])
        return self.add_transfer(data, "CIFAR-100-C", remedy, corrupted)

    def from_archive(self, folder):
        import datasets

        return datasets.DatasetDict({name: self._file(folder / self.archive / name) for name in ("train", "test")})

    def _file(self, path):
        """The rows of one of the archive's pickles."""
        import numpy as np

        content = plain_pickle(path)
        try:
            pictures, labels = np.asarray(content[b"data"], np.uint8), [int(label) for label in content[b"fine_labels"]]
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
        """Row r of D_t under corruption r mod 15 at severity 1 + ⌊r/15⌋ mod 5.

        folder: of CIFAR-100-C; each of its files has all test pictures once per severity.
        labels: of all test pictures.
        """
        n = len(labels)
        arrays = _arrays(folder, n)
        if list(arrays["labels"]) != list(labels) * SEVERITIES:
            raise MubenchError(
                f"{folder / 'labels.npy'} are not the labels of the test pictures: it is of another data set"
            )
        rows = self.test_rows(n)[1]
        pictures = [arrays[CORRUPTIONS[row % 15]][row // 15 % SEVERITIES * n + row] for row in rows]
        return self._rows([picture.astype("uint8") for picture in pictures], [labels[row] for row in rows])

    def _rows(self, pictures, labels):
        return dataset(
            {"image": [picture.tobytes() for picture in pictures], "label": labels}, self.labels, image="binary"
        )

    def pixels(self, dataset):
        """The pictures of rows as bytes, [n, 32, 32, 3]."""
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
            content = {
                b"data": pictures.transpose(0, 3, 1, 2).reshape(n, -1),
                b"fine_labels": labels,
                b"coarse_labels": [0] * n,
                b"filenames": [b"%d.png" % i for i in range(n)],
                b"batch_label": name.encode(),
            }
            (folder / self.archive / name).write_bytes(pickle.dumps(content, protocol=2))
        for name in CORRUPTIONS:
            np.save(folder / "CIFAR-100-C" / f"{name}.npy", np.concatenate([pictures // s for s in range(1, 6)]))
        np.save(folder / "CIFAR-100-C" / "labels.npy", np.array(labels * SEVERITIES))


def _arrays(folder, n):
    """Name → array of each file of CIFAR-100-C for n test pictures; read from the disk as they are used."""
    import numpy as np

    files = {name: existing(folder / f"{name}.npy") for name in (*CORRUPTIONS, "labels")}
    try:
        arrays = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in files.items()}
    except (ValueError, EOFError, OSError) as error:
        raise MubenchError(f"{folder} holds a damaged file ({error}): unpack the archive again") from error
    for name, array in arrays.items():
        shape = (SEVERITIES * n,) if name == "labels" else (SEVERITIES * n, 32, 32, 3)
        if array.shape != shape or array.dtype.kind not in "ui":
            raise MubenchError(
                f"{files[name]} has the shape {array.shape} of {array.dtype}, not {shape} of bytes: it is of"
                " another version"
            )
    return arrays
