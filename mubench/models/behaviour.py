"""How a model of some modality is run, measured and misled: all that methods need to know of a task."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mubench.errors import MubenchError

if TYPE_CHECKING:
    import torch


@dataclass
class Output:
    """What one forward pass gives for a batch of B examples.

    loss: [B], the task loss of each example
    logits: [B, C], float32, or None
    mask: [B, L] for sequences, true where a position counts, else None
    features: [B, H], the representation before the head, or [B, T, H], the states of an inner layer, where asked for
    places: [B, L], for sequences, where among the states of an inner layer those of the positions are; None: they are
        the last
    """

    loss: torch.Tensor
    logits: torch.Tensor = None
    mask: torch.Tensor = None
    features: torch.Tensor = None
    places: torch.Tensor = None

    @property
    def total(self):
        """[B]: the loss of a whole sequence, summed over its tokens instead of averaged.

        Of what is no sequence it is the loss itself.
        """
        return self.loss if self.mask is None else self.loss * self.mask.sum(-1)

    def __getitem__(self, rows):
        """The outputs of some rows of the batch, a slice or a tensor in main memory."""
        rows = _there(rows, self.loss.device)
        return Output(*(None if values is None else values[rows] for values in vars(self).values()))


class Behaviour:
    """Classification, the common case; modalities whose outputs are not classes override what differs.

    provides: what a method may ask for, see below
    keeps_outputs: whether a teacher's outputs are computed once per example and kept; else it runs beside the student,
        on the same batch, as where they are many numbers (a vocabulary for each token) or differ from pass to pass
        (diffusion noise)
    head: the submodule whose input is the representation
    num_labels: how many classes there are, or None
    threads: of the CPU, that a model is run with; None: as many as torch takes
    batchwise: whether the loss of an example depends on the others of its batch (a contrastive loss): nobody cuts a
        batch then, and teachers answer beside the student

    A batch is a dict: tensors whose first dimension is the batch's; ``index``, the row of each example in its set; and
    ``world``, a dict of tensors that belong to no example, where a task has such (`mubench.tasks.base.Task.world`).

    A method may ask for a measure (``loss``, ``logit`` or ``rep``) and for:

    retain: there is a retain set
    union: examples of D_f and of D_r may be in one batch
    examples: each has a loss, and so a gradient, of its own
    labels: they can be corrupted
    classes: logits are of classes or tokens, of which the labels name the right ones
    signal: inputs are numbers that noise can be added to
    pixels: they are of pictures, of an `input_range`
    pairs: inputs are pictures and a text, see `mubench.tasks.vision_language`
    text: answers can be refused and completed, see `refuse` and `complete`
    prompts: pictures are drawn after prompts, see `mubench.tasks.generation.diffusion`
    """

    provides = frozenset({"loss", "logit", "rep", "labels", "classes", "retain", "union", "examples"})
    keeps_outputs = True
    head = "classifier"
    num_labels = None
    threads: int | None = None
    batchwise = False

    def take(self, batch, rows):
        """The examples at some rows of a batch: all that belongs to them, and whole what belongs to none.

        rows: their positions in the batch, a slice or a tensor in main memory.

        Tensors whose first dimension is the batch's belong to its examples, all else to none. Overridden where that is
        not so.
        """
        n, devices = size(batch), {getattr(values, "device", None) for values in batch.values()}
        places = {device: _there(rows, device) for device in devices if device is not None}
        of_examples = lambda values: hasattr(values, "ndim") and values.ndim > 0 and len(values) == n
        return {name: v[places[v.device]] if of_examples(v) else v for name, v in batch.items()}

    def drawn(self, batch, seed):
        """The batch with all that a forward pass would draw at random (noise): teacher and student see the same.

        It is a function of ``seed`` and of each example's ``index`` alone.
        """
        return batch

    def forward(self, model, batch, features=False):
        """The `Output` of a model for a batch; a loss is the cross-entropy with the example's label.

        features: whether representations are asked for.
        """
        from torch.nn.functional import cross_entropy

        inputs = {k: v for k, v in batch.items() if k not in ("labels", "index")}
        with Representation(model, self.head if features else None) as representation:
            out = model(**inputs)
        logits = getattr(out, "logits", out)
        if logits.element_size() < 4:  # half precision
            logits = logits.float()
        features = None if representation.value is None else representation.value.flatten(1)
        return Output(cross_entropy(logits, batch["labels"], reduction="none"), logits, None, features)

    def divergence(self, student, teacher, temperature=1.0, per="example"):
        """[B]: KL(softmax(teacher/T) ‖ softmax(student/T)) of two `Output`.

        temperature: T.
        per: ``example``, summed over classes, or ``class``, averaged over them.
        """
        from torch.nn.functional import kl_div

        kl = kl_div(
            (student.logits / temperature).log_softmax(-1),
            (teacher.logits / temperature).log_softmax(-1),
            reduction="none",
            log_target=True,
        )
        return kl.sum(-1) if per == "example" else kl.mean(-1)

    def distance(self, student, teacher):
        """[B]: mean squared difference of representations, over the states that count where there are several."""
        each = (student.features - teacher.features).square().mean(-1)
        return each if each.ndim == 1 else masked_mean(each, student.mask)

    def scored(self, sets):
        """The rows of each set that are scored: all."""
        return sets

    def targets(self, batch):
        """What is right for each example of a batch, as evaluation stores it."""
        return batch["labels"]

    def predict(self, model, batch):
        """What evaluation stores of a batch: column → one value per example."""
        out = self.forward(model, batch)
        probability = out.logits.softmax(-1)
        target, prediction = self.targets(batch), out.logits.argmax(-1)
        return {
            "target": target,
            "prediction": prediction,
            "score": (prediction == target).double(),
            "loss": out.loss,
            "confidence": probability.gather(-1, target[:, None])[:, 0],
            "logits": out.logits,
        }

    def corrupt(self, batch, rows, draw, pool, other=True):
        """The batch with wrong labels in some rows.

        rows: their positions in the batch, [n].
        draw: a uniform number in [0, 1) for each of them. Both are in main memory.
        pool: examples whose targets may be taken where targets are no classes; the retain set, or D_f where there is
            none.
        other: take a class that is not the right one, each equally likely; or else any class.
        """
        labels = batch["labels"].clone()
        rows, draw = (_there(values, labels.device) for values in (rows, draw))
        if other:
            labels[rows] += 1 + (draw * (self.num_labels - 1)).long()
            return batch | {"labels": labels % self.num_labels}
        labels[rows] = (draw * self.num_labels).long()
        return batch | {"labels": labels}

    def input_range(self, model):
        """What a model, by name, is given of a black pixel and of a white one: two tensors that fit pictures."""
        raise NotImplementedError

    def refuse(self, batch, rows):
        """The batch with the answers in some rows replaced by "I do not know", in words that depend on the example."""
        raise NotImplementedError

    def complete(self, model, batch, given, most):
        """[B, ≤ most]: the tokens that a model goes on with, greedily.

        given: how many tokens of the answer it is given after the prompt.
        most: how many tokens it may go on with.
        """
        raise NotImplementedError

    def exhibits(self, before, after, sets):
        """Files to lay beside a result, name → bytes: what numbers do not show (pictures before and after).

        before: () → the original model.
        after: the unlearned model.
        sets: name → view.
        """
        return {}


class Custom(Behaviour):
    """The behaviour of somebody's own model.

    loss: (model, batch) → the per-example losses [B], or those and the logits [B, C]; None: cross-entropy of the
        model's logits
    num_labels: how many classes there are, or None
    head: the submodule whose input is the representation, or None
    """

    def __init__(self, loss=None, num_labels=None, head=None):
        self.loss, self.num_labels, self.head = loss, num_labels, head

    def forward(self, model, batch, features=False):
        if self.loss is None:
            return super().forward(model, batch, features)
        with Representation(model, self.head if features else None) as representation:
            losses = self.loss(model, {k: v for k, v in batch.items() if k != "index"})
        out = Output(*losses) if isinstance(losses, tuple) else Output(losses)
        out.features = None if representation.value is None else representation.value.flatten(1)
        if out.loss.shape != batch["index"].shape:
            raise MubenchError(
                f"loss must give one number per example, shape {tuple(batch['index'].shape)}, "
                f"it gave {tuple(out.loss.shape)}: use reduction='none'"
            )
        return out

    def probe(self, model, examples):
        """Learn from one example what the model provides: how many labels, logits or losses only."""
        import torch

        device = next(model.parameters()).device
        batch = {k: v.to(device) if hasattr(v, "to") else v for k, v in examples[torch.arange(1)].items()}
        training = model.training
        with torch.no_grad():
            out = self.forward(model.eval(), batch)
        model.train(training)
        self.provides = {"loss", "union", "examples"}
        if out.logits is not None:
            self.provides |= {"logit"}
            self.num_labels = self.num_labels or out.logits.shape[-1]
        if "labels" in batch and self.num_labels:
            self.provides |= {"labels", "classes"}
        if self.head:
            self.provides |= {"rep"}
        if any(v.is_floating_point() for v in batch.values() if isinstance(v, torch.Tensor)):
            self.provides |= {"signal"}


def forward(task, model, batch, features=False, layers=()):
    """What one forward pass gives: layer → `Output`, and under None the task's own.

    task: the `Behaviour`.
    model, batch, features: as in `Behaviour.forward`.
    layers: names of modules. The features of their outputs are the states that leave them, [B, T, H] of T tokens or
        places; the mask [B, T] is true where a state counts, or None where all do. Of a text that is answered the
        states that predict the answer count, of other texts those of no padding.
    """
    if not layers:
        return {None: task.forward(model, batch, features)}
    with contextlib.ExitStack() as stack:
        caught = {layer: stack.enter_context(Representation(model, layer, leaving=True)) for layer in layers}
        out = task.forward(model, batch, features)
    return {None: out} | {layer: _states(out, batch, states.value) for layer, states in caught.items()}


def _states(out, batch, states):
    """An `Output` with the states that left an inner layer in place of the representation."""
    import torch

    mask = out.mask
    if len(states) != len(out.loss):
        raise MubenchError(
            f"the inner layer gives {len(states)} states for {len(out.loss)} examples: they do not belong to examples,"
            " as in a graph, and cannot be compared"
        )
    if states.ndim == 4:
        states = states.flatten(2).transpose(1, 2)  # channels first: a picture's places
    states = states.flatten(1, -2) if states.ndim > 2 else states[:, None]
    attention, length = batch.get("attention_mask"), states.shape[1]
    if mask is not None:
        states = states[:, -mask.shape[1] :] if out.places is None else at(states, out.places)
    elif attention is not None and attention.ndim == 2 and attention.shape[1] <= length:
        # pictures follow their text
        mask = torch.nn.functional.pad(attention.bool(), (0, length - attention.shape[1]), value=True)
    return Output(out.loss, out.logits, mask, states.float())


def at(states, places):
    """[B, L, H]: of states, [B, T, H], those at some positions of each row, [B, L]."""
    return states.take_along_dim(places.clamp(max=states.shape[1] - 1)[..., None], 1)


def _there(rows, device):
    """Positions of main memory as they index on a device."""
    from mubench.examples import sent

    return rows if isinstance(rows, slice) else sent(rows, device)


def size(batch):
    """How many examples a batch has."""
    return len(batch["index"] if "index" in batch else next(iter(batch.values())))


def masked_mean(values, mask):
    """[B, T] → [B]: the mean where a position counts."""
    return values.mean(-1) if mask is None else (values * mask).sum(-1) / mask.sum(-1)


class Representation:
    """Catches what enters a submodule in the forward passes of the block.

    model: the model, or `DistributedDataParallel` of it
    head: the submodule's name; None: nothing is caught
    leaving: catch what leaves it instead
    value: what was caught, or None
    """

    def __init__(self, model, head, leaving=False):
        self.value, self.model, self.head, self.leaving = None, model, head, leaving

    def __enter__(self):
        if self.head is not None:
            # DistributedDataParallel keeps the model in .module
            module = getattr(self.model, "module", self.model).get_submodule(self.head)
            # RoBERTa's and ELECTRA's take the whole sequence and begin with a layer of their own
            head = getattr(module, "out_proj", module)
            if self.leaving:
                self.hook = module.register_forward_hook(
                    lambda _, args, out: setattr(self, "value", out[0] if isinstance(out, tuple) else out)
                )
            else:
                self.hook = head.register_forward_pre_hook(lambda _, args: setattr(self, "value", args[0]))
        return self

    def __exit__(self, *_):
        if self.head is not None:
            self.hook.remove()
