"""Frozen models that a student is pulled to, or pushed away from."""

import contextlib

import torch

from mubench.models import networks
from mubench.models.behaviour import Output, forward
from mubench.train import lora
from mubench.train.loader import by_length

LARGEST, MOST = 2**26, 8  # bytes of outputs that are kept with a set for later runs, and how many of these


class Teacher:
    """A frozen model, whose outputs are computed once per example and world where they can be kept (``keeps_outputs``).

    Those of the original are kept for later runs of the same set in this process. They count there as computed anew.

    context: the run's.
    model: () → the model. An incompetent one is let go as soon as the outputs of a whole view are known, and made
        again, the same, where it is asked again.
    """

    def __init__(self, context, model):
        self.context, self.model, self._outputs = context, model, {}

    @property
    def keeps_outputs(self):
        """Whether its outputs are the same beside whichever other examples, and few enough to be kept."""
        return self.context.task.keeps_outputs and not self.context.task.batchwise

    @torch.no_grad()
    def answer(self, batch, rows, features=False, layer=None):
        """The `Output` for some rows of a batch; of a ``layer`` (a module's name) with its states (see `forward`)."""
        task = self.context.task
        given = batch if task.batchwise else task.take(batch, rows)  # nobody cuts a batch whose examples are coupled
        with self._answering() as model:
            out = forward(task, model, given, features, [layer] if layer else ())[layer]
        return out[rows] if task.batchwise else out

    def outputs(self, view, features=False):
        """The `Output` of a whole view, row i being its example i, in the view's world."""
        key = (id(view), features)
        if key not in self._outputs:
            self._outputs[key] = view, self._found(view, features)  # the view is kept: its id must stay its own
            self.context.forget_incompetent()
        return self._outputs[key][1]

    def _found(self, view, features):
        """What `_of_all` gives, kept by an earlier run or for later ones."""
        context, columns = self.context, getattr(view, "columns", None)
        model = self.model()
        if columns is None or view.world or model is not vars(context).get("original"):
            return self._of_all(view, features)
        network = networks.weights_hash(model), repr(model), repr(getattr(model, "config", None))
        how = features, context.batch_size, context.accelerator.mixed_precision, str(context.device)
        kept, key = columns.answers, (context.task, *network, view.rows.numpy().tobytes(), *how)
        if key in kept:
            outputs, work = kept[key]
            context.meter.add(work)
            return outputs
        before = context.meter.work()
        outputs = self._of_all(view, features)
        if sum(values.nbytes for values in vars(outputs).values() if values is not None) <= LARGEST:
            kept[key] = outputs, [after - start for after, start in zip(context.meter.work(), before, strict=True)]
            if len(kept) > MOST:
                del kept[next(iter(kept))]  # the oldest
        return outputs

    def _of_all(self, view, features):
        context, parts = self.context, []
        with self._answering() as model:
            for batch in context.batches(view, 2 * context.batch_size, "teacher"):
                counted = context.counted(("teacher", features), batch, gradient=False)
                with counted, context.accelerator.autocast(), torch.inference_mode():
                    parts.append(context.task.forward(model, batch, features))
        fields = zip(*(vars(part).values() for part in parts), strict=True)
        whole = Output(*(None if values[0] is None else torch.cat(values) for values in fields))
        return whole if view.lengths is None else whole[by_length(view).argsort()]

    def _answering(self):
        """The model as it answers: with LoRA the student, its adapters off."""
        model = self.model()
        return model.off() if isinstance(model, lora.Adapters) else contextlib.nullcontext(model)
