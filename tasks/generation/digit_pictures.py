from mubench.tasks.base import Model
from mubench.tasks.generation import ImageGeneration
from mubench.tasks.generation.readers.digit_pictures import read_digits
from mubench.train.recipe import Recipe


class DigitPictures(ImageGeneration):
    """Draw a handwritten digit after a prompt (scikit-learn's digits, 8×8, 1,000 / 360, our own prompts); twin of
    tiny_imagenet.

    Pictures are deleted one by one; to delete whole digits, as tiny_imagenet does classes, give their rows by
    ``--split-file``.
    """

    tier = "mini"
    source = "sklearn.datasets.load_digits (comes with scikit-learn); prompts by templates of our own"
    licence = "BSD-3-Clause (as part of scikit-learn); prompts Apache-2.0 as the rest of this project"
    citation = "Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository"
    labels = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    templates = (
        "a handwritten digit {}",
        "the digit {} written by hand",
        "a small grey picture of a {}",
        "someone wrote the number {}",
    )
    clip = encoder = "digit_pictures-clip"
    classifier = "digit_pictures-classifier"
    random_guess = 0.150
    fits = 0.85  # real pictures score 0.87
    checksum = "1907f404345019880d757e075efcad17265ac7722951cbb3739f16f7961cf770"
    checksums = {"test": "fc49207228d8d8b8503eb18c2571ce37d38a7b8325ac11d87de17d9c8c3eb6e2"}
    rows = {"train": 1000, "test": 360}
    colour, pixels = "L", dict(mean=0.5, std=0.5)
    noise = dict(beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")
    guidance, steps = 1.5, 10
    models = {
        name: Model(
            "UNet2DConditionModel",
            dict(
                sample_size=8,
                in_channels=1,
                out_channels=1,
                block_out_channels=channels,
                layers_per_block=1,
                norm_num_groups=8,
                down_block_types=("DownBlock2D",) * 3,
                up_block_types=("UpBlock2D",) * 3,
                cross_attention_dim=32,
                attention_head_dim=8,
            ),
        )
        for name, channels in (("unet", (16, 32, 48)), ("unet_wide", (16, 32, 64)))
    }
    recipe = Recipe(lr=4e-3, epochs=120, batch_size=64, lr_schedule="cosine", warmup=0.05)
    measured = {"train": 200, "retain": 200}

    def read(self):
        return read_digits(self)
