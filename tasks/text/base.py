"""Text classification: tokenised once, padded to the longest text of a batch."""

import hashlib
import json
import threading
from pathlib import Path

from mubench.cache import file_hash
from mubench.importing import importing
from mubench.models import networks
from mubench.tasks.base import Task
from mubench.tasks.contract.caching import cached_method

_TOKENIZING = threading.Lock()  # a tokenizer is told how to cut and to pad before it is used: no two threads at once


class Tokenized:
    """A modality with texts.

    tokenizer: the tokenizer's file in ``data/`` of the modality's folder, for models trained from scratch; a pretrained
        model has its own
    """

    tokenizer = ""

    @property
    def _tokenizer_file(self):
        return Path(__file__).parent.parent / self.modality / "data" / self.tokenizer

    def tokens(self, model):
        """The tokenizer of a model, of `transformers`."""
        if source := self.models[model].pretrained:
            return networks.processor("AutoTokenizer", source)
        return self._shipped_tokenizer()

    @cached_method
    def _shipped_tokenizer(self):
        with importing():
            from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(tokenizer_file=str(self._tokenizer_file), pad_token="[PAD]")

    def tokenized(self, texts, model, **options):
        """Texts as the tokenizer of a model gives them, in tensors; ``options``: how to cut and to pad them."""
        with _TOKENIZING:
            return self.tokens(model)(list(texts), truncation=True, return_tensors="pt", **options)

    def tokens_hash(self, model):
        """What changes when the tokens of a text do; a tokenizer that is shipped is not even read for it."""
        if not self.models[model].pretrained:
            return file_hash(self._tokenizer_file)
        description = json.loads(self.tokens(model).backend_tokenizer.to_str())
        del description["truncation"], description["padding"]  # how it was last called
        return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


class TextClassification(Tokenized, Task):
    """Rows have ``text`` and ``label``.

    markers: what in a text is a token of its own, as ``[E1]``

    A model's ``inputs``:

    length: the most tokens of a text
    """

    modality = "text"
    markers: tuple = ()

    def preparation(self, model):
        return [self.models[model].inputs, self.tokens_hash(model)]

    def prepare(self, dataset, model):
        import torch

        length = self.models[model].inputs["length"]
        tokens = self.tokenized(dataset["text"], model, max_length=length, padding="max_length")
        return {
            "input_ids": tokens["input_ids"].int(),
            "attention_mask": tokens["attention_mask"].bool(),
            "labels": torch.tensor(dataset["label"]),
        }

    def lengths(self, columns):
        return columns["attention_mask"].sum(1)

    def collate(self, batch, model):
        longest = int(batch["attention_mask"].sum(1).max())
        width = -(-longest // 8) * 8  # multiples of 8: few distinct shapes
        return {
            "input_ids": batch["input_ids"][:, :width].long(),
            "attention_mask": batch["attention_mask"][:, :width].long(),
            "labels": batch["labels"],
        }
