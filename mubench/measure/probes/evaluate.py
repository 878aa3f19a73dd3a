"""The first probe of every run."""

from mubench.measure.predict import predict, with_untrained
from mubench.measure.probes.base import Probe
from mubench.measure.shared import untrained


class Evaluate(Probe):
    """The predictions of the sets that are scored, of the model as it is: what a metric reads that names no probe."""

    alters = False

    def run(self, job):
        frame = predict(job.task, job.unlearned.model, job.shown, accelerator=job.context.accelerator)
        yield 0, with_untrained(frame, lambda: untrained(job))
