"""The contract of a probe, and how it is carried out: on a copy of the model, with random numbers of its own."""

import contextlib
import copy
import dataclasses
import io
import random
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from mubench import registry
from mubench.errors import MubenchError
from mubench.fingerprint import fingerprint
from mubench.measure.metrics.base import REQUIRED, Predictions
from mubench.measure.predict import predict
from mubench.models.unlearned import Unlearned
from mubench.train.context import Context

REASON = 400  # characters of the reason why a probe failed, in records


class ProbeFailed(MubenchError):
    """Probes failed; all else of the run is in its ``result``, and stored where it is stored."""

    def __init__(self, text, result):
        super().__init__(text)
        self.result = result


class Probe(BaseModel):
    """What is done to an unlearned model after its training, to see what comes of it: an evaluation, an attack.

    A subclass states its options as annotated fields with their defaults, and what it does as `run`:

        class Relearn(Probe):
            steps: int = 20

            def run(self, job):
                yield 0, {"forget": job.sets["forget"]}
                ...  # train job.context.student
                yield self.steps, {"forget": job.sets["forget"]}

    name: as in records; the registry's, from the file.
    version: raised when its numbers change.
    requires: what the task must provide, as a method's ``requires``.
    needs: names of the sets it looks at, such as ``forget`` and ``retain``.
    alters: whether it may change the model: then it gets a copy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    requires: ClassVar[frozenset] = frozenset()
    needs: ClassVar[tuple] = ()
    alters: ClassVar[bool] = True

    @classmethod
    def __pydantic_init_subclass__(cls, **options):
        for fact in ("requires", "needs"):
            if isinstance(getattr(cls, fact), str):
                raise MubenchError(f"{cls.__name__}.{fact}={getattr(cls, fact)!r}: give several names, as a tuple")

    @classmethod
    def checked(cls, options):
        """The probe with some options, name → value or text; raises `MubenchError` where they do not fit."""
        try:
            return cls(**options)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            known = ", ".join(f"{name}={field.default!r}" for name, field in cls.model_fields.items()) or "none"
            raise MubenchError(f"probe {cls.name}: {where}: {first['msg']} (its options: {known})") from None

    def run(self, job: Any):
        """Yields ``(step, sets)``: what is predicted of the model as it is at that moment.

        job: the `mubench.job.Job`. Its ``context.student`` is the model, its ``original()`` the original, read anew,
            and its ``sets`` are the examples by name. ``context.generator``, ``context.batch`` and ``task.forward``
            are as methods use them.

        step: an integer that grows. sets: name → examples; or a frame of predictions, as `mubench.measure.predict`
        makes it. Random numbers are the probe's own.
        """
        raise NotImplementedError

    @property
    def reference(self):
        """What it is called on a command line, with the options that are not the defaults."""
        options = self.model_dump(mode="json", exclude_defaults=True)
        spec = getattr(sys.modules.get(type(self).__module__), "__spec__", None)  # none of what a notebook defines
        reference = registry.probes.reference(self) if spec else self.name
        return ",".join([reference, *(f"{name}={value}" for name, value in options.items())])

    @property
    def setting(self):
        """What makes its predictions comparable with others: version, options, fingerprint of its code."""
        return {
            "version": self.version,
            "options": self.model_dump(mode="json"),
            "fingerprint": fingerprint(type(self)),
        }

    def refuse(self, task, sets=None):
        """Raise `MubenchError` where this probe cannot work.

        task: whose models.
        sets: names of the run's sets (None: not known yet).
        """
        if missing := {*self.requires} - {*task.provides}:
            raise MubenchError(
                f"probe {self.name} cannot work on {task.name}: it needs {', '.join(sorted(missing))}, which the task"
                " does not provide"
            )
        if sets is not None and (missing := {*self.needs} - {*sets}):
            raise MubenchError(f"probe {self.name} needs the {min(missing)} set, which this run does not have")


def load_probes(attack, task=None):
    """The `Probe`s of an attack; raises `MubenchError` where one is unknown, named twice or cannot work on the task.

    attack: references: registry names or ``path/to/file.py:Class``, with options after commas, as in
        ``relearn,steps=20``; classes; or `Probe`s (None: none).
    task: whose models they are for (None: not known yet).
    """
    found = {}
    for reference in [attack] if isinstance(attack, (str, type, Probe)) else attack or ():
        probe = reference if isinstance(reference, Probe) else _load(reference)
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", probe.name):
            raise MubenchError(f"probe {type(probe).__name__} has the name {probe.name!r}: give it one in snake_case")
        if not probe.alters:
            raise MubenchError(f"probe {probe.name} is no attack: every run does it by itself")
        if probe.name in found:
            raise MubenchError(f"probe {probe.name} is asked for twice: its predictions would have one name")
        if task is not None:
            probe.refuse(task)
        found[probe.name] = probe
    return [*found.values()]


def _load(reference):
    text, *options = [reference] if isinstance(reference, type) else str(reference).split(",")
    pairs = [option.partition("=") for option in options]
    if wrong := [option for option, (name, sign, _) in zip(options, pairs, strict=True) if not (name and sign)]:
        raise MubenchError(f"--attack {reference}: {wrong[0]!r} is no option: write NAME=VALUE, such as steps=20")
    return registry.probes.get(text).checked({name: value for name, _, value in pairs})


@dataclasses.dataclass
class Finding:
    """What came of a probe.

    probe: the `Probe`.
    frame: its predictions with their ``step``, or None where it failed.
    seconds, cpu_seconds: what it took; no part of the unlearning's.
    error: what made it fail, or None.
    """

    probe: Probe
    frame: pd.DataFrame | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    error: Exception | None = None

    @property
    def evaluated(self):
        """The predictions of a probe of one step, without it; raises what made it fail."""
        if self.error:
            raise self.error
        return self.frame.drop(columns="step")

    @property
    def reason(self):
        """Why it failed, on one line."""
        error = self.error
        text = str(error) if isinstance(error, MubenchError) else f"{type(error).__name__}: {error}"
        return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))[:REASON]

    def record(self):
        """What a result says of it; the store adds checksum and rows of its file."""
        facts = self.probe.setting | {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        if self.error:
            return facts | {"error": self.reason}
        return facts | {"steps": sorted(map(int, self.frame["step"].unique()))}


def carry_out(probe, job):
    """Do a `Probe` to the model of a job, which stays as it is. Returns the `Finding`; a failure is part of it."""
    finding, started = Finding(probe), (time.perf_counter(), time.process_time())
    try:
        with _apart(probe, job) as place:
            finding.frame = _collected(probe, place)
    except (Exception, SystemExit) as error:
        finding.error = error
    finding.seconds, finding.cpu_seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    return finding


@contextlib.contextmanager
def _apart(probe, job):
    """The job as a probe finds it: with a copy of the model, and random numbers that nobody else misses."""
    if not probe.alters:
        yield job
        return
    context, state, numpy_state = job.context, random.getstate(), np.random.get_state()
    views = job.sets["forget"], job.sets.get("retain", context.retain)
    student = copy.deepcopy(job.unlearned.model)
    student.zero_grad(set_to_none=True)
    for parameter in student.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    try:
        with context.own_randomness():
            seed = context.generator(f"probe/{probe.name}").initial_seed()
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            apart = Context(job.task, student, None, *views, context.seed, context.accelerator)
            facts = {name: fact for name, fact in (job.checkpoint or {}).items() if name != "network"}
            yield dataclasses.replace(
                job, context=apart, unlearned=Unlearned(student), sets=dict(job.sets), checkpoint=facts
            )
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


def _collected(probe, job):
    """All predictions of a probe as one frame with their ``step``."""
    frames, found = {}, probe.run(job)
    if not isinstance(found, Iterator):
        raise MubenchError(f"probe {probe.name}: run() gives a {type(found).__name__}: it yields (step, sets) each")
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], (dict, pd.DataFrame)):
            raise MubenchError(f"probe {probe.name}: run() yields (step, name → examples), or (step, frame)")
        step, given = pair
        if type(step) is not int or step < 0 or step <= max(frames, default=-1):
            raise MubenchError(
                f"probe {probe.name}: step {step!r} after {max(frames, default=None)}: steps grow from 0"
            )
        context = job.context
        frame = given
        if not isinstance(given, pd.DataFrame):
            frame = predict(job.task, context.student, given, accelerator=context.accelerator)
        if missing := {*REQUIRED} - {*frame.columns}:
            raise MubenchError(f"probe {probe.name}: its predictions lack the column {min(missing)!r}")
        if not len(frame) or not frame["set"].map(lambda name: isinstance(name, str)).all():
            raise MubenchError(f"probe {probe.name}: its predictions have no rows, or sets without a name")
        predictions = Predictions(frame)
        for name in frame["set"].unique():
            predictions[name]["score"]
        frame.to_parquet(io.BytesIO())  # what cannot be stored is said now
        frames[step] = frame.assign(step=step)
    if not frames:
        raise MubenchError(f"probe {probe.name} gave no predictions")
    return pd.concat(frames.values(), ignore_index=True)


def raise_failed(findings, result):
    """Raise `ProbeFailed` where any of some findings is a failure.

    result: of the run, which has all the others.
    """
    if failed := [f"probe {finding.probe.name} failed: {finding.reason}" for finding in findings if finding.error]:
        raise ProbeFailed(f"{'; '.join(failed)} (the evaluation and the other probes are kept)", result)
