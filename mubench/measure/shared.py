"""What the runs of a task in one process have in common: computed by the first, kept as long as the task is."""

import weakref

from mubench.cache import content_key
from mubench.measure.predict import UNTRAINED, predict

_SHARED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # task → what was asked → the answer


def predicted(job, name, who, network):
    """The predictions of a fixed network on a set of a job, a frame as `predict` gives it.

    name: of the set.
    who: what the network follows from, as JSON values.
    network: () → it.
    """
    task, view, accelerator = job.task, job.shown[name], job.context.accelerator
    make = lambda: predict(task, network(), {name: view}, accelerator=accelerator)
    if view.world:  # of this run alone
        return make()
    place = str(accelerator.device), accelerator.num_processes, accelerator.mixed_precision
    key = content_key(who, job.options.model, name, view.rows.tolist(), place)
    answers = _SHARED.setdefault(task, {})
    if key not in answers:
        answers[key] = make()
    return answers[key]


def untrained(job):
    """The predictions of ZRF's untrained model on the forget set."""
    model, seed = job.options.model, UNTRAINED + job.options.seed
    return predicted(job, "forget", ["untrained", seed], lambda: job.task.build(model, seed, blank=True))
