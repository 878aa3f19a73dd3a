"""What a stranger's result.json may hold: known fields of known types and ranges."""

import shlex
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mubench.measure.metrics import METRICS, SUITE


def _one_command(text):
    """A reader may paste it: nothing but one mubench with its arguments, or nothing."""
    if text and (shlex.join(words := shlex.split(text)) != text or words[0] != "mubench"):
        raise ValueError("it must be one mubench command, quoted as shlex.join does")
    return text


def _of_a_further_set(name):
    """Its score has a name of its own."""
    if f"{name}_score" in (*METRICS, "original_score"):
        raise ValueError("it is the name of another set")
    return name


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
SetName = Annotated[Name, AfterValidator(_of_a_further_set)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
SplitName = Annotated[str, Field(pattern=r"^([0-9]{1,2}(\.[0-9]{1,6})?(-[a-z][a-z0-9_]{0,63})?|file-[0-9a-f]{8})$")]
RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, Field(max_length=400)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0, le=1e24)]
Share = Annotated[float, Field(ge=0, le=1)]
MetricValue = Annotated[float, Field(ge=-1e24, le=1e24)]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
Command = Annotated[str, AfterValidator(_one_command)]
Measures = Annotated[str, Field(pattern=r"^(-|(Loss|Logit|Rep)( \+ (Loss|Logit|Rep)){0,2})$")]
Corruption = Annotated[str, Field(pattern=r"^(-|(Data|Grad|Model)( \+ (Data|Grad|Model)){0,2})$")]
Parameters = Annotated[str, Field(pattern="^(dense|sparse) (internal|external)$")]


class Facts(BaseModel):
    """A part of a stranger's file: of these fields, types and ranges, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TaskFacts(Facts):
    name: Name
    version: Count
    tier: Literal["mini", "paper"] = "mini"
    metric: Literal["accuracy", "micro_f1", "rouge_l", "clip_score"]
    metric_options: dict[Literal["positive_labels"], list[Count]] = {}
    also: list[Literal["accuracy", "verbatim"]] = []
    labels: Annotated[list[Line], Field(max_length=10_000)]
    random_guess: Share | None
    scored_sets: Annotated[list[SetName], Field(max_length=64)] = []


class Taxonomy(Facts):
    """A method's row of the paper's Table 2."""

    forget: Measures
    corruption: Corruption
    retain: Measures
    parameters: Parameters
    schedule: Literal["none", "forget_only", "retain_only", "union", "joint", "alternate"]


class MethodFacts(Facts):
    name: Name
    version: Count
    fingerprint: Fingerprint | None = None
    paper: Line = ""
    taxonomy: Taxonomy | None = None
    hyperparameters: dict[Line, Any] = {}
    recipe: dict[Line, Any] | None = None


class PartFacts(Facts):
    class_: Line = Field(alias="class")
    parameters: Count
    sha256: Hash
    stored: bool


class WrapperFacts(Facts):
    """What wraps the model at inference."""

    name: Name
    version: Count
    options: dict[Line, Any]
    parts: dict[Name, PartFacts]
    loads: bool


class ModelFacts(Facts):
    name: ModelName
    class_: Line = Field("", alias="class")
    parameters: Count = 0
    lora: dict[Line, Any] = {}
    wrapper: WrapperFacts | None = None


class SplitFacts(Facts):
    name: SplitName
    forget: Count = 0
    retain: Count = 0
    checksum: Hash
    data: Hash


class OriginalFacts(Facts):
    """The original model: ``checkpoint`` in a record."""

    source: Line = ""
    sha256: Hash
    test_score: Share | None
    seed: Count | None = None


class BudgetFacts(Facts):
    examples: Count | None
    steps: Count | None
    seconds: Amount | None


class CostFacts(Facts):
    unlearning_seconds: Amount | None
    cpu_seconds: Amount | None = None
    steps: Count | None = None
    examples: Count | None = None
    flops: Amount | None
    peak_memory_bytes: Amount | None
    stopped_by: Name = "epochs"
    losses: list[float | None] = []
    validation: list[float | None] = []


class PredictionFacts(Facts):
    """The file of predictions."""

    sha256: Hash
    rows: Count


class ProbeFacts(Facts):
    """What a probe besides the evaluation did: its file of predictions, or the error that it ended with."""

    version: Count
    options: dict[Line, Any] = {}
    fingerprint: Fingerprint | None
    seconds: Amount
    cpu_seconds: Amount
    steps: Annotated[list[Count], Field(min_length=1, max_length=10_000)] | None = None
    sha256: Hash | None = None
    rows: Count | None = None
    error: Annotated[Line, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _file_or_error(self):
        told = [value is not None for value in (self.steps, self.sha256, self.rows)]
        if (
            any(told) != all(told)
            or all(told) == bool(self.error)
            or self.error is None
            and "error" in self.model_fields_set
        ):
            raise ValueError("a probe has steps, sha256 and rows of its file, or the error that it ended with")
        return self


class EnvironmentFacts(Facts):
    """What a run ran on; versions of libraries besides."""

    model_config = ConfigDict(extra="allow")
    device: Literal["cpu", "cuda"] | None = None
    machine: Line
    memory_bytes: Count | None = None
    threads: Count
    processes: Count = 1
    calibration_seconds: Annotated[float, Field(gt=0, le=1e6)] | None = None
    __pydantic_extra__: dict[str, Line | Count | bool | None]


# What every record of schema 2 says and none of schema 1.
SINCE_2 = ("engine", "budget", "method.fingerprint", "checkpoint.seed", "environment.device")


class ResultFacts(Facts):
    """The fields of a `Result` that a table or page may show; others are left alone."""

    model_config = ConfigDict(extra="ignore")

    schema_version: Literal[1, 2] = Field(alias="schema")
    migrated: None = None  # only reading says that
    id: RunId
    task: TaskFacts
    method: MethodFacts
    model: ModelFacts
    split: SplitFacts
    checkpoint: OriginalFacts
    engine: Count | None = None
    budget: BudgetFacts | None = None
    costs: CostFacts
    environment: EnvironmentFacts
    metrics: Annotated[dict[Name, MetricValue | None], Field(max_length=1_000)]
    probes: Annotated[dict[Name, ProbeFacts], Field(max_length=16)] = {}
    evaluation_seconds: Amount
    weights: Hash | None = None
    started: Time
    command: Command

    @model_validator(mode="after")
    def _metrics_in_their_range(self):
        """Those of the suite are at most 1; of those that packages add nothing is known here."""
        for name, value in self.metrics.items():
            if name in SUITE and value is not None and not -1e6 <= value <= 1:
                raise ValueError(f"metrics.{name} is {value}, it must lie in [-1e6, 1]")
        return self

    @model_validator(mode="after")
    def _of_its_schema(self):
        for name in SINCE_2:
            part, _, field = name.rpartition(".")
            facts = getattr(self, part) if part else self
            if (field in facts.model_fields_set) != (self.schema_version == 2):
                raise ValueError(f"{name} is what schema 2 says and schema 1 does not")
        return self
