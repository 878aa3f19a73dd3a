"""Made-up frames of runs with known answers, as `read_runs` gives them."""

import json

import numpy as np
import pandas as pd

from mubench.leaderboard.columns import RUN_COLUMNS, VALUES

DEFAULTS = {
    "submission": "",
    "tier": "mini",
    "modality": "image",
    "task": "fashion",
    "model": "resnet",
    "architecture": "ResNet",
    "ratio": "5",
    "method": "salun",
    "version": 1,
    "task_version": 1,
    "engine": 1,
    "schema": 2,
    "fingerprint": "a" * 16,
    "variant": "default",
    "trials": 0,
    "params": "{}",
    "options": "{}",
    "seed": 0,
    "status": "complete",
    "level": "reproduced",
    "flags": "",
    "checkpoint": "standard",
    "original": "c" * 64,
    "forget_rows": "f" * 64,
    "data": "d" * 64,
    "anchor": False,
    "machine": "a CPU",
    "threads": 1,
    "environment": "{}",
    "hyperparameters": "{}",
    "paper": "",
    "spec": "{}",
    "command": "",
    "started": "2026-01-01T00:00:00Z",
    "folder": "results/x",
    "weights": "",
    "result_sha256": "",
    "predictions_sha256": "",
    "random_guess": 0.1,
    "original_score": 0.9,
    "parameters": 1e5,
    "share": 100.0,
    "wrapper": "",
    "curve": "",
    "roc": None,
    "seconds": 10.0,
    "flops": 1e9,
    "relative_flops": 0.1,
    "relative_seconds": 0.1,
    "gap_to_retrain": 0.05,
    "test_score": 0.9,
    "forget_score": 0.9,
    "retain_score": 0.95,
    "mia_loss_auc": 0.5,
}


def frame(rows):
    """A frame of runs: each row is what differs from `DEFAULTS`; ``options`` and ``curve`` as Python values."""
    made = []
    for number, row in enumerate(rows):
        row = {**DEFAULTS, "id": f"{number:012x}", **row}
        row |= {
            "ratio_order": float(row["ratio"]),
            "options": row["options"] if isinstance(row["options"], str) else json.dumps(row["options"]),
            "curve": row["curve"] if isinstance(row["curve"], str) else json.dumps(row["curve"]),
        }
        made.append(row)
    floats = [*VALUES, "original_score", "parameters", "share", "engine"]
    return pd.DataFrame(made, columns=list(RUN_COLUMNS)).astype(dict.fromkeys(floats, "float64"))


def everything(
    tasks=("fashion", "movie_snippets"), methods=("neggrad", "rand_label", "bad_t", "scrub", "salun"), seeds=(0, 1, 2)
):
    """Runs of all six ablations with plausible numbers, of two models on each task."""
    rng, rows = np.random.default_rng(0), []
    noise = lambda scale=0.005: float(rng.normal(0, scale))
    for number, task in enumerate(tasks):
        for size, model in enumerate(("small", "large")):
            for seed in seeds:
                place = {
                    "task": task,
                    "modality": ("image", "text")[number % 2],
                    "model": model,
                    "seed": seed,
                    "parameters": 1e5 * 4**size,
                    "transfer_score": 0.7 + noise(),
                }
                rows += _references(place, noise)
                for order, method in enumerate(methods):
                    unlearned = {**place, "method": method}
                    rows += _ratios(unlearned, order, size, noise)
                    rows += _shares(unlearned, order, noise)
                    rows += _curricula(unlearned, order, noise)
    return frame(rows)


def _references(place, noise):
    original = {"method": "original", "relative_flops": 0.0, "flops": 0.0, "forget_score": 0.99 + noise(0.002)}
    retrain = {"method": "retrain", "relative_flops": 1.0, "flops": 1e10, "forget_score": 0.9 + noise(), "anchor": True}
    return [{**place, **original}, {**place, **retrain}]


def _ratios(unlearned, order, size, noise):
    """Runs at all ratios of the small model, at 5 % of the large one; those at 5 % with their curve. order: of the
    method, the later the worse.
    """
    curve = [
        {
            "step": int(step),
            "seconds": float(step),
            "cpu_seconds": float(step) * (1 + order / 5),
            "flops": float(step * 1e9 * 4**size),
            "test_score": 0.9 - 0.002 * step * order + noise(),
            "forget_score": 0.4 + 0.5 * step ** -(0.2 + 0.1 * order) + noise(),
            "retain_score": 0.93,
        }
        for step in np.arange(1, 13)
    ]
    return [
        {
            **unlearned,
            "ratio": str(ratio),
            "test_score": 0.9 - 0.003 * ratio * order + noise(),
            "forget_score": 0.6 - 0.05 * order + noise(),
            "transfer_score": 0.7 - 0.01 * order * order + noise(),
            "curve": curve if ratio == 5 else "",
        }
        for ratio in (range(1, 11) if unlearned["model"] == "small" else (5,))
    ]


def _shares(unlearned, order, noise):
    """Runs with adapters."""
    return [
        {
            **unlearned,
            "options": {"lora": float(share)},
            "share": share + 0.01,
            "forget_score": 0.95 - 0.003 * share * order / 4 + noise(),
        }
        for share in (1, 5, 10, 25, 50, 75)
    ]


def _curricula(unlearned, order, noise):
    """Runs with a curriculum; its strength is 1 by default."""
    return [
        {
            **unlearned,
            "options": {"curriculum": "superloss", **({} if strength == 1 else {"curriculum_lambda": strength})},
            "forget_score": 0.65 - 0.05 * order + noise(),
        }
        for strength in (0.1, 1.0, 10.0)
    ]
