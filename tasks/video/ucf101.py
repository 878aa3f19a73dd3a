from mubench.tasks.base import Model
from mubench.tasks.video import VideoClassification
from mubench.tasks.video.readers.ucf101 import UCF101Files
from mubench.train.recipe import Recipe


class UCF101(UCF101Files, VideoClassification):
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
