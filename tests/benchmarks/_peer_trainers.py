"""Two suites' trainers on the Hugging Face `Trainer`, written anew from what those do.

MU-Bench (CLU-UML/MU-Bench, mubench/trainer): losses of neggrad, random_label, bad_teaching, scrub and salun, the last
    three with what they run beside the student. AdamW, linear decay, clipping at 1, batches of 128 and weight decay
    1e-4 as its CIFAR-100 configurations say; the optimiser is the installed library's default. As published it scores
    D_t and D_f after every epoch, saves a checkpoint, goes back to the best one, and at the end scores D_t, D_f, D_r
    and the transfer set, with 500 draws each of its knowledge gap and its zero-retrain forgetting. Departures: all
    batches of D_f count for the saliency (its first is lost), SCRUB finds D_f, and its two phases have as many epochs
    as they are given.
open-unlearning (locuslab/open-unlearning, src/trainer/unlearn): GradDiff and NPO with the loss of D_r, each item of D_f
    with one of D_r drawn at random, text padded on the right to the longest of a batch; no evaluation.

Rows are ready tensors; there are no worker processes, which would only add CPU seconds.
"""

import copy
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy, kl_div, logsigmoid
from transformers import Trainer, TrainingArguments

ARGUMENTS = dict(
    report_to="none", use_cpu=True, disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=False
)


class Rows(torch.utils.data.Dataset):
    """Columns of ready tensors, an item being a dict."""

    def __init__(self, **columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns["labels"])

    def __getitem__(self, i):
        return {name: column[i] for name, column in self.columns.items()}

    def __add__(self, other):
        return Rows(**{name: torch.cat([column, other.columns[name]]) for name, column in self.columns.items()})


def stacked(items):
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


# -- MU-Bench ----------------------------------------------------------------------------------------------------------


class MuBench(Trainer):
    """What its trainers share.

    model: becomes the student.
    sets: name → `Rows`: forget, retain, test, transfer.
    folder: where it writes.
    epochs: passes over its training set.
    published: whether it does all that it is published to do, or only trains and scores its sets at the end.
    """

    def __init__(self, model, sets, folder, epochs, published=False):
        self.sets, self.classes, self.published = sets, model.config.num_labels, published
        each = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=128,
            per_device_eval_batch_size=128,
            num_train_epochs=epochs,
            learning_rate=1e-5,
            weight_decay=1e-4,
            metric_for_best_model="overall",
            **(each if published else {"eval_strategy": "no", "save_strategy": "no"}),
            **ARGUMENTS,
        )
        super().__init__(
            model, arguments, data_collator=stacked, train_dataset=self.training_set(), eval_dataset=sets["test"]
        )
        self.set_up()

    def training_set(self):
        return self.sets["forget"]

    def set_up(self):
        """Teachers."""

    def unlearn(self):
        self.train()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not model.training:
            outputs = model(**inputs)
            return (outputs.loss, outputs) if return_outputs else outputs.loss
        return self.loss(model, inputs)

    def loss(self, model, inputs):
        return model(**inputs).loss

    # -- scores --------------------------------------------------------------------------------------------------------

    def logits(self, name):
        """Logits and labels of a set, the former also saved."""
        found = self.predict(self.sets[name], metric_key_prefix=name)
        np.save(Path(self.args.output_dir) / f"logits_{name}", found.predictions)
        return found.predictions, found.label_ids

    def evaluate(self, *_, **__):
        """D_t and D_f, after an epoch."""
        scores = {f"eval_{name}_accuracy": right(*self.logits(name)).mean() for name in ("test", "forget")}
        test, forget = (
            1 - abs(value - aim) for value, aim in zip(scores.values(), (0.9, 1 / self.classes), strict=True)
        )
        scores["eval_overall"] = 2 * test * forget / (test + forget)
        self.log(scores)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def final_scores(self):
        found = {name: self.logits(name) for name in ("test", "forget", "retain", "transfer")}
        for name, (logits, labels) in found.items():
            self.save_metrics(name, {f"{name}_accuracy": right(logits, labels).mean()})
        if self.published:
            self.drawn_scores(found)

    def drawn_scores(self, found):
        """Its knowledge gap and zero-retrain forgetting.

        found: set name → its logits and labels.
        """
        forget, retain = right(*found["forget"]), right(*found["retain"])
        truth = np.repeat([1, 0], len(forget))
        draws = [np.random.choice(len(retain), len(forget), replace=False) for _ in range(500)]
        gap = np.mean([roc_auc_score(truth, np.concatenate([retain[rows], forget])) for rows in draws])
        logits = found["forget"][0]
        apart = lambda: jensenshannon(softmax(logits, 1), softmax(np.random.rand(*logits.shape), 1), axis=0) ** 2
        zrf = np.mean([1 - apart().mean() for _ in range(500)])
        self.save_metrics("final", {"knowledge_gap": gap, "zrf": zrf})


def right(logits, labels):
    """1 for each example whose class is the likeliest, else 0."""
    return (logits.argmax(1) == labels).astype(int)


class NegGrad(MuBench):
    def loss(self, model, inputs):
        return -super().loss(model, inputs)


class RandomLabel(MuBench):
    """D_f with the next class for a label, and D_r."""

    def training_set(self):
        forget = self.sets["forget"].columns
        return Rows(**forget | {"labels": (forget["labels"] + 1) % self.classes}) + self.sets["retain"]


class SalUn(RandomLabel):
    """Only gradients are masked; the mask is made of batches of D_f and saved."""

    def unlearn(self):
        self.train_dataset = self.sets["forget"]
        self.mask = self.saliency_mask()
        self.train_dataset = self.training_set()
        super().unlearn()

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        for name, p in model.named_parameters():
            if p.grad is not None:
                p.grad *= self.mask[name]
        return loss

    def saliency_mask(self, share=0.5):
        sums = {name: torch.zeros_like(p) for name, p in self.model.named_parameters()}
        self.model.eval()
        for inputs in self.get_train_dataloader():
            self.model.zero_grad()
            (-self.model(**inputs).loss).backward()
            with torch.no_grad():
                for name, p in self.model.named_parameters():
                    sums[name] += p.grad
        self.model.zero_grad()
        scores = -torch.cat([total.abs().flatten() for total in sums.values()])
        ranks = scores.argsort().argsort().split([total.numel() for total in sums.values()])
        most = int(len(scores) * share)
        mask = {n: (part < most).long().reshape(sums[n].shape) for n, part in zip(sums, ranks, strict=True)}
        torch.save(mask, Path(self.args.output_dir) / "mask.pt")
        return mask


class BadTeaching(MuBench):
    """As many rows of D_r as of D_f. Each kind is seen apart, by the student and by its teacher, at every step.

    Its divergence takes logits for probabilities: its value means nothing and may be NaN; its gradient is finite.
    """

    def training_set(self):
        forget, retain = self.sets["forget"].columns, self.sets["retain"].columns
        chosen = torch.randperm(len(retain["labels"]))[: len(forget["labels"])]
        kept = Rows(**{name: column[chosen] for name, column in retain.items()}, is_forget=torch.zeros(len(chosen)))
        return Rows(**forget, is_forget=torch.ones(len(chosen))) + kept

    def set_up(self):
        self.good, self.bad = copy.deepcopy(self.model).eval(), copy.deepcopy(self.model).eval()
        for module in self.bad.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def loss(self, model, inputs):
        rows, total = inputs["is_forget"] == 1, 0.0
        for chosen, teacher in ((~rows, self.good), (rows, self.bad)):
            pixels = inputs["pixel_values"][chosen]
            student = model(pixel_values=pixels).logits
            with torch.no_grad():
                taught = teacher(pixel_values=pixels).logits
            total = total + kl_div(student, taught, reduction="batchmean")
        return total


class Scrub(MuBench):
    """All max passes over D_f, then all min passes over D_r; the divergence is `BadTeaching`'s."""

    apart = True

    def set_up(self):
        self.teacher = copy.deepcopy(self.model).eval()

    def unlearn(self):
        self.train()
        self.apart, self.train_dataset = False, self.sets["retain"]
        super().unlearn()

    def loss(self, model, inputs):
        outputs = model(pixel_values=inputs["pixel_values"], labels=None if self.apart else inputs["labels"])
        with torch.no_grad():
            taught = self.teacher(pixel_values=inputs["pixel_values"]).logits
        divergence = kl_div(outputs.logits, taught, reduction="batchmean")
        return -divergence if self.apart else outputs.loss + divergence


# -- open-unlearning ---------------------------------------------------------------------------------------------------


class Pairs(torch.utils.data.Dataset):
    """Each example of D_f, with one of D_r drawn whenever it is asked for.

    forget, retain: a dict of ``input_ids`` and ``labels`` for each example, tensors of its own length.
    """

    def __init__(self, forget, retain):
        self.forget, self.retain = forget, retain

    def __len__(self):
        return len(self.forget)

    def __getitem__(self, i):
        return {"forget": self.forget[i], "retain": self.retain[torch.randint(len(self.retain), ()).item()]}


def padded(items):
    """A batch of pairs, or of texts: padded on the right."""
    if "forget" in items[0]:
        return {name: padded([item[name] for item in items]) for name in ("forget", "retain")}
    join = lambda name, filler: torch.nn.utils.rnn.pad_sequence([item[name] for item in items], True, filler)
    ids = join("input_ids", 0)
    return {"input_ids": ids, "attention_mask": ids.ne(0).long(), "labels": join("labels", -100)}


class GradDiff(Trainer):
    """−loss(D_f) + loss(D_r).

    model: becomes the student.
    pairs: what is trained on.
    folder: where it would write.
    steps: how many.
    size: examples of each set in a step.
    """

    def __init__(self, model, pairs, folder, steps, size):
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=size,
            max_steps=steps,
            learning_rate=1e-5,
            weight_decay=0.01,
            warmup_steps=len(pairs) // size,  # an epoch
            logging_steps=5,
            save_strategy="no",
            eval_strategy="no",
            **ARGUMENTS,
        )
        super().__init__(model, arguments, data_collator=padded, train_dataset=pairs)

    unlearn = Trainer.train

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return self.forget_loss(model, inputs["forget"]) + model(**inputs["retain"]).loss

    def forget_loss(self, model, inputs):
        return -model(**inputs).loss


class NPO(GradDiff):
    """−(2/β)·log σ(β·(NLL − NLL of the original)) on D_f, β 0.1, the reference being run beside the student."""

    def __init__(self, model, *arguments):
        super().__init__(model, *arguments)
        self.reference = self.accelerator.prepare_model(copy.deepcopy(model).eval(), evaluation_mode=True)

    def forget_loss(self, model, inputs, beta=0.1):
        with torch.no_grad():
            before = likelihood(self.reference, inputs)
        return -2 / beta * logsigmoid(beta * (likelihood(model, inputs) - before)).mean()


def likelihood(model, inputs):
    """[B]: the negative log-likelihood of each text's answer, summed over its tokens."""
    logits, labels = model(**inputs).logits[:, :-1], inputs["labels"][:, 1:]
    return cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100).sum(1)
