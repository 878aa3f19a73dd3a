"""The record of a run: its schema, and how it is read from a file."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from mubench import registry
from mubench.errors import MubenchError
from mubench.fingerprint import fingerprint
from mubench.records import machine

SCHEMA: Literal[2] = 2
RESULT = "result.json"


class Result(BaseModel):
    """The record of a finished run: everything needed to judge it and to do it again."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = Field(SCHEMA, alias="schema", description="version of this format")
    migrated: Literal[1] | None = Field(
        None, description="the schema it was written in, where that is older; what that lacks is None"
    )
    id: str = Field(description="hash of the spec and the code")
    spec: dict = Field(description="what was passed (RunSpec)")
    task: dict = Field(
        description=(
            "name, version, tier, metric and its options, further measures (also), labels, random_guess, and"
            " the further sets that are scored (scored_sets), if any"
        )
    )
    method: dict = Field(
        description=(
            "name, version, fingerprint of its code, paper, row of Table 2, all hyperparameters, the recipe they"
            " came to"
        )
    )
    engine: int | None = Field(None, description="version of the training code")
    model: dict = Field(
        description="name, class, number of parameters; with LoRA its share, parameters and the rank of each layer"
    )
    split: dict = Field(description="name, sizes, checksum of the forget rows, checksum of the training rows")
    checkpoint: dict = Field(
        description="the original: source, weights hash, its test score, the seed it was trained with"
    )
    budget: dict | None = Field(
        None, description="the most it might use, resolved before the run: examples, steps, seconds; None: no limit"
    )
    costs: dict = Field(
        description="unlearning seconds, steps, examples, FLOPs, peak memory, why it stopped, losses; None: not known"
    )
    evaluation_seconds: float
    metrics: dict[str, float | None] = Field(
        description="fractions; a function of the predictions, those of probes included, and facts alone"
    )
    predictions: dict = Field(description="sha256 and rows of predictions.parquet")
    probes: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")], dict] = Field(
        {},
        description=(
            "name of a probe besides the evaluation → its version, options and fingerprint, what it took (seconds,"
            " cpu_seconds), and steps, sha256 and rows of probes/NAME.parquet, or the error that it ended with"
        ),
    )
    weights: str | None = Field(
        None, description="sha256 over names, shapes and bytes of the unlearned weights, saved or not"
    )
    environment: dict = Field(
        description="versions, processor, memory, threads, calibration_seconds (`mubench.records.machine`), git"
    )
    command: str = Field(description="the command that repeats this run")
    tuning: dict | None = Field(None, description="how the hyperparameters were chosen (`mubench.tune`); None: by hand")
    curve: list[dict[str, float | None]] = Field(
        [], description="with eval_every: step, seconds, cpu_seconds, FLOPs and scores along the run"
    )
    started: str
    status: Literal["complete", "stopped", "limited"] = Field(
        description="stopped: a budget ran out; limited: a trial on a few rows, never ranked"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_this_schema(cls, record):
        """Records of schema 1 are migrated; of others nothing is guessed. A method goes by its present name."""
        if isinstance(record, dict) and type(version := record.get("schema", SCHEMA)) is int and version != SCHEMA:
            if version == 1:
                return renamed(migrated(record))
            raise PydanticCustomError(
                "schema",
                "its schema is {version}, this mubench reads 1 and {known}: its command with --force runs it again",
                {"version": version, "known": SCHEMA},
            )
        return renamed(record)

    @property
    def seconds(self):
        """What unlearning took: without GPU in CPU seconds, which other load hardly changes; else on the wall clock."""
        cpu = self.costs.get("cpu_seconds") if self.environment.get("device") == "cpu" else None
        return self.costs["unlearning_seconds"] if cpu is None else cpu

    def holds(self, probe):
        """Whether a `Probe` was carried out as it would be now."""
        recorded = self.probes.get(probe.name, {"error": "not asked for"})
        return "error" not in recorded and all(recorded.get(name) == value for name, value in probe.setting.items())

    @property
    def probed(self):
        """Name of each probe that gave predictions → its version, options and fingerprint."""
        wanted = ("version", "options", "fingerprint")
        return {
            name: {fact: facts.get(fact) for fact in wanted}
            for name, facts in self.probes.items()
            if "error" not in facts
        }

    @property
    def clock(self):
        """What two records share whose times may be compared; None where the machine is not known."""
        machine_facts = [self.environment.get(name) for name in machine.ALIKE]
        return None if self.migrated or None in machine_facts else tuple(map(str, machine_facts))

    @property
    def facts(self):
        """What metrics may use besides the predictions."""
        from mubench.measure.metrics.primary import load_primary

        try:
            return {
                "num_labels": len(self.task["labels"]),
                "random_guess": self.task["random_guess"],
                "original_test_score": self.checkpoint["test_score"],
                "scorer": load_primary(self.task["metric"], **self.task.get("metric_options", {})).score,
                "scored_sets": tuple(self.task.get("scored_sets", ())),
                **{measure: True for measure in self.task.get("also", ())},
            }
        except (KeyError, TypeError) as error:
            raise MubenchError(f"result {self.id} lacks a fact that metrics need: {error}") from None


def migrated(record):
    """A record of schema 1 (a dict) as one of schema 2.

    What was not recorded then is None. The spec, the numbers and the id stay.
    """
    record = record | {"schema": SCHEMA, "migrated": 1}
    if isinstance(environment := record.get("environment"), dict):
        cpu = "CPU" in str(environment.get("machine"))  # all that schema 1 says of the device
        record["environment"] = {"device": "cpu" if cpu else "cuda", **environment}
    return record


def renamed(record):
    """A record, or whatever a file holds in its place, in which the suite's method goes by its present name."""
    spec, method = (record.get(part) for part in ("spec", "method")) if isinstance(record, dict) else (None, None)
    if not (isinstance(spec, dict) and isinstance(method, dict) and isinstance(method.get("version"), int)):
        return record
    old = method.get("name")
    if not isinstance(old, str) or old != spec.get("method"):  # a file of somebody's own may be called so
        return record
    name = registry.methods.current(old, method["version"])
    return record | {"spec": spec | {"method": name}, "method": method | {"name": name}}


def task_facts(task):
    """What a result records of its task."""
    return {
        "name": task.name,
        "version": task.version,
        "tier": task.tier,
        "metric": task.metric,
        "metric_options": task.metric_options,
        "also": list(task.also),
        "labels": list(task.labels),
        "random_guess": task.random_guess,
        **({"scored_sets": list(task.scored_sets)} if task.scored_sets else {}),
    }


def method_facts(reference, method=None, recipe=None):
    """What a result records of its method.

    reference: what the run's spec calls it.
    method, recipe: the `Method`, and what it was trained by (None: other code's, of which the name alone is known).
    """
    if method is None:
        name = reference.partition("@")[0]
        return {"name": name, "version": 1, "fingerprint": None, "hyperparameters": {}, "recipe": None}
    return {
        "name": method.name,
        "version": method.version,
        "fingerprint": fingerprint(type(method)),
        "paper": method.paper,
        "taxonomy": method.taxonomy(),
        "hyperparameters": method.hyperparameters(),
        "recipe": asdict(recipe),
    }


def split_facts(split):
    """What a result records of its split."""
    return {
        "name": split.name,
        "forget": len(split.forget),
        "retain": split.n - len(split.forget),
        "checksum": split.checksum,
        "data": split.data,
    }


def read(folder):
    """The `Result` in a folder, or in a file.

    Raises `MubenchError` where there is none, or what is there is no result.
    """
    path = Path(folder)
    path = path / RESULT if path.is_dir() else path
    if not path.is_file():
        raise MubenchError(f"no result at {str(folder)!r}: give a folder that holds {RESULT}")
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        raise MubenchError(
            f"{path} is no result of schema 1 or {SCHEMA}:"
            f" {' '.join(filter(None, ['.'.join(map(str, first['loc'])), first['msg']]))}"
        ) from None


def now():
    """The time, as records write it: in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
