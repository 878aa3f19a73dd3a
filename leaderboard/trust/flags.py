"""What is strange about runs beside each other: what a reader should know, and nothing is refused for."""

import hashlib
import math

import numpy as np

# How many times as fast as retraining on the same machine, in FLOPs per second of a clock, is no longer believed.
FAST = {"cpu_seconds": 2, "unlearning_seconds": 5}


def raise_flags(runs, references=()):
    """For each of some runs, sentences on what is strange about it beside the others.

    runs: `CheckedRun`s.
    references: more of them: of retrain.

    Returns run → list of sentences.
    """
    flags, seeds, retrained = {run: [] for run in runs}, {}, {}
    for run in dict.fromkeys([*runs, *references]):
        if run.result.method["name"] == "retrain":
            retrained.setdefault(run.group, []).append(run)
    for run in runs:
        seeds.setdefault((run.group, run.settings), []).append(run)
    for group in seeds.values():
        for run in group:
            flags[run] += _outlying(run, group) + _repeated(run, group)
    for run in runs:
        others = [other for other in retrained.get(run.group, []) if other is not run]
        flags[run] += _copied(run, others) + _time_claims(run, others)
    return flags


def _outlying(run, group):
    """Far from the median of at least four seeds: by 8 median deviations, and 4 standard errors of a share of so many
    examples.
    """
    if len(group) < 4 or run.frame is None:
        return []
    for name in ("test", "forget", "retain"):
        metric = f"{name}_score"
        values = np.array([value for other in group if (value := other.metrics.get(metric)) is not None])
        n, middle = (run.frame["set"] == name).sum(), np.median(values) if len(values) else math.nan
        far = max(8 * np.median(np.abs(values - middle)), 2 / math.sqrt(max(n, 1))) if len(values) else math.inf
        if abs(run.metrics.get(metric, middle) - middle) > far:
            return [f"outlier seed: {metric} {run.metrics[metric]:.3f}, median of {len(values)} seeds {middle:.3f}"]
    return []


def _repeated(run, group):
    """Predictions equal to those of other seeds."""
    if run.frame is None or run.result.costs.get("steps") == 0:  # without training no seed makes a difference
        return []
    equal = [
        other.spec.seed
        for other in group
        if other is not run and other.frame is not None and _digest(other) == _digest(run)
    ]
    return [f"predictions equal to those of seed {', '.join(map(str, sorted(equal)))}"] if equal else []


def _copied(run, retrained):
    """Forget predictions equal to those of retrain."""
    if run.frame is None or run.result.method["name"] == "retrain":
        return []
    digest = _digest(run, "forget")
    return [
        f"forget predictions are those of retrain, seed {other.spec.seed}"
        for other in retrained
        if other.frame is not None and _digest(other, "forget") == digest
    ]


def _digest(run, part=None):
    """A hash of losses and predictions, of one set or all."""
    rows = run.frame if part is None else run.frame[run.frame["set"] == part]
    shown = "".join(map(str, rows["prediction"])).encode()
    return hashlib.sha256(rows["loss"].to_numpy("float64").tobytes() + shown).digest()


def _time_claims(run, retrained):
    """Time claims beyond what the same machine did when it retrained."""
    costs, environment, clock = run.result.costs, run.result.environment, run.result.clock
    if costs["flops"] is None:
        return [] if costs["unlearning_seconds"] is None else ["time as its author claims it, without FLOPs"]
    flags, processors = [], environment["threads"] * environment.get("processes", 1)
    if (costs.get("cpu_seconds") or 0) > 1.25 * costs["unlearning_seconds"] * max(1, processors) + 1:
        flags.append(
            f"time claim: {costs['cpu_seconds']:.0f} CPU seconds in {costs['unlearning_seconds']:.0f} seconds on"
            f" {processors} threads"
        )
    comparable = [other.result.costs for other in retrained if clock and other.result.clock == clock]
    for name, factor in FAST.items():
        speeds = [other["flops"] / other[name] for other in comparable if other.get(name) and other["flops"]]
        if speeds and costs.get(name) is not None and costs["flops"] > factor * max(speeds) * costs[name]:
            flags.append(
                f"time claim: {costs['flops']:.3g} FLOPs in {costs[name]:.3g} {name.replace('_', ' ')}, retrain on"
                f" the same machine does {max(speeds):.3g} a second"
            )
            break
    return flags
