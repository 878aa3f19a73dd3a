"""Sentences about pairs of pictures: pictures kept as bytes, normalised in the batch."""
import hashlib
from pathlib import Path

from mubench.tasks.base import Task


class PairClassification(Task):
    """Rows have ``left`` and ``right``, pictures, and ``text``. ``tokenizer``: the tokenizer's file next to the data card; a
    model's ``inputs``: ``size``, the side pictures are padded to, ``mean`` and ``std`` of their pixels (in [0, 1])."""

    modality = "vision_language"
    tokenizer = ""

    def preparation(self, model):
        return [self.models[model].inputs["size"], hashlib.sha256(self._tokenizer_file.read_bytes()).hexdigest()]

    @property
    def _tokenizer_file(self):
        return Path(__file__).parent / "data" / self.tokenizer

    def prepare(self, dataset, model):
        import numpy as np
        import torch
        from torch.nn.functional import pad
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(self._tokenizer_file), pad_token="[PAD]")
        tokens = tokenizer(list(dataset["text"]), padding=True, return_tensors="pt")
        pixels = torch.from_numpy(np.stack([[np.asarray(picture) for picture in dataset[side]] for side in ("left", "right")], 1))
        around = (self.models[model].inputs["size"] - pixels.shape[-1]) // 2
        return {"pixels": pad(pixels, [around] * 4).unsqueeze(2), "input_ids": tokens["input_ids"].int(),
                "attention_mask": tokens["attention_mask"].bool(), "labels": torch.tensor(dataset["label"])}

    def collate(self, batch, model):
        inputs = self.models[model].inputs
        return {"input_ids": batch["input_ids"].long(), "attention_mask": batch["attention_mask"].long(),
                "pixel_values": (batch["pixels"].float() / 255 - inputs["mean"]) / inputs["std"], "labels": batch["labels"]}

    def forward(self, model, batch, features=False):
        import torch

        # ViLT takes the patches in random order, which changes last bits: the same order every time.
        with torch.random.fork_rng(devices=[] if batch["labels"].device.type == "cpu" else [batch["labels"].device]):
            torch.manual_seed(0)
            return super().forward(model, batch, features)
