"""An attack, as somebody outside of the suite would write one: is what was forgotten learnt again from a part of it?"""

import torch

from mubench.measure.probes.base import Probe


class Relearn(Probe):
    """Trains on the first rows of D_f; predicts the others before and after.

    steps: of the optimiser, all rows at once.
    share: of D_f that is trained on.
    lr: learning rate of AdamW.
    """

    needs = ("forget",)
    steps: int = 4
    share: float = 0.2
    lr: float = 3e-3

    def run(self, job):
        context, forget = job.context, job.sets["forget"]
        learnt = max(1, round(self.share * len(forget)))
        part, rest = forget.select(slice(0, learnt)), {"forget": forget.select(slice(learnt, None))}
        optimizer = torch.optim.AdamW(context.student.parameters(), lr=self.lr)
        yield 0, rest
        context.student.train()
        for step in range(self.steps):
            batch = context.batch(part, torch.arange(len(part)), f"relearn/{step}")
            optimizer.zero_grad()
            job.task.forward(context.student, batch).loss.mean().backward()
            optimizer.step()
        yield self.steps, rest


class Wild(Probe):
    """Destroys its model and draws random numbers wherever it can."""

    name = "wild"

    def run(self, job):
        import random

        import numpy as np

        networks = [fact for fact in job.checkpoint.values() if isinstance(fact, torch.nn.Module)]
        for network in (job.context.student, job.original(), *networks):
            for parameter in network.parameters():
                parameter.data.fill_(0)
        torch.rand(7), np.random.rand(7), random.random()
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        job.sets.clear()
        yield 3, job.shown if job.sets else {"forget": job.context.forget}


class Fails(Probe):
    """Fails after its first predictions, unless it is told not to."""

    name = "fails"
    how: str = "always"

    def run(self, job):
        yield 0, {"forget": job.sets["forget"]}
        if self.how == "always":
            raise ValueError("broken\non purpose")


class Silent(Probe):
    """Predicts nothing."""

    name = "silent"

    def run(self, job):
        return iter(())
