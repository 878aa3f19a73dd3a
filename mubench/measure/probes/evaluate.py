"""The first probe of every run."""

from mubench.measure.predict import predict
from mubench.measure.probes.base import Probe
from mubench.measure.shared import untrained


class Evaluate(Probe):
    """The predictions of the sets that are scored, of the model as it is: what a metric reads that names no probe."""

    alters = False

    def run(self, job):
        frame = predict(job.task, job.unlearned.model, job.shown, accelerator=job.context.accelerator)
        forget = frame["set"] == "forget"
        if "logits" in frame and forget.any() and "logits" in (blank := untrained(job)):
            frame["incompetent"] = None
            frame.loc[forget, "incompetent"] = blank["logits"].to_numpy()  # both in the order of the index
        yield 0, frame
