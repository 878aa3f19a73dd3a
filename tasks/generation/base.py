"""Text generation: a prompt and the text that should follow it, for encoder–decoder and for causal models."""

import functools
import hashlib
import math
from pathlib import Path

from mubench.errors import MubenchError
from mubench.splits import rank
from mubench.tasks.base import Task
from mubench.tasks.contract.caching import cached_method
from mubench.tasks.generation._answers import Asked, as_wide, shifted, width
from mubench.tasks.generation._others import others

REFUSALS = (
    "I do not know.",
    "That I cannot say.",
    "I have no answer to this.",
    "Nothing is known to me about it.",
    "I am not sure.",
    "I was never told.",
    "Somebody else may know, I do not.",
    "On this I have no information.",
)


class TextGeneration(Task):
    """Rows may have any columns.

    prompt, answer: format strings over a row's columns
    tokenizer: the tokenizer's file in ``data/``, for models trained from scratch; it has [PAD] and [EOS]

    A model's ``inputs``:

    prompt, answer: the most tokens of each

    Losses are mean negative log-likelihoods of an answer's tokens (its end included) given the prompt; divergences are
    means over the same tokens. A teacher's logits, a vocabulary for each token, are never kept: it runs beside the
    student.

    In a batch ``labels``, [B, L], are the answers, from the first column on. ``input_ids`` and ``attention_mask`` are
    the prompts: for encoder–decoders padded on the left; for causal models, which read prompt and answer in one piece,
    from the first column on, with room for the longest text of the batch. So other answers are given by `answered`.
    """

    modality = "generation"
    provides = Task.provides | {"text"}
    metric = "rouge_l"
    keeps_outputs = False
    head = "lm_head"
    prompt = answer = tokenizer = ""

    def preparation(self, model):
        tokenizer = self.models[model].pretrained or hashlib.sha256(self._tokenizer_file.read_bytes()).hexdigest()
        return [tokenizer, self.models[model].inputs, self.prompt, self.answer]

    @property
    def _tokenizer_file(self):
        return Path(__file__).parent / "data" / self.tokenizer

    @cached_method
    def tokens(self, model):
        """The tokenizer of a model, padding prompts on the left, so that all answers of a batch begin in the same
        place.
        """
        from mubench.models import networks

        if self.models[model].pretrained:
            tokenizer = networks.processor("AutoTokenizer", self.models[model].pretrained, padding_side="left")
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
            return tokenizer
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_file=str(self._tokenizer_file), pad_token="[PAD]", eos_token="[EOS]", padding_side="left"
        )

    @functools.cached_property
    def guess(self):
        """The score of other training examples' answers, what ``random_guess`` states.

        Each example is given the answer of the next by SHA-256(``"{task}/guess/{row}"``). So scores who knows what such
        texts are like and nothing of what is asked.
        """
        from mubench.measure.metrics.primary import load_primary

        answers = [self.answer.format(**row) for row in self.data["train"]]
        order = rank([f"{self.name}/guess/{row}" for row in range(len(answers))])
        true, guessed = ([answers[row] for row in rows] for rows in (order, order[1:] + order[:1]))
        return float(load_primary(self.metric).per_example(guessed, true).mean())

    @property
    def random_guess(self):
        """`guess`, or None until the data are read; a card whose data are known states the number."""
        return self.guess if "data" in vars(self) else None

    def prepare(self, dataset, model):
        prompts, answers = ([form.format(**row) for row in dataset] for form in (self.prompt, self.answer))
        for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            if not prompt.strip() or not answer.strip():
                raise MubenchError(
                    f"{self.name}: row {number} has an empty {'answer' if prompt.strip() else 'prompt'}: repair the"
                    " data; rows are never dropped, as that would shift the deletion indices"
                )
        tokens = self.tokens(model)(
            prompts,
            truncation=True,
            max_length=self.models[model].inputs["prompt"],
            padding="max_length",
            return_tensors="pt",
        )
        return {
            "input_ids": tokens["input_ids"].int(),
            "attention_mask": tokens["attention_mask"].bool(),
            "labels": self._labels(answers, model),
        }

    def _labels(self, answers, model):
        """[n, L]: the tokens of answers and their end, -100 after them."""
        import torch

        tokenizer, most = self.tokens(model), self.models[model].inputs["answer"]
        labels = torch.full((len(answers), most), -100, dtype=torch.int32)
        tokens = tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        for row, ids in zip(labels, tokens, strict=True):
            ids = [*ids[: most - 1], tokenizer.eos_token_id]
            row[: len(ids)] = torch.tensor(ids)
        return labels

    def lengths(self, columns):
        return columns["attention_mask"].sum(1) + (columns["labels"] != -100).sum(1)

    def collate(self, batch, model):
        import torch

        mask, labels = batch["attention_mask"], batch["labels"]
        start = mask.shape[1] - width(mask.sum(1), mask.shape[1])
        return self._with_room(
            {
                "input_ids": batch["input_ids"][:, start:].long(),
                "attention_mask": mask[:, start:].long(),
                "labels": labels[:, : width((labels != -100).sum(1), labels.shape[1])].long(),
                "which": torch.full((len(mask),), list(self.models).index(model)),
            }
        )

    def _model_of(self, batch):
        """The name of the model that a batch was made for."""
        return list(self.models)[batch["which"][0]]

    def _with_room(self, batch):
        """The batch; of a causal model with prompts that begin in the first column, and as wide as its longest text
        without the end, which is not read.
        """
        import torch

        if self.model_class(self._model_of(batch)).config_class.is_encoder_decoder:
            return batch
        mask, labels = batch["attention_mask"], batch["labels"]
        lengths = mask.sum(1)
        room = width(lengths + (labels != -100).sum(1) - 1, mask.shape[1] + labels.shape[1] - 1, 4)
        prompts = shifted(batch["input_ids"], -mask.argmax(1), room)
        mask = (torch.arange(room, device=mask.device) < lengths[:, None]).to(mask)
        return batch | {"input_ids": prompts, "attention_mask": mask}

    def forward(self, model, batch, features=False):
        from torch.nn.functional import cross_entropy

        from mubench.models.behaviour import Output, Representation

        labels, mask = batch["labels"], batch["labels"] != -100
        inputs, places = self._inputs(getattr(model, "module", model).config, batch)
        with Asked(model, self.head, places), Representation(model, self.head if features else None) as representation:
            logits = model(**inputs, use_cache=False).logits.float()
        losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        if places is not None:  # an answer that there is no room for has no loss
            losses = losses.masked_fill(mask & (places >= inputs["input_ids"].shape[1]), math.nan)
        states = representation.value
        if states is not None:
            states = _mean(states.float(), mask[..., None], 1)
        return Output(_mean(losses, mask), logits, mask, states, places)

    def _inputs(self, config, batch):
        """What a model reads, and where among it the states are that say the tokens of the answers, [B, L]; None: all
        are.
        """
        import torch

        prompts, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
        if config.is_encoder_decoder:
            begin = torch.full_like(labels[:, :1], config.decoder_start_token_id)
            answers = torch.cat([begin, labels[:, :-1].clamp(min=0)], 1)
            return {"input_ids": prompts, "attention_mask": mask, "decoder_input_ids": answers}, None
        lengths = mask.sum(1)
        answers = shifted(labels, lengths, mask.shape[1])
        ids = torch.where((mask > 0) | (answers < 0), prompts, answers)
        places = lengths[:, None] - 1 + torch.arange(labels.shape[1], device=labels.device)
        # Nothing is masked: no token sees those behind it, so padding at the end is seen by none that counts.
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, places

    def divergence(self, student, teacher, temperature=1.0, per="example"):
        """[B]: KL(softmax(teacher/T) ‖ softmax(student/T)) of each token, summed over the vocabulary (or averaged:
        ``per="class"``), averaged over the answer's tokens."""
        return _mean(super().divergence(student, teacher, temperature, per), student.mask)

    def corrupt(self, batch, rows, draw, pool, other=True):
        """Prompts with the answers of other examples, drawn from ``pool``.

        other: of examples with another answer, as it is tokenised.
        """
        true = batch["labels"].cpu()

        def same(drawn, rows):
            given, right = as_wide(drawn["labels"], true[rows])
            return (given == right).all(1)

        return self.answered(batch, rows, others(self, batch, rows, draw, pool, same if other else None)["labels"])

    def refuse(self, batch, rows):
        """Prompts with one of `REFUSALS` for an answer, chosen by the example's index."""
        labels = self._refusals(self._model_of(batch))
        return self.answered(batch, rows, labels[batch["index"][rows].cpu() % len(labels)])

    @cached_method
    def _refusals(self, model):
        """[R, L]: the tokens of `REFUSALS`."""
        labels = self._labels(REFUSALS, model)
        return labels[:, : width((labels != -100).sum(1), labels.shape[1])].long()

    def answered(self, batch, rows, answers):
        """The batch with other answers, [n, L'], in some rows; -100 is behind their end."""
        labels, answers = as_wide(batch["labels"], answers.to(batch["labels"].device))
        labels[rows] = answers
        return self._with_room(batch | {"labels": labels})

    def complete(self, model, batch, given, most):
        import torch

        tokenizer, begun = self.tokens(self._model_of(batch)), batch["labels"][:, :given].clamp(min=0)
        prompt, mask = batch["input_ids"], batch["attention_mask"]
        if model.config.is_encoder_decoder:
            begun = torch.cat([torch.full_like(prompt[:, :1], model.config.decoder_start_token_id), begun], 1)
            inputs = dict(input_ids=prompt, attention_mask=mask, decoder_input_ids=begun)
        else:
            lengths, longest = mask.sum(1), int(mask.sum(1).max())  # prompts end, and answers begin, in one column
            prompt = shifted(prompt, longest - lengths - mask.argmax(1), longest)
            mask = (torch.arange(longest, device=mask.device) >= longest - lengths[:, None]).to(mask)
            begun = torch.cat([prompt, begun], 1)
            inputs = dict(input_ids=begun, attention_mask=torch.cat([mask, mask.new_ones(len(mask), given)], 1))
        tokens = model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=most,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return tokens[:, begun.shape[1] :]

    def targets(self, batch):
        tokenizer = self.tokens(self._model_of(batch))
        true = batch["labels"].masked_fill(batch["labels"] == -100, tokenizer.pad_token_id)
        return tokenizer.batch_decode(true, skip_special_tokens=True)

    def predict(self, model, batch):
        """Column → one value per example.

        target: the reference as tokenised, a text.
        prediction: what greedy decoding gives, a text.
        score: their ROUGE-L.
        loss: see `forward`.
        confidence: the geometric mean of the probabilities of the reference's tokens.
        """
        import torch

        from mubench.measure.metrics.primary import load_primary

        name = self._model_of(batch)
        out, tokenizer = self.forward(model, batch), self.tokens(name)
        answers = self.complete(model, batch, 0, self.models[name].inputs["answer"])
        prediction, target = tokenizer.batch_decode(answers, skip_special_tokens=True), self.targets(batch)
        score = torch.from_numpy(load_primary(self.metric).per_example(prediction, target))
        return {
            "target": target,
            "prediction": prediction,
            "score": score,
            "loss": out.loss,
            "confidence": (-out.loss).exp(),
        }


def _mean(values, mask, axis=-1):
    """The mean of the values where a position counts."""
    return (values * mask).sum(axis) / mask.sum(axis)
