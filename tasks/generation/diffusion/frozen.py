"""The models that are frozen and never unlearned: the text encoder, the autoencoder and what scores pictures."""

from pathlib import Path

from mubench.models.pixels import per_channel
from mubench.tasks.contract.caching import cached_method


def source(name):
    """Where a frozen model is: a folder in ``data/`` of that name, or else the hub id that it is."""
    folder = Path(__file__).parent.parent / "data" / name
    return str(folder) if folder.is_dir() else name


def fastest_device():
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class Frozen:
    """The part of a task of pictures that knows its frozen models."""

    @cached_method
    def _frozen(self, architecture, name, part="", device="cpu"):
        """A frozen model, see `source`; ``part``: its folder there."""
        from mubench.models import networks

        model = networks.pretrained(networks.model_class(architecture), source(name), part)
        return model.to(device).eval().requires_grad_(False)

    def _tokens(self, model, part=""):
        """[prompts, tokens]: all prompts as a frozen model's tokenizer gives them."""
        from mubench.models import networks

        tokenizer = networks.processor("AutoTokenizer", source(model), subfolder=part)
        return tokenizer(self.prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids

    @cached_method
    def texts(self, device):
        """What models are told of each of the prompts: [prompts, tokens, channels]."""
        import torch

        with torch.inference_mode(False):  # a model that listens to them is trained later
            return self._encoded_texts().to(device)

    @cached_method
    def _encoded_texts(self):
        """The `texts`, in main memory."""
        import torch

        if self.autoencoder:
            encoder = self._frozen("CLIPTextModel", self.encoder, "text_encoder")
            tokens = self._tokens(self.encoder, "tokenizer")
        else:
            encoder, tokens = self._frozen("CLIPModel", self.encoder).text_model, self._tokens(self.encoder)
        with torch.no_grad():
            return encoder(tokens).last_hidden_state

    @cached_method
    def concepts(self, device):
        """[prompts, tokens]: true at the tokens that name a prompt's label.

        They are those in which it differs from the prompt of the next label by the same template.
        """
        import torch

        ids = self._tokens(*([self.encoder, "tokenizer"] if self.autoencoder else [self.encoder]))
        after = self.asked({"prompt": torch.arange(len(ids))}, "next")["prompt"]
        ends = (ids == ids[0, 1]).int().argmax(1, keepdim=True)  # the empty prompt: begin, end
        return ((ids != ids[after]) & (torch.arange(ids.shape[1]) < ends)).to(device)

    @cached_method
    def embedded_prompts(self, device):
        """The prompts as the scoring CLIP sees them: [prompts, D]."""
        import torch

        clip = self._frozen("CLIPModel", self.clip)
        with torch.no_grad():
            return clip.text_projection(clip.text_model(self._tokens(self.clip)).pooler_output).to(device)

    def embedded(self, pictures):
        """Pictures in [0, 1] as the scoring CLIP sees them: [B, D]."""
        clip = self._frozen("CLIPModel", self.clip, device=pictures.device)
        pixels = self._normal(pictures, clip.config.vision_config.image_size)
        return clip.visual_projection(clip.vision_model(pixels).pooler_output)

    def classified(self, pictures):
        """What pictures in [0, 1] show, [B], by the classifier or else by CLIP."""
        if not self.classifier:
            return self.zero_shot(pictures)
        classifier = self._frozen("AutoModelForImageClassification", self.classifier, device=pictures.device)
        return classifier(self._normal(pictures, pictures.shape[-1])).logits.argmax(-1)

    def zero_shot(self, pictures):
        """The label, [B], whose prompt by the first template CLIP finds most like each picture."""
        from torch.nn.functional import normalize

        prompts = self.embedded_prompts(pictures.device)[1 :: len(self.templates)]
        return (self.embedded(pictures) @ normalize(prompts, dim=-1).T).argmax(-1)

    def _normal(self, pictures, side):
        """Pictures in [0, 1] as the frozen models take them, ``side`` pixels wide."""
        from torch.nn.functional import interpolate

        if pictures.shape[-1] != side:
            pictures = interpolate(pictures, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = self._scale(pictures.device)
        return (pictures - mean) / std

    @cached_method
    def _scale(self, device):
        """The mean and the std of the pixels that the frozen models take, on a device."""
        return per_channel(self.pixels["mean"], self.pixels["std"], device)

    def _encoded(self, pixels):
        """Pictures as bytes, [B, H, W] or [B, H, W, 3], as what models draw: pixels in [-1, 1], or the mean of their
        latents.
        """
        import torch

        pictures = (pixels.unsqueeze(-1) if pixels.ndim == 3 else pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        if not self.autoencoder:
            return pictures
        vae = self._frozen("AutoencoderKL", self.autoencoder, "vae", fastest_device())
        with torch.no_grad():
            return vae.encode(pictures.to(vae.device)).latent_dist.mode().cpu() * vae.config.scaling_factor

    def _decoded(self, drawn):
        """What models draw as pictures in [0, 1]."""
        if self.autoencoder:
            vae = self._frozen("AutoencoderKL", self.autoencoder, "vae", drawn.device)
            drawn = vae.decode(drawn / vae.config.scaling_factor).sample
        return (drawn / 2 + 0.5).clamp(0, 1)
