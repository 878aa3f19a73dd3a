"""Text classification: tokenised once, padded to the longest text of a batch."""

import functools
import hashlib
import json
from pathlib import Path

from mubench.models import networks
from mubench.tasks.base import Task


class Tokenized:
    """A modality with texts. ``tokenizer``: the tokenizer's file in ``data/`` of the modality's folder, for models
    trained from scratch; a pretrained model has its own."""

    tokenizer = ""

    @property
    def _tokenizer_file(self):
        return Path(__file__).parent.parent / self.modality / "data" / self.tokenizer

    def tokens(self, model):
        """The tokenizer of a model, of `transformers`."""
        if source := self.models[model].pretrained:
            return networks.processor("AutoTokenizer", source)
        return _of_file(self._tokenizer_file)

    def tokens_hash(self, model):
        """What changes when the tokens of a text do."""
        said = json.loads(self.tokens(model).backend_tokenizer.to_str())
        del said["truncation"], said["padding"]  # how it was last called
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@functools.lru_cache(maxsize=8)
def _of_file(path):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token="[PAD]")


class TextClassification(Tokenized, Task):
    """``markers``: what in a text is a token of its own, as ``[E1]``; a model's ``inputs``: ``length``, the most tokens
    of a text.
    """

    modality = "text"
    markers: tuple = ()

    def preparation(self, model):
        return [self.models[model].inputs, self.tokens_hash(model)]

    def prepare(self, dataset, model):
        import torch

        tokens = self.tokens(model)(
            list(dataset["text"]),
            truncation=True,
            max_length=self.models[model].inputs["length"],
            padding="max_length",
            return_tensors="pt",
        )
        return {
            "input_ids": tokens["input_ids"].int(),
            "attention_mask": tokens["attention_mask"].bool(),
            "labels": torch.tensor(dataset["label"]),
        }

    def collate(self, batch, model):
        longest = int(batch["attention_mask"].sum(1).max())
        width = -(-longest // 8) * 8  # multiples of 8: few distinct shapes
        return {
            "input_ids": batch["input_ids"][:, :width].long(),
            "attention_mask": batch["attention_mask"][:, :width].long(),
            "labels": batch["labels"],
        }
