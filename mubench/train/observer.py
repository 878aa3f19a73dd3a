"""Looking at a student while it trains, off the clocks and the random numbers of its run."""

import contextlib
import math


class Observer:
    """What a run shows on its way, and the best weights it had.

    context: the run's.
    observe: called with it after each epoch, or at the start and every so many steps (``every``); what it raises ends
        the run. None: nobody looks.
    validate: model → its score on the validation set; None, or asked after each epoch, whose weights are kept in main
        memory if no earlier ones scored as well.
    whole: a context manager in which the student is whole, so that processes may ask it unequally often.
    """

    def __init__(self, context, observe=None, every=None, validate=None):
        self.context, self.observe, self.every, self.validate = context, observe, every, validate
        self.whole, self._best = contextlib.nullcontext, None

    def before_training(self):
        if self.every:
            self._show()

    @property
    def looks(self):
        """Whether the present step is one to be looked at."""
        return bool(self.every) and self.context.step % self.every == 0

    def after_step(self):
        if self.looks:
            self._show()

    def after_epoch(self):
        if self.validate:
            self._keep_best()
        if not self.every:
            self._show()

    def after_training(self):
        """The student ends with the best weights, where they were kept."""
        if self._best is not None:
            self.context.student.load_state_dict(self._best)

    def _keep_best(self):
        context, scores = self.context, self.context.meter.costs.validation
        with self._aside():
            scores.append(self.validate(context.student))
            if scores[-1] > max(scores[:-1], default=-math.inf):
                state = context.student.state_dict()
                self._best = {name: tensor.to("cpu", copy=True) for name, tensor in state.items()}

    def _show(self):
        if self.observe:
            with self._aside():
                self.observe(self.context)

    @contextlib.contextmanager
    def _aside(self):
        with self.context.meter.paused(), self.context.own_randomness(), self.whole():
            yield
