"""What is measured: every metric is a pure function of stored predictions, so anyone can recompute it without a GPU.

    >>> from mubench.measure.metrics import METRICS, compute_all
    >>> compute_all(pandas.read_parquet("predictions.parquet"), {"random_guess": 0.1, "original_test_score": 0.9})

A metric is a function of the run and of its references, other models of the same split: one retrained model, or many.
Installed packages add their own through the entry point ``mubench.metrics``.

``METRICS`` maps a metric's name to its description and orientation; reading it imports nothing heavy. The maths lives
in `mubench.measure.metrics.arrays` as functions of arrays, the primary metrics of tasks (accuracy, ...) in
`mubench.measure.metrics.primary`.
"""

import sys

from mubench.errors import MubenchError

# isort: off
# Each registers its metrics; this is their order in listings, results and tables.
from mubench.measure.metrics import performance, membership, forgetting, reference  # noqa: F401

# isort: on
from mubench.measure.metrics.base import METRICS, ROLES, Metric, Predictions, compare, compute_all, looked_at, metric
from mubench.registry import imported

VERSION = 1  # of the formulas: raised when any of them may give another value
SUITE = tuple(METRICS)  # the suite's own; those of installed packages come after them

__all__ = [
    "VERSION",
    "METRICS",
    "ROLES",
    "SUITE",
    "Metric",
    "Predictions",
    "compare",
    "compute_all",
    "looked_at",
    "metric",
]


def _add_installed():
    """Register the metrics of installed packages, each under the name of its entry point."""
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group="mubench.metrics"), key=lambda entry: entry.name):
        if entry.module in sys.modules and not hasattr(sys.modules[entry.module], entry.attr):
            continue  # it is being imported, and is what imports this: its metric registers itself
        function = imported("metric", entry)
        if entry.name not in METRICS or METRICS[entry.name].compute is not function:
            raise MubenchError(
                f"metric {entry.name} ({entry.value} of the package {entry.dist.name}) is no function of that name"
                " under @mubench.measure.metrics.metric"
            )


_add_installed()
