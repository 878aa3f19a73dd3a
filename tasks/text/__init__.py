"""Text classification: tokenised once, padded to the longest text of a batch."""
import hashlib
from pathlib import Path

from mubench.tasks.base import Task


class TextClassification(Task):
    """``tokenizer``: the tokenizer's file next to the data card (models trained from scratch); ``markers``: what in a text is a
    token of its own, as ``[E1]``; a model's ``inputs``: ``length``, the most tokens of a text."""

    modality = "text"
    tokenizer = ""
    markers: tuple = ()

    def preparation(self, model):
        return [self.models[model].inputs, hashlib.sha256(self._tokenizer_file.read_bytes()).hexdigest()]

    @property
    def _tokenizer_file(self):
        return Path(__file__).parent / "data" / self.tokenizer

    def prepare(self, dataset, model):
        import torch
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(self._tokenizer_file), pad_token="[PAD]")
        tokens = tokenizer(list(dataset["text"]), truncation=True, max_length=self.models[model].inputs["length"],
                           padding="max_length", return_tensors="pt")
        return {"input_ids": tokens["input_ids"].int(), "attention_mask": tokens["attention_mask"].bool(),
                "labels": torch.tensor(dataset["label"])}

    def collate(self, batch, model):
        longest = int(batch["attention_mask"].sum(1).max())
        width = -(-longest // 8) * 8  # multiples of 8: few distinct shapes
        return {"input_ids": batch["input_ids"][:, :width].long(), "attention_mask": batch["attention_mask"][:, :width].long(),
                "labels": batch["labels"]}
