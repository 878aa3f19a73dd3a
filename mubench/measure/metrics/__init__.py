"""What is measured: every metric is a pure function of stored predictions, so anyone can recompute it without a GPU.

    >>> from mubench.measure.metrics import METRICS, compute_all
    >>> compute_all(pandas.read_parquet("predictions.parquet"), {"random_guess": 0.1, "original_test_score": 0.9})

``METRICS`` maps a metric's name to its description and orientation; reading it imports nothing heavy. The maths lives
in `mubench.measure.metrics.arrays` as functions of arrays, the primary metrics of tasks (accuracy, ...) in
`mubench.measure.metrics.primary`.
"""

# isort: off
# Each registers its metrics; this is their order in listings, results and tables.
from mubench.measure.metrics import performance, membership, forgetting, reference  # noqa: F401

# isort: on
from mubench.measure.metrics.base import METRICS, Metric, Predictions, compute_all, metric

VERSION = 1  # of the formulas: raised when any of them may give another value

__all__ = ["VERSION", "METRICS", "Metric", "Predictions", "compute_all", "metric"]
