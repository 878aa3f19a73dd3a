from mubench.tasks.base import Model, stored
from mubench.tasks.video import VideoClassification
from mubench.train.recipe import Recipe


class MocapActions(VideoClassification):
    """Twelve actions of people, motion captures filmed as stick figures (8 frames of 32×32, 2,400 / 480 clips); twin of
    ucf101.
    """

    tier = "mini"
    source = (
        "motions of pybullet 3.2.7 (https://github.com/bulletphysics/bullet3), rendered by "
        "`python -m mubench.tasks.video.makers.mocap_actions` (ships with mubench)"
    )
    licence = "zlib, Bullet Physics; altered: rendered as clips"
    citation = "Peng, Abbeel, Levine & van de Panne 2018 (DeepMimic), arXiv:1804.02717"
    labels = (
        "walk",
        "run",
        "jump",
        "kick",
        "punch",
        "spin kick",
        "roll",
        "crawl",
        "cartwheel",
        "backflip",
        "dance",
        "get up",
    )
    random_guess = 1 / 12
    transfer = "240 clips seen from further above, figures of one colour instead of five"
    checksum = "123cb8f4d94b61a8798152306a22fa14e9b2d8b58ca0e1040b0ab5a2e078a195"
    checksums = {
        "test": "f06f8f0897c3beeb2faf8eac90b4e1b29a7482a3322548110250b43d6d9f4c9c",
        "transfer": "c989b05730a1c2c2022785989aa0b878d0bc82cfca7968d65ea633b005b01054",
    }
    rows = {"train": 2400, "test": 480, "transfer": 240}
    recipe = Recipe(lr=1e-3, epochs=12, batch_size=32, lr_schedule="linear", warmup=0.1)
    models = {
        "videomae": Model(
            "VideoMAEForVideoClassification",
            dict(
                image_size=32,
                patch_size=8,
                num_frames=8,
                tubelet_size=2,
                hidden_size=96,
                num_hidden_layers=3,
                num_attention_heads=4,
                intermediate_size=192,
                initializer_range=0.1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            inputs=dict(mean=0.1663, std=0.1578),
        ),
        "timesformer": Model(
            "TimesformerForVideoClassification",
            dict(
                image_size=32,
                patch_size=8,
                num_frames=8,
                hidden_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                intermediate_size=128,
                initializer_range=0.125,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            recipe=dict(epochs=8),
            inputs=dict(mean=0.1663, std=0.1578),
        ),
    }

    def read(self):
        return stored(__file__, "mocap_actions")
