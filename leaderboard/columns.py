"""The columns of the three frames (runs, rows, rows over groups): what each means and how it is headed in tables."""

import numpy as np

from mubench.leaderboard.rows import SEEDS
from mubench.measure.metrics import METRICS, SUITE

COSTS = ("seconds", "flops", "peak_memory_bytes", "relative_flops", "relative_seconds")
VALUES = (*METRICS, *COSTS)  # columns of numbers that are averaged over seeds
RATES = np.round(
    np.concatenate([np.linspace(0, 0.1, 11), np.linspace(0.15, 1, 18)]), 2
)  # false-positive, of ROC curves

# -- columns of tables: names of values, their headers, and by how much they are multiplied ---------------------------

RANKED = "gap_to_retrain"  # lower is better, and retraining is at 0
FULL = (RANKED, *(name for name in METRICS if name != RANKED), "relative_flops", "flops", "relative_seconds", "seconds")
MAIN = (
    RANKED,
    "test_score",
    "forget_score",
    "retain_score",
    "transfer_score",
    "mia_loss_auc",
    "overall",
    *(name for name in METRICS if name not in SUITE),
    "relative_flops",
    "seconds",
)
ACROSS = (RANKED, "overall", "mia_loss_auc", "relative_flops", "relative_seconds")  # averaged over groups
FACETS = ("overall", "modality", "task", "architecture", "ratio")  # what groups are averaged by

SHORT = {
    "test_score": "test",
    "forget_score": "forget",
    "retain_score": "retain",
    "transfer_score": "transfer",
    "mia_loss_auc": "MIA AUC",
    "mia_tpr_at_1_fpr": "TPR@1%",
    "mia_logistic": "MIA logistic",
    "mia_svc_confidence": "MIA SVC",
    "zrf": "ZRF",
    "zrf_official": "ZRF official",
    "knowledge_gap": "knowledge gap",
    "gap_to_retrain": "gap",
    "js_to_retrain": "JS",
}
ARROWS = {"higher": " ↑", "lower": " ↓", "retrain": ""}
HEADERS = {
    name: SHORT.get(name, name) + (ARROWS[m.better] if m.better in ARROWS else f" →{100 * float(m.better):g}")
    for name, m in METRICS.items()
}
HEADERS |= {
    "seconds": "seconds ↓",
    "flops": "GFLOPs ↓",
    "relative_flops": "work, % ↓",
    "relative_seconds": "time, % ↓",
    "mean_rank": "mean rank ↓",
}
SCALES = {"seconds": 1, "flops": 1e-9, "mean_rank": 1}  # all others are fractions, shown in per cent


def further(frame):
    """The scores in a frame that are not of every task: of the further sets that some tasks name."""
    return [name for name in frame.columns if name.endswith("_score") and name not in RUN_COLUMNS]


def header(name):
    """What heads a value's column."""
    return HEADERS.get(name, name.removesuffix("_score"))


# -- columns of frames: name → meaning ---------------------------------------------------------------------------------

RUN_COLUMNS = {
    "submission": "folder name of the submission, empty for the project's own results",
    "tier": "mini or paper",
    "modality": "of the task",
    "task": "its name, with its version if not 1",
    "model": "the task's name for it",
    "architecture": "the model's class",
    "ratio": "per cent of D to forget, or file…",
    "method": "registry name",
    "version": "of the method",
    "task_version": "of the task",
    "engine": "version of the training code, none of weights from elsewhere",
    "schema": "of the record: 1 does not know the fingerprint",
    "fingerprint": "of the method's code, empty where it is not known",
    "variant": (
        "default, official (the protocol of the authors' code), tuned (on validation data) or custom (anything "
        "else set by hand)"
    ),
    "trials": "settings tried to tune",
    "params": "hyperparameters that were passed (JSON)",
    "options": "other settings of the run (JSON)",
    "seed": "of everything random",
    "status": "complete, or stopped by a budget",
    "level": "of verification",
    "flags": "what a reader should look at",
    **{name: m.description for name, m in METRICS.items()},
    "seconds": "unlearning: CPU seconds without a GPU, wall clock with one",
    "flops": "floating-point operations",
    "peak_memory_bytes": "largest resident size or GPU allocation",
    "random_guess": "score of a model that knows nothing",
    "relative_flops": "work: floating-point operations as a multiple of retraining's",
    "relative_seconds": (
        "seconds as a multiple of retraining's, where machine, threads and versions are known to be the same"
    ),
    "original_score": "of the original model on the test set",
    "parameters": "of the model",
    "wrapper": "what wraps the model at inference, else empty",
    "share": "per cent of the parameters that were trained, if LoRA; else 100",
    "curve": "scores along the run (JSON), where they were recorded",
    "roc": (
        f"true-positive rates of the loss attack at false-positive rates {', '.join(f'{r:g}' for r in RATES[:3])}, …, 1"
    ),
    "checkpoint": "standard, or sha256 of an original of one's own",
    "original": "sha256 of the original it started from",
    "forget_rows": "checksum of the forget rows",
    "data": "checksum of the training rows",
    "ratio_order": "the ratio as a number, infinite for a split file",
    "anchor": "whether distances are measured to it",
    "machine": "hardware",
    "threads": "of the run",
    "environment": "versions (JSON)",
    "hyperparameters": "all of them (JSON)",
    "paper": "of the method",
    "spec": "what was run (JSON)",
    "command": "that repeats the run",
    "started": "UTC",
    "id": "of the spec",
    "folder": "of the result",
    "weights": "sha256 of the unlearned weights",
    "result_sha256": "of result.json",
    "predictions_sha256": "of predictions.parquet",
}

INTERVAL = {  # what every value of a row has: suffix → meaning
    "": "the mean over runs",
    "_half_width": "half-width of its Student-t interval",
    "_low": "low end of its bootstrap interval",
    "_high": "high end of it",
    "_n": "runs that have a value",
}
INTERVAL_ACROSS = {  # and what every value of a row over groups has
    "": "mean over the groups, none where one is missing",
    "_half_width": "half-width of its t interval over seeds",
    "_low": "low end of its bootstrap interval over seeds",
    "_high": "high end of it",
}


def _of_runs(*names):
    return {name: RUN_COLUMNS[name] for name in names}


def _of_values(values, interval):
    """The columns of each value's mean and interval."""
    return {
        f"{name}{suffix}": f"{RUN_COLUMNS[name].rstrip('.')}: {meaning}"
        for name in values
        for suffix, meaning in interval.items()
    }


ROW_COLUMNS = {
    "group": "title of the table the row stands in",
    **_of_runs("tier", "modality", "task", "model", "architecture", "ratio"),
    **_of_runs("submission", "method", "version", "engine", "schema", "fingerprint"),
    "label": "the row's name",
    **_of_runs("variant", "params", "trials"),
    "level": "the lowest level of verification of its runs",
    "flags": "of any of them",
    "rank": (
        f"by {RANKED} among the rows of the same variant that have {SEEDS} seeds, known work, at most "
        "retraining's, and versions of now; equal values share a rank"
    ),
    "n": "runs (seeds)",
    "stopped": "runs that a budget cut short",
    "remarks": "why a row has no rank, and the like",
    **_of_values(VALUES, INTERVAL),
    **_of_runs("random_guess", "checkpoint", "forget_rows", "data"),
}
ACROSS_COLUMNS = {
    "tier": "mini or paper",
    "selection": "default, official or tuned hyperparameters: tables of their own, the references in all",
    "facet": "what the groups averaged have in common: " + ", ".join(FACETS),
    "value": "of the facet",
    **{
        name: ROW_COLUMNS[name]
        for name in ("label", "submission", "method", "version", "schema", "fingerprint", "variant", "trials", "level")
    },
    "rank": f"by {RANKED}, of methods that could be ranked in every group",
    "mean_rank": "over the groups, among the ranked methods",
    "n": "groups the method has, of those that count",
    "groups": "groups that count: at least half of the methods have them",
    "runs": "in those groups",
    "remarks": "why a row has no rank",
    "missing": "the groups it lacks",
    **_of_values(ACROSS, INTERVAL_ACROSS),
}
TEST_COLUMNS = ("tier", "selection", "facet", "value", "methods", "groups", "friedman_p", "critical_difference")
