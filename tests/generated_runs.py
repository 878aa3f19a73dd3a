"""Generated frames of runs, as large as one likes."""

import numpy as np
import pandas as pd

from made_runs import DEFAULTS
from mubench.leaderboard.columns import RATES, RUN_COLUMNS, VALUES

TASKS = {
    "image": ("digits", "birds"),
    "text": ("reviews", "relations"),
    "speech": ("words",),
    "video": ("moves",),
    "vision_language": ("pairs",),
    "generation": ("talks", "lives"),
}
METHODS = ("original", "retrain", *(f"method_{i:02d}" for i in range(72)))
RATIOS = tuple(map(str, range(1, 11)))
MODELS, SEEDS = 3, 5


def generate(records):
    """A frame of runs as `read_runs` gives it: nine tasks × 3 models × ratios × methods × 5 seeds, as many as asked
    for.
    """
    places = [
        (modality, task, f"model_{m}", ratio)
        for ratio in RATIOS
        for modality, tasks in TASKS.items()
        for task in tasks
        for m in range(MODELS)
    ]
    rng, n = np.random.default_rng(0), min(records, len(places) * len(METHODS) * SEEDS)
    at = np.arange(n)
    place, method, seed = at // (len(METHODS) * SEEDS), at // SEEDS % len(METHODS), at % SEEDS
    pick = lambda position: [places[i][position] for i in place]
    skill = rng.normal(size=len(METHODS))[method] * 0.03 + rng.normal(size=n) * 0.01
    frame = pd.DataFrame({name: np.clip(0.6 + skill + rng.normal(size=n) * 0.02, 0, 1) for name in VALUES})
    texts = {name: value for name, value in DEFAULTS.items() if name not in VALUES} | {
        "modality": pick(0),
        "task": pick(1),
        "model": pick(2),
        "architecture": pick(2),
        "ratio": pick(3),
        "method": [METHODS[i] for i in method],
        "engine": 1.0,
        "seed": seed,
        "original": [f"{s:064x}" for s in seed],
        "ratio_order": [float(places[i][3]) for i in place],
        "anchor": method == 1,
        "original_score": 0.7,
        "command": "mubench run",
        "id": [f"{i:012x}" for i in at],
        "result_sha256": [f"{i:064x}" for i in at],
    }
    curve = (RATES**0.8).round(3).tolist()
    halves = {name: frame[name] * 0.5 for name in ("relative_flops", "relative_seconds")}
    return frame.assign(**texts | {"roc": [curve] * n}, **halves)[list(RUN_COLUMNS)]
