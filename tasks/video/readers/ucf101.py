"""UCF101 with its official lists, and UCF101-DS."""

from mubench.errors import MubenchError
from mubench.tasks.readers.files import existing, text
from mubench.tasks.readers.published import Published
from mubench.tasks.readers.tables import dataset
from mubench.tasks.video.readers.clips import write_clip

RENAMED = {  # classes that UCF101-DS calls otherwise
    "BilliardsShot": "Billiards",
    "BasketballShooting": "Basketball",
    "CleanandJerk": "CleanAndJerk",
    "Breaststroke": "BreastStroke",
}


class UCF101Files(Published):
    """Rows have ``video``, the path of a file, ``name`` and ``label``; they are in the order of the lists."""

    def from_archive(self, folder):
        import datasets

        lists = folder / "ucfTrainTestlist"
        numbered = [line.split() for line in _lines(lists / "classInd.txt")]
        if tuple(name for _, name in numbered) != self.labels:
            raise MubenchError(
                f"{lists / 'classInd.txt'} does not list the 101 classes of UCF101 in their order: it is of another"
                " version"
            )
        data = datasets.DatasetDict()
        for split in ("train", "test"):
            names = [line.split()[0] for line in _lines(lists / f"{split}list01.txt")]
            data[split] = self._clips(folder / "UCF-101", [(name.split("/")[0], name) for name in names])
        remedy = (
            "unpack UCF101-DS"
            " (https://www.crcv.ucf.edu/research/projects/ucf101-ds-action-recognition-for-real-world-distribution-shifts/)"
            " and its list ucf101-DS_eval.csv into FOLDER"
        )
        return self.add_transfer(data, "UCF101-DS", remedy, self._shifted)

    def _shifted(self, folder):
        """The rows of UCF101-DS."""
        import io

        import pandas as pd

        table = pd.read_csv(io.StringIO(text(folder / "ucf101-DS_eval.csv")))
        clips = zip(table["label"], table["filename"], strict=True)
        rows = [(RENAMED.get(label, label), f"{label}/{name}") for label, name in clips]
        return self._clips(folder / "UCF101-DS", rows)

    def _clips(self, root, rows):
        """Rows ``(class, path below root)`` as a data set; every clip must be there."""
        wrong = next((name for label, name in rows if label not in self.labels), None)
        if wrong:
            raise MubenchError(f"{root / wrong} is of no class of UCF101: the list is of another version")
        for _, name in rows:
            existing(root / name)
        return dataset(
            {
                "video": [str(root / name) for _, name in rows],
                "name": [name for _, name in rows],
                "label": [label for label, _ in rows],
            },
            self.labels,
        )

    def write_sample(self, folder):
        """101 classes in the lists, clips of the first four: a bright square that moves in the direction of its
        class.
        """
        import numpy as np

        lists = folder / "ucfTrainTestlist"
        lists.mkdir()
        (lists / "classInd.txt").write_text(
            "".join(f"{i} {name}\n" for i, name in enumerate(self.labels, 1)), encoding="utf-8"
        )
        random = np.random.default_rng(0)
        for split, groups in (("train", range(15)), ("test", range(15, 25))):
            with (lists / f"{split}list01.txt").open("w", encoding="utf-8") as listed:
                for number, name in enumerate(self.labels[:4]):
                    for group in groups:
                        clip = f"{name}/v_{name}_g{group + 1:02}_c01.avi"
                        write_clip(folder / "UCF-101" / clip, _moving_square(random, number))
                        listed.write(f"{clip} {number + 1}\n" if split == "train" else f"{clip}\n")
        for label in ("ApplyEyeMakeup", "BasketballShooting"):
            write_clip(folder / "UCF101-DS" / label / "style_0.mp4", _moving_square(random, 0))
        (folder / "ucf101-DS_eval.csv").write_text(
            "label,filename\nApplyEyeMakeup,style_0.mp4\nBasketballShooting,style_0.mp4\n",
            encoding="utf-8",
        )


def _lines(path):
    """The lines of a list that are not empty."""
    return [line for line in text(path).splitlines() if line.strip()]


def _moving_square(random, direction, frames=20, height=60, width=80):
    """[frames, height, width, 3] bytes: a bright square that moves down, up, right or left over noise."""
    import numpy as np

    film = random.integers(0, 60, (frames, height, width, 3), dtype=np.uint8)
    down, right = ((0, 2), (0, -2), (2, 0), (-2, 0))[direction]
    top, left = random.integers(20, 30), random.integers(25, 45)
    for t, frame in enumerate(film):
        y = np.clip(top + (t - frames // 2) * down, 0, height - 10)
        x = np.clip(left + (t - frames // 2) * right, 0, width - 10)
        frame[y : y + 10, x : x + 10] = 255
    return film
