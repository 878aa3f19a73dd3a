"""Text-to-image generation: diffusion models of pictures or of their latents, told what to draw by a frozen text
encoder.
"""

import functools
from pathlib import Path

from mubench.tasks.base import Task
from mubench.tasks.generation.diffusion.denoising import Denoising
from mubench.tasks.generation.diffusion.drawing import Drawing
from mubench.tasks.generation.diffusion.frozen import Frozen, source


class ImageGeneration(Denoising, Drawing, Frozen, Task):
    """Rows have ``image``, ``text``, the prompt, and ``label``, what it asks for; a prompt is one of ``templates`` with
    one of the labels. Frozen models, never unlearned, are hub ids or folders in ``data/``.

    templates: format strings over a label
    encoder: the CLIP text encoder that models listen to, frozen
    autoencoder: where models draw latents instead of pixels, frozen
    clip: what scores how well a picture fits its prompt, frozen
    classifier: what says what a picture shows, frozen; without one: CLIP, of the prompts by the first template
    colour: of the pictures (``RGB``, or ``L``: grey)
    pixels: their mean and std as clip and classifier see them
    noise: the options of the `diffusers` scheduler
    guidance, steps: of drawing
    dropped: the share of prompts that training replaces by the empty one, which is what guidance turns away from
    levels: the noise levels that a loss is averaged over in evaluation, as shares of the way to pure noise

    An example's loss is the mean squared error of the noise a model predicts; so is the divergence between two models'
    predictions, and its ``temperature`` divides them as it does logits. Noise depends on the seed and the example
    alone. A representation is what leaves the middle block, averaged over positions.
    """

    modality = "generation"
    provides = Task.provides - {"classes"} | {"prompts"}  # a prediction of noise is no logit
    metric = "clip_score"
    also = ("accuracy",)
    keeps_outputs = False
    resident = ("latents", "prompt", "labels")
    templates: tuple = ()
    encoder = autoencoder = clip = classifier = ""
    colour = "RGB"
    # of OpenAI's CLIP
    pixels: dict = dict(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
    noise: dict = {}
    guidance, steps, dropped = 7.5, 25, 0.1
    levels = tuple(0.2 + 0.05 * step for step in range(8))  # where a picture shows through: members differ most
    head_options: dict = {}  # a model that draws has no head for labels

    @property
    def features(self):
        """The types of the columns, pictures as the bytes of their files."""
        from datasets import ClassLabel, Features, Image, Value

        return Features(image=Image(), text=Value("string"), label=ClassLabel(names=list(self.labels)))

    def fetch_model(self, model):
        """And what is frozen, where it comes from elsewhere."""
        from mubench.models import networks

        others = [name for name in (self.clip, self.classifier) if name and source(name) == name]
        for name in others:
            networks.download(name)
        return [*super().fetch_model(model), *others]

    @functools.cached_property
    def prompts(self):
        """All prompts there may be; the first is the empty one."""
        return ["", *(template.format(label) for label in self.labels for template in self.templates)]

    def preparation(self, model):
        return [self.autoencoder, self.colour, self.prompts]

    def prepare(self, dataset, model):
        import numpy as np
        import torch

        numbers = {prompt: number for number, prompt in enumerate(self.prompts)}
        arrays = (
            np.stack([np.asarray(picture.convert(self.colour)) for picture in rows["image"]])
            for rows in dataset.select_columns("image").iter(64)
        )
        latents = [self._encoded(torch.from_numpy(array)) for array in arrays]
        return {
            "latents": torch.cat(latents),
            "prompt": torch.tensor([numbers[text] for text in dataset["text"]]),
            "labels": torch.tensor(dataset["label"]),
        }

    def sets(self, model, split=None, limit=None):
        self._encoded_texts()  # before any clock runs
        return super().sets(model, split, limit)

    def asked(self, batch, what):
        """The batch with other prompts.

        what: ``nothing``, the empty one, or ``next``, the same template with the label after each one's own.
        """
        import torch

        prompt, kinds = batch["prompt"], len(self.templates)
        if what == "nothing":
            return batch | {"prompt": torch.zeros_like(prompt)}
        return batch | {"prompt": torch.where(prompt > 0, (prompt - 1 + kinds) % (len(self.prompts) - 1) + 1, prompt)}

    def sample(self, folder):
        """With tiny stand-ins of the frozen models too, and few pictures to draw."""
        sample, frozen = super().sample(folder), Path(folder) / "frozen"
        _write_frozen(self.prompts, frozen)
        sample.encoder = sample.autoencoder = str(frozen)
        sample.clip, sample.steps, sample.measured = str(frozen / "clip"), 2, dict.fromkeys(self.measured, 8)
        return sample


def _write_frozen(prompts, folder):
    """Tiny untrained models of the classes of Stable Diffusion's frozen ones, and of a CLIP."""
    import torch
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel

    from mubench.models import networks
    from mubench.tasks.generation.makers.scorers import make_clip, make_tokenizer

    tokenizer = make_tokenizer(prompts)
    with networks.no_bars(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = make_clip(tokenizer, side=8, channels=3)
        CLIPTextModel(clip.config.text_config).save_pretrained(folder / "text_encoder")
        AutoencoderKL(
            block_out_channels=(4,) * 4,
            norm_num_groups=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            scaling_factor=8.0,
        ).save_pretrained(folder / "vae")
        clip.save_pretrained(folder / "clip")
    for name in ("tokenizer", "clip"):
        tokenizer.save_pretrained(folder / name)
