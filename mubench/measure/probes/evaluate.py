"""The first probe of every run."""

from mubench.measure.predict import UNTRAINED, predict
from mubench.measure.probes.base import Probe


class Evaluate(Probe):
    """The predictions of the sets that are scored, of the model as it is: what a metric reads that names no probe."""

    alters = False

    def run(self, job):
        task, spec = job.task, job.options
        blank = task.build(spec.model, UNTRAINED + spec.seed, blank=True)
        yield 0, predict(task, job.unlearned.model, job.shown, blank, job.context.accelerator)
