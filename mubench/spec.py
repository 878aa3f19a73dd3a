"""What is run: `RunSpec`, its checks and defaults, its budget, and the one writer of command lines.

Importing it imports no torch.
"""

import dataclasses
import hashlib
import json
import os
import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from mubench import registry
from mubench.errors import MubenchError
from mubench.models import networks
from mubench.splits import ratio_name

ENGINE = 1  # of the training code: raised when it gives other weights (tests/mubench/golden_weights.json)


class Incompatible(MubenchError):
    """The method needs what the task does not provide."""


class Options(BaseModel):
    """How a method is run, on a task or on a model of one's own: what composes with every method."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        description="of everything random in unlearning and of the original it starts from, not of the split",
    )
    protocol: Literal["suite", "official"] = Field(
        default="suite",
        description=(
            "suite: every method by the original's optimiser and batches; official: by those of its authors' code"
        ),
    )
    precision: Literal["no", "bf16", "fp16"] = Field(default="no", description="mixed precision")
    lora: float | None = Field(
        default=None,
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="train LoRA adapters of so many per cent of the original's parameters",
    )
    lora_rank: int | None = Field(default=None, gt=0, description="train LoRA adapters of this rank")
    curriculum: Literal["superloss"] | None = Field(default=None, description="weighs examples by how easy they are")
    curriculum_lambda: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="of superloss: the larger, the more alike all examples count",
    )
    curriculum_tau: Literal["mean", "log_classes"] | FiniteFloat = Field(
        default="mean", description="of superloss, the loss of an average example: mean, log_classes or a number"
    )
    max_examples: int | None = Field(
        default=None,
        gt=0,
        description="budget of examples with a gradient (default, of runs on a task: what retraining uses)",
    )
    max_steps: int | None = Field(default=None, gt=0, description="budget of optimiser steps")
    max_seconds: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="budget of seconds: what it cuts depends on the machine"
    )

    @model_validator(mode="after")
    def _one_answer(self):
        if self.lora and self.lora_rank:
            raise ValueError(
                f"lora={self.lora:g} and lora_rank={self.lora_rank} are two answers to one question: give one of them"
            )
        if not self.curriculum and {"curriculum_lambda", "curriculum_tau"} & {*self.model_dump(exclude_defaults=True)}:
            raise ValueError("curriculum_lambda and curriculum_tau are of a curriculum: say curriculum='superloss' too")
        return self

    @classmethod
    def checked(cls, **fields):
        """The options; raises `MubenchError` naming the first field that is wrong. None stands for a default."""
        try:
            return cls(**{name: value for name, value in fields.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise MubenchError(
                f"{where}={first['input']!r}: {first['msg']}" if where else first["msg"].partition(", ")[2]
            ) from None

    @property
    def adapt(self):
        """What LoRA is asked for, ``share`` or ``rank`` (see `lora.solve`), or None."""
        asked = {"share": self.lora, "rank": self.lora_rank}
        return {name: value for name, value in asked.items() if value is not None} or None

    def fits(self, method, num_labels):
        """Raises where a `Method` cannot be run so, or a task of ``num_labels`` classes (None: of none)."""
        if self.adapt and method.start == "fresh":
            raise Incompatible(f"{method.name} starts from a new model, LoRA adapts a trained one: run it without")
        if self.adapt and not method.adapts:
            raise Incompatible(
                f"{method.name} edits the weights themselves, LoRA leaves them as they are: run it without"
            )
        if self.curriculum_tau == "log_classes" and not num_labels:
            raise MubenchError("curriculum_tau='log_classes': there are no classes here, use mean or a number")


class RunSpec(Options):
    """What exactly is run; frozen. ``id`` is the hash of its canonical JSON and of the code of task and method."""

    task: str = Field(description="registry name of the task, or path/to/file.py:Class")
    model: str = Field(description="name of the task's model")
    method: str = Field(
        description=(
            "registry name of the method, path/to/file.py:Class, or name@hash of weights that other code has unlearned"
        )
    )
    ratio: str = Field(default="5", description="per cent of D to forget, in (0, 50]; ignored with split_file")
    params: dict[str, Any] = Field(
        default={}, description="hyperparameters passed; the others keep the method's defaults"
    )
    split_file: str | None = Field(
        default=None, description="an index file, one training row per line, instead of a ratio"
    )
    checkpoint: str | None = Field(
        default=None, description="the original model, a folder or hub id, instead of the standard one"
    )
    limit: int | None = Field(
        default=None, gt=0, description="only so many rows of each set: a trial, marked and never ranked"
    )
    trials: int = Field(
        default=0, ge=0, description="how many settings were tried on validation data to choose params; 0: by hand"
    )

    @property
    def plain(self):
        """Whether the method runs as it is, without LoRA and curriculum."""
        return not (self.adapt or self.curriculum)

    @property
    def id(self):
        """12 hex digits, the same for the same spec and code, whatever order its options were given in."""
        content = self.model_dump(exclude_defaults=True) | {"ratio": self.ratio, "seed": self.seed}
        content["code"] = [ENGINE, registry.tasks.code(self.task), registry.methods.code(self.method)]
        if self.split_file:
            del content["ratio"]
            content["split_file"] = hashlib.sha256(Path(self.split_file).read_bytes()).hexdigest()
        if self.checkpoint and networks.weights(self.checkpoint):
            # other weights in the same folder are another run
            content["checkpoint"] = networks.weights_sha256(self.checkpoint)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self):
        """Where its result lies in a store: task/model/method/ratio/id."""
        names = registry.tasks.name(self.task), self.model, registry.methods.name(self.method)
        return Path(*names, "file" if self.split_file else self.ratio, self.id)

    def make_method(self):
        """The `Method` with its hyperparameters, those of the protocol and those passed."""
        return registry.load_method(
            self.method, **registry.methods.get(self.method).overrides(self.protocol) | self.params
        )


def make_spec(**fields):
    """A `RunSpec` from what a user typed.

    Names are checked, ratio and hyperparameters are brought to one form, and defaults are left out.

    fields: those of `RunSpec`; None stands for a default.

    Raises `Incompatible` for a method that cannot work on the task, `MubenchError` for anything else that is wrong.
    """
    task, cls = registry.load_task(fields["task"]), registry.methods.get(fields["method"])
    fields["task"] = fields["task"] if isinstance(fields["task"], str) else task.name
    fields["model"] = task.model(fields.get("model"))
    given = {name: value for name, value in fields.items() if value is not None}
    fields = {name: field.default for name, field in RunSpec.model_fields.items()} | given
    fields["ratio"], protocol = ratio_name(fields["ratio"]), fields["protocol"]
    if not isinstance(fields["params"], dict):
        raise MubenchError(f"params={fields['params']!r}: it must be a dict, hyperparameter → value")
    method = registry.load_method(fields["method"], **cls.overrides(protocol) | fields["params"])
    fields["params"] = {n: v for n in fields["params"] if (v := getattr(method, n)) != cls.defaults(protocol)[n]}
    if fields["split_file"] and not Path(fields["split_file"]).is_file():
        raise MubenchError(f"no index file {str(fields['split_file'])!r}: give a file with one row index per line")
    if missing := method.needs - set(task.provides):
        raise Incompatible(
            f"{method.name} cannot work on {task.name}: it needs {', '.join(sorted(missing))}, which the task "
            "does not provide"
        )
    spec = RunSpec.checked(**fields)
    spec.fits(method, task.num_labels)
    if method.batchwise or task.batchwise:
        refuse_cut(method, method.recipe(task.model_recipe(spec.model)), int(os.environ.get("WORLD_SIZE", 1)))
    return _without_default_budget(spec, method, task)


def _without_default_budget(spec, method, task):
    """The spec, its ``max_examples`` left out where it is what the budget is by default: printed commands state it."""
    if spec.max_examples is None:
        return spec
    default = spec.model_copy(update={"max_examples": None})
    return default if Budget.of(default, method, task).examples == spec.max_examples else spec


@dataclasses.dataclass(frozen=True)
class Budget:
    """The most a run may use, whichever comes first; None: no limit.

    examples: examples with a gradient, forward and backward, in steps, hooks and one-shot passes.
    steps: of the optimiser.
    seconds: of the wall clock, only where the user said so, as what it cuts depends on the machine.
    """

    examples: int | None = None
    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, spec, method, task, retain=None):
        """The budget of a run, a function of its spec.

        By default it is the examples that retraining uses: the epochs of the original's recipe times |D_r|. A method
        that needs more than that by its definition has none.

        spec, method, task: of the run.
        retain: |D_r|, where it is known (default: counted).
        """
        examples = spec.max_examples
        if examples is None and not method.unbounded:
            retain = len(task.split(spec.ratio, spec.split_file).retain) if retain is None else retain
            examples = task.model_recipe(spec.model).epochs * min(retain, spec.limit or retain)
        return cls(examples, spec.max_steps, spec.max_seconds)

    asdict = dataclasses.asdict


def refuse_cut(method, recipe, processes):
    """Raise `Incompatible` where the batches of a loss that couples their examples would be cut.

    method, recipe: of the run.
    processes: how many share it.
    """
    why = f"the loss of {method.name} couples the examples of a batch, which may not be cut: run it"
    if recipe.accumulate > 1:
        raise Incompatible(f"{why} with accumulate=1, not {recipe.accumulate}")
    if processes > 1:
        raise Incompatible(f"{why} on one process, not {processes}")


def retrain_of(spec):
    """The run that retrains from scratch where ``spec`` unlearns."""
    return RunSpec(
        **spec.model_dump(include={"task", "model", "ratio", "seed", "split_file", "checkpoint", "precision", "limit"}),
        method="retrain",
    )


def command(spec, verb="run", **flags):
    """The command line of a verb for a spec, quoted for the shell.

    spec: a `RunSpec`, or some of its fields.
    verb: of the command line.
    flags: more of the verb's (True: a switch), or other values for the spec's.

    Defaults are left out, but for model, ratio and seed where they are given.
    """
    fields = (spec if isinstance(spec, dict) else spec.model_dump()) | flags
    words = ["mubench", verb, *(fields.pop(name) for name in ("task", "method") if name in fields)]
    for name, value in (fields.pop("params", None) or {}).items():
        words += ["--set", f"{name}={list(value) if isinstance(value, tuple) else value}"]
    defaults = {name: field.default for name, field in RunSpec.model_fields.items()} | {"out": "results"}
    where = [
        name
        for name in ("model", "ratio", "seed")
        if name in fields and not (name == "ratio" and fields.get("split_file"))
    ]
    rest = [
        name
        for name, value in fields.items()
        if name not in ("model", "ratio", "seed") and value not in (None, defaults.get(name))
    ]
    for name in where + rest:
        value = fields[name]
        values = [] if value is True else value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)
