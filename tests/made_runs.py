"""Made-up frames of runs with known answers, as `read_runs` gives them."""

import json

import numpy as np
import pandas as pd

from mubench.leaderboard.records import COLUMNS, VALUES

TEXTS = {
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
    """A frame of runs: each row is what differs from `TEXTS`; ``options`` and ``curve`` as Python values."""
    made = []
    for number, row in enumerate(rows):
        row = {**TEXTS, "id": f"{number:012x}", **row}
        row |= {
            "ratio_order": float(row["ratio"]),
            "options": row["options"] if isinstance(row["options"], str) else json.dumps(row["options"]),
            "curve": row["curve"] if isinstance(row["curve"], str) else json.dumps(row["curve"]),
        }
        made.append(row)
    floats = [*VALUES, "original_score", "parameters", "share", "engine"]
    return pd.DataFrame(made, columns=list(COLUMNS)).astype(dict.fromkeys(floats, "float64"))


def everything(
    tasks=("fashion", "movie_snippets"), methods=("neggrad", "rand_label", "bad_t", "scrub", "salun"), seeds=(0, 1, 2)
):
    """Runs of all six ablations with plausible numbers."""
    rng, rows = np.random.default_rng(0), []
    steps = np.arange(1, 13)
    for number, task in enumerate(tasks):
        modality = ("image", "text")[number % 2]
        for size, model in enumerate(("small", "large")):
            for seed in seeds:
                noise = lambda scale=0.005: float(rng.normal(0, scale))
                base = {
                    "task": task,
                    "modality": modality,
                    "model": model,
                    "seed": seed,
                    "parameters": 1e5 * 4**size,
                    "transfer_score": 0.7 + noise(),
                }
                rows.append(
                    {
                        **base,
                        "method": "original",
                        "relative_flops": 0.0,
                        "flops": 0.0,
                        "forget_score": 0.99 + noise(0.002),
                    }
                )
                rows.append(
                    {
                        **base,
                        "method": "retrain",
                        "relative_flops": 1.0,
                        "flops": 1e10,
                        "forget_score": 0.9 + noise(),
                        "anchor": True,
                    }
                )
                for m, method in enumerate(methods):
                    mine = {**base, "method": method}
                    curve = [
                        {
                            "step": int(s),
                            "seconds": float(s),
                            "cpu_seconds": float(s) * (1 + m / 5),
                            "flops": float(s * 1e9 * 4**size),
                            "test_score": 0.9 - 0.002 * s * m + noise(),
                            "forget_score": 0.4 + 0.5 * s ** -(0.2 + 0.1 * m) + noise(),
                            "retain_score": 0.93,
                        }
                        for s in steps
                    ]
                    for ratio in range(1, 11) if model == "small" else (5,):
                        rows.append(
                            {
                                **mine,
                                "ratio": str(ratio),
                                "test_score": 0.9 - 0.003 * ratio * m + noise(),
                                "forget_score": 0.6 - 0.05 * m + noise(),
                                "transfer_score": 0.7 - 0.01 * m * m + noise(),
                                "curve": curve if ratio == 5 else "",
                            }
                        )
                    for share in (1, 5, 10, 25, 50, 75):
                        rows.append(
                            {
                                **mine,
                                "options": {"lora": float(share)},
                                "share": share + 0.01,
                                "forget_score": 0.95 - 0.003 * share * m / 4 + noise(),
                            }
                        )
                    for strength in (0.1, 1.0, 10.0):
                        said = {} if strength == 1 else {"curriculum_lambda": strength}
                        rows.append(
                            {
                                **mine,
                                "options": {"curriculum": "superloss", **said},
                                "forget_score": 0.65 - 0.05 * m + noise(),
                            }
                        )
    return frame(rows)
