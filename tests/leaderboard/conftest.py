"""Synthetic results: random predictions, stored as runs store theirs."""

import functools
import json

import numpy as np
import pandas as pd
import pytest

from mubench import registry
from mubench.measure.metrics import compute_all
from mubench.records.machine import ALIKE
from mubench.records.result import Result
from mubench.records.store import Store
from mubench.spec import ENGINE, RunSpec

SIZES = {"test": 40, "forget": 20, "retain": 60}
FACTS = (("num_labels", 3), ("random_guess", 1 / 3), ("original_test_score", 0.8))
SECONDS = {"original": 0.0, "retrain": 100.0}
FLOPS = {"original": 0, "retrain": 30 * 10**9}


def predictions(noise, transfer=False):
    """A frame of predictions on 3 labels, mostly right ones."""
    rng, frames = np.random.default_rng(noise), []
    for name, size in {**SIZES, **({"transfer": 30} if transfer else {})}.items():
        target = np.arange(size) % 3
        logits = rng.normal(size=(size, 3)) + 1.5 * np.eye(3)[target]
        share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        true = share[np.arange(size), target]
        frames.append(
            pd.DataFrame(
                {
                    "set": name,
                    "index": np.arange(size),
                    "target": target,
                    "prediction": logits.argmax(1),
                    "score": (logits.argmax(1) == target).astype(float),
                    "loss": -np.log(true),
                    "confidence": true,
                    "logits": list(logits),
                    "incompetent": list(rng.normal(size=(size, 3))),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


@functools.cache
def measured(noise, transfer, facts):
    """Predictions and their metrics, computed once for all tests."""
    frame = predictions(noise, transfer)
    return frame, compute_all(frame, dict(facts))


class Stored:
    """A store to put made-up runs into: ``stored(method, seed, ...)`` writes one and gives its folder,
    ``stored.five(method, …)`` those of five seeds."""

    predictions = staticmethod(predictions)

    def __init__(self, root):
        self.root, self.store, self.count = root, Store(root), 0

    def __call__(
        self,
        method="salun",
        seed=0,
        *,
        task="fashion",
        seconds=None,
        wall=None,
        flops=None,
        status="complete",
        original=None,
        version=None,
        engine=ENGINE,
        code="a" * 16,
        machine="a CPU",
        device="cpu",
        started="2026-01-01T00:00:00Z",
        frame=None,
        transfer=False,
        schema=2,
        hyperparameters=None,
        **options,
    ):
        """original: the hash of what it started from (default: of the seed's own); code: the fingerprint; schema: 1
        leaves out what that did not say."""
        self.count += 1
        spec = RunSpec(**{"task": task, "model": "resnet", "method": method, "seed": seed, **options})
        seconds = SECONDS.get(method, 10.0 + seed) if seconds is None else seconds
        version = version or (registry.methods.get(method).version if method in registry.methods.names() else 1)
        result = Result(
            schema=2,
            id=spec.id,
            spec=spec.model_dump(),
            metrics={},
            predictions={},
            started=started,
            status=status,
            engine=engine,
            budget={"examples": 100, "steps": None, "seconds": None},
            weights=f"{self.count:064x}",
            task={
                "name": task,
                "version": registry.tasks.get(task).version,
                "metric": "accuracy",
                "labels": ["a", "b", "c"],
                "random_guess": 1 / 3,
            },
            method={
                "name": method.partition("@")[0],
                "version": version,
                "fingerprint": code,
                "hyperparameters": {"epochs": 3, **spec.params} if hyperparameters is None else hyperparameters,
            },
            model={"name": "resnet"},
            command="",
            environment={
                **dict.fromkeys(ALIKE, "1"),
                "device": device,
                "machine": machine,
                "threads": 1,
                "processes": 1,
            },
            split={"name": spec.ratio, "checksum": "f" * 64, "data": "d" * 64},
            evaluation_seconds=1.0,
            checkpoint={
                "sha256": original or f"{seed:064x}",
                "test_score": 0.8,
                "seed": None if spec.checkpoint else seed,
            },
            costs={
                "unlearning_seconds": seconds if wall is None else wall,
                "cpu_seconds": seconds,
                "flops": FLOPS.get(method, 3 * 10**9) if flops is None else flops,
                "peak_memory_bytes": 10**6,
                "stopped_by": "examples" if status == "stopped" else "epochs",
            },
        )
        if frame is None:
            frame, result.metrics = measured(1000 + self.count, transfer, FACTS)
        else:
            result.metrics = compute_all(frame, dict(FACTS))
        folder = self.store.write(spec, result, frame)
        if schema == 1:
            as_schema_1(folder)
        return folder

    def five(self, *methods, **options):
        return [self(method, seed, **options) for method in methods for seed in range(5)]


def as_schema_1(folder):
    """The record in a folder as schema 1 wrote it."""
    record = json.loads((folder / "result.json").read_text()) | {"schema": 1}
    for name in ("engine", "budget", "migrated"):
        del record[name]
    del record["method"]["fingerprint"], record["checkpoint"]["seed"], record["environment"]["device"]
    (folder / "result.json").write_text(json.dumps(record))


@pytest.fixture
def stored(tmp_path):
    return Stored(tmp_path / "results")
