"""What a run costs: seconds, steps, examples, FLOPs, peak memory."""

import contextlib
import math
import resource
import sys
import time
import weakref
from dataclasses import asdict, dataclass, field

import torch
from torch.utils.flop_counter import FlopCounterMode

from mubench.train.distributed import summed


@dataclass
class Costs:
    """Counted from the first hook to the last, loading and evaluation excluded.

    unlearning_seconds: wall clock.
    cpu_seconds: of all threads of this process, which other load hardly changes.
    steps: optimiser steps.
    examples: examples with a gradient, in steps, hooks and one-shot passes, over all epochs and processes.
    flops: floating-point operations of matrix products, convolutions and attention, forward and backward, teachers and
        saliency included.
    peak_memory_bytes: the largest resident size of this process (CPU) or the largest allocation (GPU) while unlearning.
    stopped_by: ``epochs`` when all were done, else the budget that ran out.
    losses: mean loss per epoch.
    validation: score after each epoch, where the recipe keeps the best one.
    """

    unlearning_seconds: float = 0.0
    cpu_seconds: float = 0.0
    steps: int = 0
    examples: int = 0
    flops: int = 0
    peak_memory_bytes: int = 0
    stopped_by: str = "epochs"
    losses: list = field(default_factory=list)
    validation: list = field(default_factory=list)

    asdict = asdict


TRACED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # task → what is run → what its passes take


class Meter:
    """Fills in a `Costs` while the work is done."""

    def __init__(self, device):
        self.costs, self.device, self._flops, self._still = Costs(), device, {}, None
        self._done_before = 0  # FLOPs that an earlier run has done: nothing that is traced here has them in it
        self.examples = 0.0  # with a gradient; what a smaller network sees counts for a part of one

    def share(self, task, student, method, *facts):
        """From now on FLOPs are those that an earlier run in this process has traced of the same.

        task: whose network is run; it is what the runs share.
        student: the network, as it is to be trained from here on.
        method, facts: what decides, with it, what a pass does.
        """
        weights = [(name, tuple(p.shape), str(p.dtype), p.requires_grad) for name, p in student.named_parameters()]
        run = type(method), repr((method.hyperparameters(), *facts, student, weights))
        self._flops = TRACED.setdefault(task, {}).setdefault(run, {})

    @contextlib.contextmanager
    def flops(self, key, examples, plain=None):
        """Adds the FLOPs of the block, run on so many examples. Blocks of the same ``key`` (same shapes but for the
        number of examples, to which products, convolutions and attention are proportional) are traced once and counted
        every time.

        plain: (a function that does the same work on some examples, how many), to be traced instead of a block whose
            operations are not counted as they are (of a vectorised convolution each group would count as all). A block
            inside another counts as its own only: a teacher asked in the middle of a step is no part of each later
            step.
        """
        if key in self._flops:
            yield
        elif plain:
            work, of = plain
            with FlopCounterMode(display=False) as counter:
                work()
            self._flops[key] = counter.get_total_flops(), of
            yield
        else:
            before = self.costs.flops - self._done_before
            with FlopCounterMode(display=False) as counter:
                yield
            self._flops[key] = counter.get_total_flops() - (self.costs.flops - self._done_before - before), examples
        traced, of = self._flops[key]
        self.costs.flops += traced * examples // of

    def seconds(self):
        return self._still[0] if self._still else time.perf_counter() - self._start

    def cpu_seconds(self):
        return self._still[1] if self._still else time.process_time() - self._cpu_start

    def work(self):
        """Wall-clock seconds, CPU seconds and FLOPs so far."""
        return self.seconds(), self.cpu_seconds(), self.costs.flops

    def add(self, work):
        """Count work that an earlier run has done for this one."""
        seconds, cpu_seconds, flops = work
        self._start -= seconds
        self._cpu_start -= cpu_seconds
        self.costs.flops += flops
        self._done_before += flops

    @contextlib.contextmanager
    def paused(self):
        """The clocks stand still in the block: measuring is no part of the work."""
        self._still = seconds, cpu_seconds = self.seconds(), self.cpu_seconds()
        yield
        self._start, self._cpu_start, self._still = (
            time.perf_counter() - seconds,
            time.process_time() - cpu_seconds,
            None,
        )

    def __enter__(self):
        self._start, self._cpu_start = time.perf_counter(), time.process_time()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif sys.platform == "linux":
            with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="utf-8") as file:
                file.write("5")  # restarts the kernel's record of the peak resident size
        return self

    def __exit__(self, *_):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.costs.unlearning_seconds, self.costs.cpu_seconds = self.seconds(), self.cpu_seconds()
        self.costs.examples = math.ceil(self.examples - 1e-9)
        self.costs.peak_memory_bytes = self._peak()

    def _peak(self):
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if sys.platform == "linux":
            with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="utf-8") as file:
                return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class Allowance:
    """What a run may use, by its `Budget`: no step is begun that would go over it.

    meter: of the run.
    accelerator: whose processes share it.
    used_up: whether a step was refused.
    """

    def __init__(self, budget, meter, accelerator):
        self.limits, self.meter, self.accelerator = budget.asdict(), meter, accelerator
        self._passes = {}  # sets of a step → how often the last such step asked for each of its examples

    @property
    def used_up(self):
        return self.meter.costs.stopped_by != "epochs"

    def refuses(self, step):
        """Whether a step, its batches being (set, positions), would go over the budget; the costs note which part."""
        costs, meter = self.meter.costs, self.meter
        passes = self._passes.get(tuple(on for on, _ in step), 1)
        needs = {
            "steps": costs.steps + 1,
            "examples": meter.examples + passes * sum(len(positions) for _, positions in step),
        }
        if self.limits["seconds"] is not None:
            needs["seconds"] = summed(self.accelerator, meter.seconds())[0] / self.accelerator.num_processes
        over = [name for name, much in needs.items() if self.limits[name] is not None and much > self.limits[name]]
        costs.stopped_by = over[0] if over else "epochs"
        return self.used_up

    def count(self, step, before):
        """A step is done: its examples and all further passes over them are counted.

        before: the count when it began.
        """
        examples, (more,) = sum(len(at) for _, at in step), summed(self.accelerator, self.meter.examples - before)
        self.meter.examples = before + examples + more
        self._passes[tuple(on for on, _ in step)] = (examples + more) / examples

    def settle(self):
        """The run is over: FLOPs are added up, and what a hook, which is never cut, used beyond the budget is said."""
        costs, limit = self.meter.costs, self.limits["examples"]
        if limit is not None and costs.examples > limit:
            costs.stopped_by = "examples"
        if self.accelerator.num_processes > 1:  # each has counted its own
            costs.flops = int(summed(self.accelerator, costs.flops)[0])
