"""What makes a row of a table: which results are compared, which are averaged, which are of the code of now."""

import functools
import json
import math

from mubench import registry
from mubench.measure.metrics import ROLES
from mubench.records.result import SCHEMA
from mubench.spec import ENGINE
from mubench.splits import parse_ratio

REFERENCES = ROLES
VARIANTS = ("default", "official", "tuned", "custom")  # ranked apart, in this order
SEEDS = 5  # of a ranked row
STANDARD = "standard"  # the original that the suite gives each seed
SCHEMA_1_ENGINE = 1  # records of schema 1 do not say which engine trained them: it gave the weights of engine 1
# What results share that are compared, and what those share besides that are averaged.
GROUP = ("task", "model", "ratio_order", "ratio", "checkpoint", "forget_rows", "data")
SETTINGS = ("method", "version", "schema", "fingerprint", "hyperparameters", "variant", "trials", "options")
# Fields of a spec that are no options.
NAMED = {"task", "model", "method", "ratio", "unit", "seed", "params", "split_file", "checkpoint", "limit", "trials"}


def standard(ratios):
    """Which of some splits, a series of their names, are a ratio of the task's default unit: no file, no other unit."""
    return ratios.str.fullmatch(r"[\d.]+")


class Placed:
    """Where a run stands, by its ``result`` and ``spec``."""

    @functools.cached_property
    def order(self):
        """The ratio as a number, infinite for a split file."""
        return math.inf if self.spec.split_file else float(parse_ratio(self.spec.ratio))

    @functools.cached_property
    def group(self):
        """The values of `GROUP`. Each seed has a standard original of its own: only another one makes another group."""
        split, checkpoint = self.result.split, self.result.checkpoint
        original = str(checkpoint["sha256"]) if self.spec.checkpoint else STANDARD
        return (
            versioned(self.result.task),
            str(self.spec.model),
            self.order,
            str(split["name"]),
            original,
            str(split["checksum"]),
            str(split["data"]),
        )

    @functools.cached_property
    def settings(self):
        """The values of `SETTINGS`: what was recorded, whatever was passed to come to it."""
        method, as_json = self.result.method, functools.partial(json.dumps, sort_keys=True, default=str)
        return (
            method["name"],
            method["version"],
            self.schema,
            str(method.get("fingerprint") or ""),
            as_json(method.get("hyperparameters", {})),
            self.variant,
            self.spec.trials,
            as_json(self.options),
        )

    @property
    def seed(self):
        """Of everything random."""
        return self.spec.seed

    @property
    def schema(self):
        """Of the record as it was written."""
        return self.result.migrated or SCHEMA

    @property
    def engine(self):
        """Of the training code; None of weights that other code has unlearned."""
        return SCHEMA_1_ENGINE if self.result.migrated else self.result.engine

    @functools.cached_property
    def options(self):
        """The settings of the run that are no hyperparameters and no place: precision, LoRA, protocol and the like."""
        return self.spec.model_dump(exclude_defaults=True, exclude=NAMED)

    @property
    def variant(self):
        """One of `VARIANTS`."""
        if self.options == {"protocol": "official"} and not (self.spec.params or self.spec.trials):
            return "official"
        by_hand = self.options or self.spec.params and not self.spec.trials
        return "custom" if by_hand else "tuned" if self.spec.trials else "default"

    @property
    def role(self):
        """Which of `REFERENCES` it is to others, where it was done by the recipe and to its end; or None."""
        whole = self.spec.plain and self.result.status == "complete" and not (self.spec.params or self.spec.trials)
        return self.result.method["name"] if whole and self.result.method["name"] in REFERENCES else None

    @property
    def anchor(self):
        """Whether distances are measured to it: retraining by the recipe, to its end."""
        return self.role == "retrain"

    @property
    def old(self):
        """Whether the suite has another version of task, method or engine now."""
        task, method = self.result.task, self.result.method
        return outdated(task["name"], task["version"], method["name"], method["version"], self.engine)

    @property
    def title(self):
        """Task, model, method and ratio."""
        return f"{self.group[0]}/{self.group[1]}/{self.result.method['name']}/{self.group[3]}"

    def __str__(self):
        return f"{self.title}, seed {self.seed}"


def versioned(thing):
    """The name of a task or method, with its version if that is not 1."""
    return f"{thing['name']}" + ("" if thing["version"] == 1 else f" v{thing['version']}")


def outdated(task, task_version, method, method_version, engine):
    """Whether a run is of another version of something than the suite has now.

    task, method: names; of what is not the suite's no version counts.
    engine: version of the training code; None and NaN: no engine.
    """
    parts = (registry.tasks, task, task_version), (registry.methods, method, method_version)
    code = any(name in kind.names() and kind.get(name).version != version for kind, name, version in parts)
    return code or engine is not None and engine == engine and engine != ENGINE


def repeated(runs):
    """The lists of two and more runs that are of one row and seed."""
    by_row_and_seed = {}
    for run in runs:
        key = run.group, run.settings, getattr(run, "submission", ""), run.seed
        by_row_and_seed.setdefault(key, []).append(run)
    return [same for same in by_row_and_seed.values() if len(same) > 1]


def alike(runs):
    """Whether runs are one and the same: equal weights and predictions."""
    hashes = {(run.result.weights, run.result.predictions.get("sha256")) for run in runs}
    return len(hashes) == 1 and None not in next(iter(hashes)) or all(run.result == runs[0].result for run in runs)
