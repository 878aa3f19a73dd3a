"""Text generation: a prompt and the text that should follow it, for encoder–decoder and for causal models."""

import functools
import hashlib
from pathlib import Path

from mubench.errors import MubenchError
from mubench.splits import rank
from mubench.tasks.base import Task

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
    """``prompt``, ``answer``: format strings over a row's columns. ``tokenizer``: the tokenizer's file next to the data
    card (models trained from scratch; it has [PAD] and [EOS]); a model's ``inputs``: ``prompt`` and ``answer``, the
    most tokens of each.

    Losses are mean negative log-likelihoods of an answer's tokens (its end included) given the prompt; divergences are
    means over the same tokens. A teacher's logits, a vocabulary for each token, are never kept: it runs beside the
    student.
    """

    modality = "generation"
    provides = Task.provides | {"text"}
    metric = "rouge_l"
    keeps_outputs = False
    head = "lm_head"
    prompt = answer = tokenizer = ""

    def preparation(self, model):
        said = self.models[model].pretrained or hashlib.sha256(self._tokenizer_file.read_bytes()).hexdigest()
        return [said, self.models[model].inputs, self.prompt, self.answer]

    @property
    def _tokenizer_file(self):
        return Path(__file__).parent / "data" / self.tokenizer

    @functools.cache
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
        """The score of other training examples' answers: each example is given that of the next by
        SHA-256(``"{task}/guess/{row}"``). So scores who knows what such texts are like and nothing of what is asked;
        what ``random_guess`` states."""
        from mubench.measure.metrics.primary import load_primary

        answers = [self.answer.format(**row) for row in self.data["train"]]
        order = rank([f"{self.name}/guess/{row}" for row in range(len(answers))])
        true, said = ([answers[row] for row in rows] for rows in (order, order[1:] + order[:1]))
        return float(load_primary(self.metric).per_example(said, true).mean())

    @property
    def random_guess(self):
        """`guess`, or None until the data are read; a card whose data are known states the number."""
        return self.guess if "data" in vars(self) else None

    def prepare(self, dataset, model):
        prompts, answers = ([form.format(**row) for row in dataset] for form in (self.prompt, self.answer))
        for number, (prompt, answer) in enumerate(zip(prompts, answers)):
            if not prompt.strip() or not answer.strip():
                raise MubenchError(
                    f"{self.name}: row {number} has an empty {'answer' if prompt.strip() else 'prompt'}: repair the"
                    " data; rows are never dropped, as that would shift the deletion indices"
                )
        given = self.tokens(model)(
            prompts,
            truncation=True,
            max_length=self.models[model].inputs["prompt"],
            padding="max_length",
            return_tensors="pt",
        )
        return {
            "input_ids": given["input_ids"].int(),
            "attention_mask": given["attention_mask"].bool(),
            "labels": self._labels(answers, model),
        }

    def _labels(self, answers, model):
        """[n, L]: the tokens of answers and their end, -100 after them."""
        import torch

        tokenizer, most = self.tokens(model), self.models[model].inputs["answer"]
        labels = torch.full((len(answers), most), -100, dtype=torch.int32)
        for row, ids in zip(labels, tokenizer(list(answers), add_special_tokens=False)["input_ids"]):
            ids = [*ids[: most - 1], tokenizer.eos_token_id]
            row[: len(ids)] = torch.tensor(ids)
        return labels

    def collate(self, batch, model):
        import torch

        mask, labels = batch["attention_mask"], batch["labels"]
        start = mask.shape[1] - _width(mask)
        return {
            "input_ids": batch["input_ids"][:, start:].long(),
            "attention_mask": mask[:, start:].long(),
            "labels": labels[:, : _width(labels != -100)].long(),
            "which": torch.full((len(mask),), list(self.models).index(model)),
        }

    def forward(self, model, batch, features=False):
        import torch
        from torch.nn.functional import cross_entropy

        from mubench.models.behaviour import Output, Representation

        labels, mask, config = batch["labels"], batch["labels"] != -100, getattr(model, "module", model).config
        answer = labels.clamp(min=0)
        with Representation(model, self.head if features else None) as representation:
            if config.is_encoder_decoder:
                begin = torch.full_like(answer[:, :1], config.decoder_start_token_id)
                logits = model(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    decoder_input_ids=torch.cat([begin, answer[:, :-1]], 1),
                ).logits
            else:
                seen = torch.cat([batch["attention_mask"], mask[:, :-1].long()], 1)
                logits = model(
                    input_ids=torch.cat([batch["input_ids"], answer[:, :-1]], 1),
                    attention_mask=seen,
                    position_ids=(seen.cumsum(1) - 1).clamp(min=0),
                    use_cache=False,
                ).logits[:, -labels.shape[1] :]
        logits = logits.float()
        losses = cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)
        states = representation.value
        if states is not None:
            states = _mean(states[:, -labels.shape[1] :].float(), mask[..., None], 1)
        return Output(_mean(losses, mask), logits, mask, states)

    def divergence(self, student, teacher, temperature=1.0, per="example"):
        """[B]: KL(softmax(teacher/T) ‖ softmax(student/T)) of each token, summed over the vocabulary (or averaged:
        ``per="class"``), averaged over the answer's tokens."""
        return _mean(super().divergence(student, teacher, temperature, per), student.mask)

    def corrupt(self, batch, rows, draw, pool, other=True):
        """Prompts with the answers of other examples, drawn from ``pool``."""
        return self._answered(batch, rows, pool[(draw * len(pool)).long()]["labels"])

    def refuse(self, batch, rows):
        """Prompts with one of `REFUSALS` for an answer, chosen by the example's index."""
        labels = self._refusals(list(self.models)[batch["which"][0]])
        return self._answered(batch, rows, labels[batch["index"][rows].cpu() % len(labels)])

    @functools.cache
    def _refusals(self, model):
        labels = self._labels(REFUSALS, model)
        return labels[:, : _width(labels != -100)].long()

    def _answered(self, batch, rows, theirs):
        """The batch with other answers, [n, L'], in some rows."""
        from torch.nn.functional import pad

        theirs = theirs.to(batch["labels"].device)
        wide = max(theirs.shape[1], batch["labels"].shape[1])
        labels = pad(batch["labels"], (0, wide - batch["labels"].shape[1]), value=-100)
        labels[rows] = pad(theirs, (0, wide - theirs.shape[1]), value=-100)
        return batch | {"labels": labels}

    def complete(self, model, batch, given, most):
        import torch

        tokenizer, begun = self.tokens(list(self.models)[batch["which"][0]]), batch["labels"][:, :given].clamp(min=0)
        prompt, mask = batch["input_ids"], batch["attention_mask"]
        if model.config.is_encoder_decoder:
            begun = torch.cat([torch.full_like(prompt[:, :1], model.config.decoder_start_token_id), begun], 1)
            inputs = dict(input_ids=prompt, attention_mask=mask, decoder_input_ids=begun)
        else:
            begun = torch.cat([prompt, begun], 1)
            inputs = dict(input_ids=begun, attention_mask=torch.cat([mask, mask.new_ones(len(mask), given)], 1))
        said = model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=most,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return said[:, begun.shape[1] :]

    def targets(self, batch):
        tokenizer = self.tokens(list(self.models)[batch["which"][0]])
        true = batch["labels"].masked_fill(batch["labels"] == -100, tokenizer.pad_token_id)
        return tokenizer.batch_decode(true, skip_special_tokens=True)

    def predict(self, model, batch):
        """``target`` and ``prediction`` are texts (the reference as tokenised, and what greedy decoding gives),
        ``score`` their ROUGE-L, ``confidence`` the geometric mean of the probabilities of the reference's tokens."""
        import torch

        from mubench.measure.metrics.primary import load_primary

        name = list(self.models)[batch["which"][0]]
        out, tokenizer = self.forward(model, batch), self.tokens(name)
        said = self.complete(model, batch, 0, self.models[name].inputs["answer"])
        prediction, target = tokenizer.batch_decode(said, skip_special_tokens=True), self.targets(batch)
        score = torch.from_numpy(load_primary(self.metric).per_example(prediction, target))
        return {
            "target": target,
            "prediction": prediction,
            "score": score,
            "loss": out.loss,
            "confidence": (-out.loss).exp(),
        }


def _width(mask):
    """The columns that the longest row fills, in multiples of 8: few distinct shapes."""
    return min(mask.shape[1], -(-int(mask.sum(1).max()) // 8) * 8)


def _mean(values, mask, axis=-1):
    """The mean of the values where a position counts."""
    return (values * mask).sum(axis) / mask.sum(axis)
