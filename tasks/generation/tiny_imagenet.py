from mubench.tasks.base import Model
from mubench.tasks.generation import ImageGeneration
from mubench.tasks.generation.readers.tiny_imagenet import CLASSES, TinyImagenetFiles
from mubench.train.recipe import Recipe

# Of each class, in the order of its labels: its WordNet id, the id the copy on the Hub has for it, its first name in
# WordNet 3.0.


class TinyImagenet(TinyImagenetFiles, ImageGeneration):
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
    unit_kinds = ("class", "row")
    models = {
        "stable_diffusion": Model("UNet2DConditionModel", pretrained="CompVis/stable-diffusion-v1-4", part="unet")
    }

    def units(self, kind):
        """The class a picture is of (its WordNet id)."""
        if kind != "class":
            return super().units(kind)
        return [CLASSES[label][0] for label in self.data["train"]["label"]]
