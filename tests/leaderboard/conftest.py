"""Synthetic results: random predictions, stored as runs store theirs."""
import functools

import numpy as np
import pandas as pd
import pytest

from mubench.metrics import compute_all
from mubench.results import Result, RunSpec, Store

SIZES = {"test": 40, "forget": 20, "retain": 60}
FACTS = (("num_labels", 3), ("random_guess", 1 / 3), ("original_test_score", 0.8))
SECONDS = {"original": 0.0, "retrain": 100.0}


def predictions(noise, transfer=False):
    """A frame of predictions on 3 labels, mostly right ones."""
    rng, frames = np.random.default_rng(noise), []
    for name, size in {**SIZES, **({"transfer": 30} if transfer else {})}.items():
        target = np.arange(size) % 3
        logits = rng.normal(size=(size, 3)) + 1.5 * np.eye(3)[target]
        share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        true = share[np.arange(size), target]
        frames.append(pd.DataFrame({
            "set": name, "index": np.arange(size), "target": target, "prediction": logits.argmax(1),
            "score": (logits.argmax(1) == target).astype(float), "loss": -np.log(true), "confidence": true,
            "logits": list(logits), "incompetent": list(rng.normal(size=(size, 3)))}))
    return pd.concat(frames, ignore_index=True)


@functools.cache
def measured(noise, transfer, facts):
    """Predictions and their metrics, computed once for all tests."""
    frame = predictions(noise, transfer)
    return frame, compute_all(frame, dict(facts))


class Stored:
    """A store to put made-up runs into: ``stored(method, seed, ...)`` writes one and gives its folder."""

    predictions = staticmethod(predictions)

    def __init__(self, root):
        self.root, self.store, self.count = root, Store(root), 0

    def __call__(self, method="salun", seed=0, *, task="fashion", seconds=None, wall=None, status="complete", checkpoint="c" * 64,
                 version=1, machine="a CPU", started="2026-01-01T00:00:00Z", frame=None, transfer=False, **options):
        self.count += 1
        spec = RunSpec(**{"task": task, "model": "resnet", "method": method, "seed": seed, **options})
        seconds = SECONDS.get(method, 10.0 + seed) if seconds is None else seconds
        result = Result(
            schema=1, id=spec.id, spec=spec.model_dump(), metrics={}, predictions={}, started=started, status=status,
            task={"name": task, "version": 1, "metric": "accuracy", "labels": ["a", "b", "c"], "random_guess": 1 / 3},
            method={"name": method, "version": version}, model={"name": "resnet"}, command="",
            environment={"machine": machine, "threads": 1},
            split={"name": spec.ratio, "checksum": "f" * 64, "data": "d" * 64}, evaluation_seconds=1.0,
            checkpoint={"sha256": checkpoint, "test_score": 0.8},
            costs={"unlearning_seconds": seconds if wall is None else wall, "cpu_seconds": seconds, "flops": 3 * 10**9, "peak_memory_bytes": 10**6})
        if frame is None:
            frame, result.metrics = measured(1000 + self.count, transfer, FACTS)
        else:
            result.metrics = compute_all(frame, dict(FACTS))
        return self.store.write(spec, result, frame)


@pytest.fixture
def stored(tmp_path):
    return Stored(tmp_path / "results")
