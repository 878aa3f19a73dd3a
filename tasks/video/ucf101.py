from mubench.errors import MubenchError
from mubench.train.recipe import Recipe
from mubench.tasks._sources import Published, dataset, optional, text, there
from mubench.tasks.base import Model
from mubench.tasks.video import VideoClassification

RENAMED = {
    "BilliardsShot": "Billiards",
    "BasketballShooting": "Basketball",
    "CleanandJerk": "CleanAndJerk",
    "Breaststroke": "BreastStroke",
}  # classes that UCF101-DS calls otherwise


class UCF101(Published, VideoClassification):
    """UCF101, official split 1: 101 actions in 9,537 / 3,783 clips from YouTube, 16 frames of the middle two seconds of
    each.

    Rows are in the order of the official lists. The checksum is over file names and labels, not over 7 GB of video.
    """

    source = "https://www.crcv.ucf.edu/data/UCF101.php (UCF101.rar, UCF101TrainTestSplits-RecognitionTask.zip)"
    licence = "research only, as its page says; the clips are their makers' on YouTube"
    citation = "Soomro, Zamir & Shah 2012, arXiv:1212.0402; transfer: Schiappa et al. 2023, arXiv:2207.01398"
    labels = tuple(
        """
        ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball
        BasketballDunk BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling
        BoxingPunchingBag BoxingSpeedBag BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling
        CricketShot CuttingInKitchen Diving Drumming Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch
        FrontCrawl GolfSwing Haircut Hammering HammerThrow HandstandPushups HandstandWalking HeadMassage HighJump
        HorseRace HorseRiding HulaHoop IceDancing JavelinThrow JugglingBalls JumpingJack JumpRope Kayaking Knitting
        LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks ParallelBars PizzaTossing PlayingCello PlayingDaf
        PlayingDhol PlayingFlute PlayingGuitar PlayingPiano PlayingSitar PlayingTabla PlayingViolin PoleVault
        PommelHorse PullUps Punch PushUps Rafting RockClimbingIndoor RopeClimbing Rowing SalsaSpin ShavingBeard
        Shotput SkateBoarding Skiing Skijet SkyDiving SoccerJuggling SoccerPenalty StillRings SumoWrestling Surfing
        Swing TableTennisShot TaiChi TennisSwing ThrowDiscus TrampolineJumping Typing UnevenBars VolleyballSpiking
        WalkingWithDog WallPushups WritingOnBoard YoYo
    """.split()
    )
    random_guess = 1 / 101
    transfer = (
        "UCF101-DS: clips of the same actions under real shifts (style, place, actor, occlusion …), where they are at"
        " hand"
    )
    rows = {"train": 9537, "test": 3783}
    archive = "UCF-101"
    remedy = (
        "unpack UCF101.rar (it becomes UCF-101/CLASS/v_….avi) and UCF101TrainTestSplits-RecognitionTask.zip"
        " (ucfTrainTestlist/, sha256 5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27) from"
        " https://www.crcv.ucf.edu/data/UCF101.php into FOLDER"
    )
    keyed = ("name", "label")
    lazy = True
    # Cheng & Amiri 2024's script for originals: 30 epochs, effective batch 32.
    recipe = Recipe(lr=5e-5, epochs=30, batch_size=32, weight_decay=0.0, lr_schedule="linear", keep_best=True)
    models = {
        "videomae_base": Model("VideoMAEForVideoClassification", pretrained="MCG-NJU/videomae-base"),
        "videomae_large": Model("VideoMAEForVideoClassification", pretrained="MCG-NJU/videomae-large"),
    }

    def from_archive(self, folder):
        import datasets

        lists = folder / "ucfTrainTestlist"
        named = dict(line.split()[::-1] for line in text(lists / "classInd.txt").splitlines() if line.strip())
        if tuple(named) != self.labels:
            raise MubenchError(
                f"{lists / 'classInd.txt'} does not list the 101 classes of UCF101 in their order: it is of another"
                " version"
            )
        rows = {
            split: [line.split()[0] for line in text(lists / f"{split}list01.txt").splitlines() if line.strip()]
            for split in ("train", "test")
        }
        data = {
            split: self._clips(folder / "UCF-101", [(name.split("/")[0], name) for name in names])
            for split, names in rows.items()
        }
        remedy = (
            "unpack UCF101-DS"
            " (https://www.crcv.ucf.edu/research/projects/ucf101-ds-action-recognition-for-real-world-distribution-shifts/)"
            " and its list ucf101-DS_eval.csv into FOLDER"
        )
        if shifted := optional(self, lambda: self.found("UCF101-DS", remedy, self._shifted)):
            data["transfer"] = shifted
        return datasets.DatasetDict(data)

    def _shifted(self, folder):
        import io

        import pandas as pd

        listed = pd.read_csv(io.StringIO(text(folder / "ucf101-DS_eval.csv")))
        rows = [
            (RENAMED.get(label, label), f"{label}/{name}") for label, name in zip(listed["label"], listed["filename"])
        ]
        return self._clips(folder / "UCF101-DS", rows)

    def _clips(self, root, rows):
        """Rows ``(class, path below root)`` as a data set; every clip must be there."""
        wrong = next((name for label, name in rows if label not in self.labels), None)
        if wrong:
            raise MubenchError(f"{root / wrong} is of no class of UCF101: the list is of another version")
        for _, name in rows:
            there(root / name)
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

        from mubench.tasks.video import write_clip

        lists = folder / "ucfTrainTestlist"
        lists.mkdir()
        (lists / "classInd.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(self.labels, 1)))
        random = np.random.default_rng(0)
        for split, groups in (("train", range(15)), ("test", range(15, 25))):
            with (lists / f"{split}list01.txt").open("w") as listed:
                for number, name in enumerate(self.labels[:4]):
                    for group in groups:
                        clip = f"{name}/v_{name}_g{group + 1:02}_c01.avi"
                        write_clip(folder / "UCF-101" / clip, _moving_square(random, number))
                        listed.write(f"{clip} {number + 1}\n" if split == "train" else f"{clip}\n")
        for label in ("ApplyEyeMakeup", "BasketballShooting"):
            write_clip(folder / "UCF101-DS" / label / "style_0.mp4", _moving_square(random, 0))
        (folder / "ucf101-DS_eval.csv").write_text(
            "label,filename\nApplyEyeMakeup,style_0.mp4\nBasketballShooting,style_0.mp4\n"
        )


def _moving_square(random, direction, frames=20, height=60, width=80):
    """[frames, height, width, 3] bytes."""
    import numpy as np

    film = random.integers(0, 60, (frames, height, width, 3), dtype=np.uint8)
    down, right = ((0, 2), (0, -2), (2, 0), (-2, 0))[direction]
    top, left = random.integers(20, 30), random.integers(25, 45)
    for t, frame in enumerate(film):
        y, x = (
            np.clip(top + (t - frames // 2) * down, 0, height - 10),
            np.clip(left + (t - frames // 2) * right, 0, width - 10),
        )
        frame[y : y + 10, x : x + 10] = 255
    return film
