"""Sentences about pairs of pictures: small pictures kept as bytes and normalised in the batch, large ones left to the
processor.
"""

from mubench.models import networks
from mubench.models.pixels import pixel_range
from mubench.tasks.base import Task
from mubench.tasks.text import Tokenized

TEXT = ("input_ids", "attention_mask", "token_type_ids")


class PairClassification(Tokenized, Task):
    """Rows have ``left`` and ``right``, pictures, ``text`` and ``label``.

    A model's ``inputs``:

    length: the most tokens of a text
    size: the side pictures are padded to; of models trained from scratch only
    mean, std: of their pixels (in [0, 1]); of models trained from scratch only
    """

    modality = "vision_language"
    provides = Task.provides | {"pairs", "pixels"}
    resident = ("pixels", "pixel_values", "pixel_mask", "labels")

    def preparation(self, model):
        return [self.models[model].inputs.get("size"), self.tokens_hash(model)]

    def pairs(self, dataset):
        """The pictures of all rows, the left and the right one of each in turn."""
        return [picture for pair in zip(dataset["left"], dataset["right"], strict=True) for picture in pair]

    def prepare(self, dataset, model):
        import torch

        inputs, pictures = self.models[model].inputs, self.pairs(dataset)
        tokens = self.tokenized(dataset["text"], model, max_length=inputs["length"], padding=True)
        pixels = (
            self._processed(pictures, model) if self.models[model].pretrained else _padded(pictures, inputs["size"])
        )
        return {
            **{name: values.unflatten(0, (-1, 2)) for name, values in pixels.items()},
            "input_ids": tokens["input_ids"].int(),
            "attention_mask": tokens["attention_mask"].bool(),
            "labels": torch.tensor(dataset["label"]),
        }

    def _processed(self, pictures, model):
        return networks.processor("AutoImageProcessor", self.models[model].pretrained)(pictures, return_tensors="pt")

    def collate(self, batch, model):
        inputs, batch = self.models[model].inputs, dict(batch)
        if "pixels" in batch:
            batch["pixel_values"] = (batch.pop("pixels").float() / 255 - inputs["mean"]) / inputs["std"]
        return batch | {name: batch[name].long() for name in ("input_ids", "attention_mask")}

    def input_range(self, model):
        declared = self.models[model]
        if not declared.pretrained:
            return pixel_range(declared.inputs["mean"], declared.inputs["std"])
        processor = networks.processor("AutoImageProcessor", declared.pretrained)
        return pixel_range(processor.image_mean, processor.image_std)

    def paired(self, batch, order):
        """The batch's pictures with its texts in another order."""
        return batch | {name: batch[name][order] for name in TEXT if name in batch}

    def one_input(self, batch, what):
        """The batch with one of its two inputs.

        what: ``pictures`` (the text but for its first token is masked) or ``text`` (the pictures are grey).
        """
        import torch

        if what == "text":
            return batch | {"pixel_values": torch.zeros_like(batch["pixel_values"])}
        first = torch.arange(batch["attention_mask"].shape[1], device=batch["attention_mask"].device) == 0
        return batch | {"attention_mask": batch["attention_mask"] * first}

    def forward(self, model, batch, features=False):
        import torch

        # ViLT takes the patches in random order, which changes last bits: the same order every time.
        device = batch["labels"].device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            return super().forward(model, batch, features)


def _padded(pictures, size):
    """Grey pictures as bytes, in the middle of a square of that side."""
    import numpy as np
    import torch
    from torch.nn.functional import pad

    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return {"pixels": pad(pixels, [(size - pixels.shape[-1]) // 2] * 4).unsqueeze(1)}
