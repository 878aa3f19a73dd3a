"""Text-to-image generation: diffusion models of pictures or of their latents, told what to draw by a frozen text
encoder.
"""

import functools
import hashlib
from pathlib import Path

from mubench.tasks.base import Task


class ImageGeneration(Task):
    """Rows have ``image``, ``text``, the prompt, and ``label``, what it asks for; a prompt is one of ``templates`` with
    one of the labels.

    Frozen, and never unlearned: ``encoder``, the CLIP text encoder that models listen to; ``autoencoder``, where models
    draw latents instead of pixels; ``clip``, which scores how well a picture fits its prompt, and ``classifier``, which
    says what it shows (without
    one: CLIP, of the prompts by the first template). Each is a hub id, or a folder in ``data/``. ``colour``: of the
    pictures (``RGB``,
    or ``L``: grey), ``pixels``: their mean and std as clip and classifier see them. ``noise``: the options of the
    `diffusers` scheduler;
    ``guidance``, ``steps``: of drawing; ``dropped``: the share of prompts that training replaces by the empty one,
    which is what guidance turns away from; ``levels``: the noise levels that a loss is averaged over in evaluation, as
    shares of the way to pure noise.

    An example's loss is the mean squared error of the noise a model predicts; so is the divergence between two models'
    predictions, and its ``temperature`` divides them as it does logits. Noise depends on the seed and the example
    alone. A representation is what leaves the middle block, averaged over positions.
    """

    modality = "generation"
    provides = Task.provides - {"classes"}  # a prediction of noise is no logit
    metric = "clip_score"
    provides = frozenset({"loss", "logit", "rep", "labels", "prompts"})
    also = ("accuracy",)
    keeps_outputs = False
    templates: tuple = ()
    encoder = autoencoder = clip = classifier = ""
    colour = "RGB"
    pixels: dict = dict(
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
    )  # of OpenAI's CLIP
    noise: dict = {}
    guidance, steps, dropped = 7.5, 25, 0.1
    levels = tuple(
        0.2 + 0.05 * step for step in range(8)
    )  # where a picture shows through: members differ from others most
    head_options: dict = {}  # a model that draws has no head for labels

    @property
    def features(self):
        """The types of the columns, pictures as the bytes of their files."""
        from datasets import ClassLabel, Features, Image, Value

        return Features(image=Image(), text=Value("string"), label=ClassLabel(names=list(self.labels)))

    def fetch_model(self, model):
        """And what is frozen, where it comes from elsewhere."""
        from mubench.models import networks

        others = [name for name in (self.clip, self.classifier) if name and _source(name) == name]
        for name in others:
            networks.download(name)
        return [*super().fetch_model(model), *others]

    # -- data --------------------------------------------------------------------------------------------------------

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
        latents = [
            self._encoded(
                torch.from_numpy(np.stack([np.asarray(picture.convert(self.colour)) for picture in rows["image"]]))
            )
            for rows in dataset.select_columns("image").iter(64)
        ]
        return {
            "latents": torch.cat(latents),
            "prompt": torch.tensor([numbers[text] for text in dataset["text"]]),
            "labels": torch.tensor(dataset["label"]),
        }

    def sets(self, model, split, limit=None):
        self.texts("cpu")  # encoded before any clock runs
        return super().sets(model, split, limit)

    def drawn(self, batch, seed):
        """With ``noise`` [B, 1, …] and ``timesteps`` [B, 1], and some prompts dropped."""
        import torch

        draws = [_generator(seed, index) for index in batch["index"].tolist()]
        shape, levels = batch["latents"].shape[1:], self._scheduler.config.num_train_timesteps
        kept = torch.tensor([float(torch.rand((), generator=g)) >= self.dropped for g in draws])
        times = torch.stack([torch.randint(levels, (1,), generator=g) for g in draws])
        noise = torch.stack([torch.randn(1, *shape, generator=g) for g in draws])
        return batch | {"prompt": batch["prompt"] * kept, "timesteps": times, "noise": noise}

    def _examined(self, batch):
        """The batch with the noise of evaluation: the same for every model."""
        import torch

        latents, most = batch["latents"], self._scheduler.config.num_train_timesteps
        noise = torch.stack(
            [
                torch.randn(len(self.levels), *latents.shape[1:], generator=_generator("evaluation", index))
                for index in batch["index"].tolist()
            ]
        )
        times = torch.tensor([round(level * most) for level in self.levels]).expand(len(latents), -1)
        return batch | {"noise": noise.to(latents.device), "timesteps": times.to(latents.device)}

    def sample(self, folder):
        """With tiny stand-ins of the frozen models too, and few pictures to draw."""
        import torch
        from diffusers import AutoencoderKL
        from transformers import CLIPTextModel

        from mubench.models import networks
        from mubench.tasks.generation._scorers import make_clip, make_tokenizer

        twin, folder = super().sample(folder), Path(folder) / "frozen"
        tokenizer = make_tokenizer(self.prompts)
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
        twin.encoder = twin.autoencoder = str(folder)
        twin.clip, twin.steps, twin.measured = str(folder / "clip"), 2, dict.fromkeys(self.measured, 8)
        return twin

    # -- behaviour ---------------------------------------------------------------------------------------------------

    def forward(self, model, batch, features=False):
        from mubench.models.behaviour import Output, Representation

        batch = batch if "noise" in batch else self._examined(batch)
        noise, times = batch["noise"], batch["timesteps"]
        count, levels = times.shape
        noisy = self._scheduler.add_noise(
            batch["latents"].repeat_interleave(levels, 0), noise.flatten(0, 1), times.flatten()
        )
        texts = self.texts(noise.device)[batch["prompt"]].repeat_interleave(levels, 0)
        with Representation(model, "mid_block" if features else None, leaving=True) as representation:
            predicted = (
                model(noisy, times.flatten(), encoder_hidden_states=texts).sample.float().unflatten(0, (count, levels))
            )
        states = representation.value
        if states is not None:
            states = states.float().mean((2, 3)).unflatten(0, (count, levels)).mean(1)
        return Output((predicted - noise).square().flatten(1).mean(1), predicted, None, states)

    def divergence(self, student, teacher, temperature=1.0, per="example"):
        """[B]: mean squared difference of the predicted noise, divided by T²."""
        return ((student.logits - teacher.logits) / temperature).square().flatten(1).mean(1)

    def corrupt(self, batch, rows, draw, pool, other=True):
        """Prompts with the pictures of other examples, drawn from ``pool``; ``other``: that show something else, if
        there are such.
        """
        at, mine = (draw.cpu() * len(pool)).long(), batch["labels"].cpu()[rows]
        theirs = pool[at]
        for _ in range(100 if other else 0):
            same = theirs["labels"] == mine
            if not same.any():
                break
            at = (at + same * 1009) % len(pool)  # further than the next row, which often shows the same
            theirs = pool[at]
        latents = batch["latents"].clone()
        latents[rows] = theirs["latents"].to(latents.device)
        return batch | {"latents": latents}

    def asked(self, batch, what):
        """The batch with other prompts: ``nothing``, the empty one, or ``next``, the same template with the label after
        each one's own.
        """
        import torch

        prompt, kinds = batch["prompt"], len(self.templates)
        if what == "nothing":
            return batch | {"prompt": torch.zeros_like(prompt)}
        return batch | {"prompt": torch.where(prompt > 0, (prompt - 1 + kinds) % (len(self.prompts) - 1) + 1, prompt)}

    @functools.cache
    def concepts(self, device):
        """[prompts, tokens]: true at the tokens that name a prompt's label (in which it differs from the next label's
        by the same template).
        """
        import torch

        ids = self._tokens(*([self.encoder, "tokenizer"] if self.autoencoder else [self.encoder]))
        after = self.asked({"prompt": torch.arange(len(ids))}, "next")["prompt"]
        ends = (ids == ids[0, 1]).int().argmax(1, keepdim=True)  # the empty prompt: begin, end
        return ((ids != ids[after]) & (torch.arange(ids.shape[1]) < ends)).to(device)

    def predict(self, model, batch):
        """``target``: what is asked for, ``prediction``: what the classifier sees in the one picture drawn, ``score``:
        its CLIP score;
        ``loss``: the error of the predicted noise, ``confidence``: exp(-loss), the one confidence that depends on the
        real picture."""
        import torch

        from mubench.measure.metrics.primary import load_primary

        with torch.no_grad():
            out, pictures = self.forward(model, batch), self.draw(model, batch)
            seen, said = self.embedded(pictures), self._said(pictures.device)[batch["prompt"]]
        score = torch.from_numpy(
            load_primary(self.metric).per_example(seen.cpu().double().numpy(), said.cpu().double().numpy())
        )
        return {
            "target": self.targets(batch),
            "prediction": self.classified(pictures),
            "score": score,
            "loss": out.loss,
            "confidence": (-out.loss).exp(),
        }

    def draw(self, model, batch):
        """One picture for each prompt, [B, C, H, W] in [0, 1]: DDIM with classifier-free guidance, from noise that the
        example decides.
        """
        import torch
        from diffusers import DDIMScheduler

        latents = batch["latents"]
        drawing = torch.stack(
            [
                torch.randn(latents.shape[1:], generator=_generator("picture", index))
                for index in batch["index"].tolist()
            ]
        )
        drawing, texts = drawing.to(latents.device), self.texts(latents.device)
        told = torch.cat([texts[:1].expand(len(latents), -1, -1), texts[batch["prompt"]]])
        scheduler = DDIMScheduler(**self.noise)
        scheduler.set_timesteps(self.steps)
        for time in scheduler.timesteps:
            free, asked = model(torch.cat([drawing, drawing]), time, encoder_hidden_states=told).sample.float().chunk(2)
            drawing = scheduler.step(free + self.guidance * (asked - free), time, drawing).prev_sample
        return self._decoded(drawing)

    def exhibits(self, before, after, sets, most=20):
        """``pictures.png``: of prompts of the forget set, the real picture, the original's and the unlearned
        model's.
        """
        import torch

        batch = sets["forget"][torch.arange(min(most, len(sets["forget"])))]
        rows = {"real": self._decoded(batch["latents"])}
        for name, model in (("original", before()), ("unlearned", after)):
            device, training = next(model.parameters()).device, model.training
            with torch.no_grad():
                rows[name] = self.draw(model.eval(), {k: v.to(device) for k, v in batch.items()}).cpu()
            model.train(training)
        return {"pictures.png": contact_sheet(rows, [self.prompts[number] for number in batch["prompt"]])}

    @property
    def random_guess(self):
        """Measured on the data, `guess`, where a card does not state it; None until they are read."""
        return self.guess if "data" in vars(self) else None

    @functools.cached_property
    def guess(self):
        """The CLIP score of the test prompts with real pictures of other examples, exactly: the mean over all pairs of
        those that are scored, validation rows among them. So scores who draws well and nothing of what is asked."""
        import torch
        from torch.nn.functional import normalize

        view = self.scored({"test": self.prepared(self.model(), "test")})["test"]
        with torch.no_grad():
            seen = torch.cat(
                [
                    self.embedded(self._decoded(view[some]["latents"].to(_best()))).cpu()
                    for some in torch.arange(len(view)).split(64)
                ]
            )
        said = self._said("cpu")[view[torch.arange(len(view))]["prompt"]]
        pairs = (normalize(said.double(), dim=-1) @ normalize(seen.double(), dim=-1).T).clamp(min=0)
        return ((pairs.sum() - pairs.diag().sum()) / (len(pairs) * (len(pairs) - 1))).item()

    # -- frozen models -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def _scheduler(self):
        from diffusers import DDIMScheduler

        return DDIMScheduler(**self.noise)

    @functools.cache
    def _frozen(self, architecture, source, part="", device="cpu"):
        """A frozen model of a hub id (``part``: its folder there), or of a folder in ``data/``."""
        from mubench.models import networks

        model = networks.pretrained(networks.model_class(architecture), _source(source), part)
        return model.to(device).eval().requires_grad_(False)

    def _tokens(self, source, part=""):
        from mubench.models import networks

        tokenizer = networks.processor("AutoTokenizer", _source(source), subfolder=part)
        return tokenizer(self.prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids

    @functools.cache
    def texts(self, device):
        """What models are told of each of the prompts: [prompts, tokens, channels]."""
        import torch

        if self.autoencoder:
            encoder, tokens = (
                self._frozen("CLIPTextModel", self.encoder, "text_encoder"),
                self._tokens(self.encoder, "tokenizer"),
            )
        else:
            encoder, tokens = self._frozen("CLIPModel", self.encoder).text_model, self._tokens(self.encoder)
        with torch.no_grad():
            return encoder(tokens).last_hidden_state.to(device)

    @functools.cache
    def _said(self, device):
        """The prompts as the scoring CLIP sees them: [prompts, D]."""
        import torch

        clip = self._frozen("CLIPModel", self.clip)
        with torch.no_grad():
            return clip.text_projection(clip.text_model(self._tokens(self.clip)).pooler_output).to(device)

    def embedded(self, pictures):
        """Pictures in [0, 1] as the scoring CLIP sees them: [B, D]."""
        clip = self._frozen("CLIPModel", self.clip, device=pictures.device)
        return clip.visual_projection(
            clip.vision_model(self._normal(pictures, clip.config.vision_config.image_size)).pooler_output
        )

    def classified(self, pictures):
        """What pictures in [0, 1] show, [B], by the classifier or else by CLIP."""
        if not self.classifier:
            return self.zero_shot(pictures)
        classifier = self._frozen("AutoModelForImageClassification", self.classifier, device=pictures.device)
        return classifier(self._normal(pictures, pictures.shape[-1])).logits.argmax(-1)

    def zero_shot(self, pictures):
        """The label, [B], whose prompt by the first template CLIP finds most like each picture."""
        from torch.nn.functional import normalize

        said = self._said(pictures.device)[1 :: len(self.templates)]
        return (self.embedded(pictures) @ normalize(said, dim=-1).T).argmax(-1)

    def _normal(self, pictures, side):
        import torch
        from torch.nn.functional import interpolate

        if pictures.shape[-1] != side:
            pictures = interpolate(pictures, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(self.pixels[k], device=pictures.device).reshape(-1, 1, 1) for k in ("mean", "std"))
        return (pictures - mean) / std

    def _encoded(self, pixels):
        """Pictures as bytes, [B, H, W] or [B, H, W, 3], as what models draw: pixels in [-1, 1], or the mean of their
        latents.
        """
        import torch

        pictures = (pixels.unsqueeze(-1) if pixels.ndim == 3 else pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        if not self.autoencoder:
            return pictures
        vae = self._frozen("AutoencoderKL", self.autoencoder, "vae", _best())
        with torch.no_grad():
            return vae.encode(pictures.to(vae.device)).latent_dist.mode().cpu() * vae.config.scaling_factor

    def _decoded(self, drawn):
        """What models draw as pictures in [0, 1]."""
        if self.autoencoder:
            vae = self._frozen("AutoencoderKL", self.autoencoder, "vae", drawn.device)
            drawn = vae.decode(drawn / vae.config.scaling_factor).sample
        return (drawn / 2 + 0.5).clamp(0, 1)


def contact_sheet(rows, captions, cell=88, across=10):
    """A PNG: ``rows`` (name → pictures [N, C, H, W] in [0, 1]) below each other under their captions, ``across`` side
    by side.
    """
    import io
    import textwrap

    from PIL import Image, ImageDraw, ImageFont

    font, gap, head = ImageFont.load_default(), 4, 40
    captions = [textwrap.fill(caption, 14) for caption in captions]
    bands = [range(start, min(start + across, len(captions))) for start in range(0, len(captions), across)]
    high = head + len(rows) * (cell + gap)
    sheet = Image.new("RGB", (70 + len(bands[0]) * (cell + gap), len(bands) * high), "white")
    draw = ImageDraw.Draw(sheet)
    for band, columns in enumerate(bands):
        for line, (name, pictures) in enumerate(rows.items()):
            y = band * high + head + line * (cell + gap)
            draw.text((4, y + cell / 2 - 6), name, "black", font)
            for column, number in enumerate(columns):
                x = 70 + column * (cell + gap)
                pixels = (pictures[number] * 255).round().byte().permute(1, 2, 0).squeeze(-1).cpu().numpy()
                sheet.paste(Image.fromarray(pixels).resize((cell, cell), Image.Resampling.NEAREST), (x, y))
                if not line:
                    draw.multiline_text((x, band * high + 2), captions[number], "black", font, spacing=0)
    png = io.BytesIO()
    sheet.save(png, "PNG")
    return png.getvalue()


def _generator(seed, index):
    """Draws that depend on a seed and on an example alone."""
    import torch

    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _source(name):
    folder = Path(__file__).parent / "data" / name
    return str(folder) if folder.is_dir() else name


def _best():
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
