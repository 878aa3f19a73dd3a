"""A method's terms as one scalar: Σ of weight × measure over the examples of a batch."""

import contextlib
import functools

import torch

from mubench.models.behaviour import forward

EVERY = slice(None)


class Objective:
    """What a step lowers.

    method: gives the terms.
    context: gives the task, the teachers and the random draws.
    views: set → its examples, as the `Schedule` has them.
    model: the student as forward passes go through it.
    curriculum: a `SuperLoss`, which weighs the examples of each term, or None.
    sharded: whether layers are gathered by all processes at once.
    parameters: all that may move.
    """

    def __init__(self, method, context, views, model, curriculum=None, sharded=False):
        self.method, self.context, self.views, self.curriculum = method, context, views, curriculum
        self.model, self.sharded, self.world = model, sharded, context.accelerator.num_processes
        self.parameters = [*context.trainable.values()]

    def begin(self, epoch):
        """The terms that count in an epoch."""
        every, self._draws = self.method.terms, {}
        self.numbers = {id(term): number for number, term in enumerate(every)}
        self.terms = [term for term in every if term.when(epoch)]
        self._phase = tuple(self.numbers[id(term)] for term in self.terms)

    def __call__(self, piece, batch, counts=True):
        """The scalar of one piece of a batch (see `distributed.pieces`); those of all pieces add up to the mean.

        counts: whether its losses count for the curriculum.
        """
        return self._total(piece.on, piece.positions, batch, counts and piece.counts) / piece.batch * self.world

    @contextlib.contextmanager
    def counted(self, piece, batch, alone=False):
        """Around the passes of a piece: their FLOPs are counted; before the last, processes do not exchange gradients.

        Shards do at once: a whole gradient is what they cannot hold. With ``alone`` nobody does, even in the last.
        """
        purpose = ("step", piece.on, piece.last, self._phase)
        alone = alone or not piece.last and not self.sharded
        waiting = self.context.accelerator.no_sync(self.model) if alone else contextlib.nullcontext()
        with self.context.counted(purpose, batch, gradient=False), waiting:
            yield

    def end_step(self):
        """The losses of a step join the means of the curriculum."""
        if self.curriculum:
            accelerator = self.context.accelerator
            gather = functools.partial(accelerator.reduce, reduction="sum") if self.world > 1 else None
            self.curriculum.step(range(len(self.numbers)), gather, accelerator.device)

    def _total(self, on, positions, batch, counts):
        """Σ over a batch and the terms on its examples of weight × measure."""
        parts = {on: (EVERY, positions)}
        if on == "union":
            forgotten = positions < len(self.views["forget"])
            chosen = {"forget": forgotten.nonzero().flatten(), "retain": (~forgotten).nonzero().flatten()}
            parts = {on: (rows, positions[rows]) for on, rows in chosen.items() if len(rows)}
        terms = [t for t in self.terms if t.on in parts]
        if not terms:
            return self.context.task.forward(self.model, batch).loss.sum() * 0
        corrupting = {t.on: t for t in terms if t.corrupts}
        plain = [t for t in terms if t.on in corrupting and not t.corrupts]  # on examples that others corrupt
        if self.curriculum:
            self.curriculum.counting = counts
        given = batch
        for term in corrupting.values():
            given = self._corrupted(given, *parts[term.on], term)
        total = self._added(0.0, [t for t in terms if t not in plain], given, parts)
        if plain:
            self.context.meter.examples += len(positions)  # a second pass
            total = self._added(total, plain, batch, parts)
        return total

    def _added(self, total, terms, batch, parts):
        """A sum and the terms that see the same batch.

        parts: set → (which rows of the batch are its examples; their positions in the view).
        """
        layers = {term: self.context.layer(term.layer) for term in terms}
        features = any(term.measure == "rep" and not layers[term] for term in terms)
        inner = dict.fromkeys(layer for layer in layers.values() if layer)
        outputs = forward(self.context.task, self.model, batch, features, inner)
        for term in terms:
            values = self._values(term, outputs[layers[term]], batch, *parts[term.on])
            if self.curriculum:
                values = self.curriculum(values, self.numbers[id(term)])
            total = total + term.weight * values.sum()
        if self.sharded and (features or inner):
            total = total + 0 * outputs[None].loss.sum()  # shards are gathered for the backward pass of the whole model
        return total

    def _values(self, term, output, batch, rows, positions):
        """The measure of a term on some rows of a batch, [B]."""
        task, student = self.context.task, output if rows is EVERY else output[rows]
        teacher = self._teacher_output(term, batch, rows, positions) if term.taught else None
        if term.how:
            return term.how(self.context, batch if rows is EVERY else task.take(batch, rows), student, teacher)
        if term.measure == "loss":
            return student.loss
        if term.measure == "rep":
            return task.distance(student, teacher)
        return task.divergence(student, teacher, term.temperature, term.per)

    def _teacher_output(self, term, batch, rows, positions):
        """What a term's teacher gives for some rows: where the task keeps outputs, read from those of the whole set."""
        teacher, layer = self.context.teacher(term.target), self.context.layer(term.layer)
        features = term.measure == "rep" and not layer
        if layer or not teacher.keeps_outputs:
            return teacher.answer(batch, rows, features, layer)  # states are as many as the longest text of a batch
        before = len(self.views["forget"]) if "union" in self.views and term.on == "retain" else 0
        outputs = teacher.outputs(getattr(self.context, term.on), features)
        return outputs[positions - before]

    def _corrupted(self, batch, rows, positions, term):
        """The batch with some rows corrupted, by draws that depend on seed, epoch and example alone."""
        task, context = self.context.task, self.context
        rows = torch.arange(len(positions)) if rows is EVERY else rows
        if term.target == "refusal":
            return task.refuse(batch, rows)
        purpose = f"labels/{term.on}/{context.epoch if term.redraw else 0}"
        if purpose not in self._draws:
            view = self.views["union" if "union" in self.views else term.on]
            self._draws[purpose] = torch.rand(len(view), generator=context.generator(purpose))
        draw = self._draws[purpose][positions]
        return task.corrupt(batch, rows, draw, context.retain or context.forget, term.target == "wrong")
