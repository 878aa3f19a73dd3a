"""One pass over each set writes per-example predictions; every metric is computed from those."""

import numpy as np
import pandas as pd
import torch

from mubench.errors import MubenchError
from mubench.models.layout import channels_last
from mubench.train.distributed import make_accelerator
from mubench.train.loader import batches, by_length

SETS = ("test", "forget", "retain", "transfer")
BARE = ("retain",)  # sets without logits: they are most rows and most bytes, and no metric looks at them
UNTRAINED = 1_000_000  # added to the seed: ZRF's untrained model is no teacher that a method has imitated


def predict(task, model, sets, accelerator=None):
    """Predictions of a model as a ``DataFrame``, one row per example and set.

    task: whose model it is.
    model: the network.
    sets: name → examples.
    accelerator: where; of several processes every one takes its share and all get the whole.
    """
    accelerator = accelerator or make_accelerator()
    frames = []
    for name, view in sets.items():
        share = _share(task, view, accelerator.process_index, accelerator.num_processes)
        columns = _columns(task.predict, model, view, share, accelerator)
        if name in BARE:
            columns.pop("logits", None)
        if columns:
            frames.append(pd.DataFrame({"set": name, **columns}))
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        frames = gather_object(frames)
    frame = pd.concat(frames, ignore_index=True)
    return frame.sort_values(["set", "index"], ignore_index=True)


def with_untrained(frame, predictions):
    """Predictions with an untrained model's logits on the forget set beside them, for ZRF, where the task has logits.

    frame: the predictions.
    predictions: () → those of the untrained model on the forget set, a frame too.
    """
    forget = frame["set"] == "forget"
    if "logits" in frame and forget.any() and "logits" in (untrained := predictions()):
        frame["incompetent"] = None
        frame.loc[forget, "incompetent"] = untrained["logits"].to_numpy()  # both in the order of the index
    return frame


def _share(task, view, rank, world):
    """The batches of a view that a process takes, of examples of similar length.

    Where losses are coupled, they are whole ones, in order, of those of all.
    """
    if task.batchwise:
        return torch.arange(len(view)).split(task.evaluation_batch)[rank::world]
    return by_length(view)[rank::world].split(task.evaluation_batch)


def _columns(run, model, view, chunks, accelerator):
    training, pieces = model.training, []
    model.to(accelerator.device).eval()
    asked = [(None, chunk) for chunk in chunks if len(chunk)]
    for examples in batches({None: view}, asked, accelerator.device):
        batch = channels_last(examples, accelerator.device, accelerator.mixed_precision)
        with torch.inference_mode(), accelerator.autocast():  # a batch may be kept, as a world is: not made in here
            piece = run(model, batch)
        pieces.append({"index": batch["index"], **piece})
    model.train(training)
    return {name: _stored([p[name] for p in pieces]) for name in (pieces[0] if pieces else ())}


def _stored(pieces):
    """A column as it is written: texts as they are, integers as int64, scores as float64, all else as `rounded`."""
    if not isinstance(pieces[0], torch.Tensor):
        return [text for piece in pieces for text in piece]
    values = torch.cat(pieces).cpu()
    if not values.is_floating_point():
        return values.long().numpy()
    if values.ndim == 1 and values.dtype == torch.float64:
        return values.numpy()
    return list(rounded(values)) if values.ndim > 1 else rounded(values)


def rounded(values):
    """A tensor as a float32 array with 10 bits of mantissa (TF32), to nearest, ties to even.

    It takes a third of the bytes once compressed. Every metric is computed from these, so that stored predictions give
    its value to the last bit.
    """
    bits = values.float().numpy().view(np.uint32)
    nearest = (bits + np.uint32(0x0FFF) + ((bits >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(bits.view(np.float32)), nearest, bits).view(np.float32)


def shown(task, sets):
    """Set name → the examples that are scored, all in the world that the task is evaluated in.

    task: whose they are, with its ``scored_sets``.
    sets: name → examples, as `Task.sets` gives them.
    """
    world, names = sets["test"].world, (*SETS, *task.scored_sets)
    if missing := [name for name in task.scored_sets if name not in sets]:
        raise MubenchError(
            f"{task.name} declares the scored set {missing[0]!r}, but neither read() nor sets() gives it"
        )
    return task.scored({name: sets[name].within(world) for name in names if name in sets})


def scorer(task):
    """The task's primary metric as a function of a set's rows."""
    from mubench.measure.metrics.primary import load_primary

    return load_primary(task.metric, **task.metric_options).score


def scores(task, frame):
    """Set name → primary score in [0, 1]."""
    from mubench.measure.metrics import Predictions

    p = Predictions(frame)
    return {name: scorer(task)(p[name]) for name in frame["set"].unique()}


def validator(task, sets, accelerator=None):
    """model → its primary score in [0, 1] on the validation set; no other set is touched."""

    def score(model):
        return scores(
            task, predict(task, model, task.scored({"validation": sets["validation"]}), accelerator=accelerator)
        )["validation"]

    return score


class Curve:
    """The scores of a job along its training, off the clock.

    job: the `Job`.
    every: there is a point at the start and after every so many steps (None: none at all).
    """

    def __init__(self, job, every=None):
        if every is not None and every < 1:
            raise MubenchError(f"eval_every={every}: it counts steps, so it must be at least 1")
        self.job, self.every, self.points = job, every, []

    def add(self, context):
        """The point of where the training is."""
        meter, shown = context.meter, {name: view for name, view in self.job.shown.items() if name != "transfer"}
        frame = predict(self.job.task, context.student, shown, accelerator=context.accelerator)
        self.points.append(
            self._point(
                frame,
                step=context.step,
                seconds=meter.seconds(),
                cpu_seconds=meter.cpu_seconds(),
                flops=meter.costs.flops,
            )
        )

    def whole(self, frame, costs):
        """All points, the last from the final predictions."""
        clocks = {"seconds": costs["unlearning_seconds"], "cpu_seconds": costs["cpu_seconds"], "flops": costs["flops"]}
        last = [self._point(frame[frame["set"] != "transfer"], step=costs["steps"], **clocks)] if self.every else []
        return self.points + last

    def _point(self, frame, **where):
        return {**where, **{f"{name}_score": value for name, value in scores(self.job.task, frame).items()}}
