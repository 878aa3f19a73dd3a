"""The contract test of whatever is named: a task, a method, a result or a submission."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mubench import contracts, registry
from mubench.errors import MubenchError, nearest
from mubench.leaderboard import submission
from mubench.leaderboard.trust.levels import Level, Unavailable
from mubench.leaderboard.trust.re_evaluation import re_evaluate
from mubench.leaderboard.trust.reading import read_run
from mubench.leaderboard.trust.suite import compare_with_suite
from mubench.records.result import RESULT, SCHEMA
from mubench.records.store import MODEL


def check(what: str | Path, **options: Any) -> Iterator[str]:
    """Test one thing against its contract.

    what: a task or method (registry name or ``path/to/file.py:Class``), a result's folder, or a submission (folder or
        .zip).
    options: of `mubench.leaderboard.submission.check`, for submissions only.

    Yields one line per thing that holds. Raises `MubenchError` naming the first that does not.
    """
    if submission.is_submission(what):
        return submission.check(what, **options)
    if any(options.values()):
        raise MubenchError(
            f"{what} is no submission (a folder with submission.json, or a .zip): --weights, --rerun and --record are"
            " for those"
        )
    if Path(what).is_dir():
        return check_result(what)
    if registry.tasks.holds(what):
        return contracts.check_task(what)
    if registry.methods.holds(what) or what in registry.methods.renamed or ".py" in str(what):
        return contracts.check_method(what)
    raise nearest(
        "task, method or result folder", what, [*registry.tasks.names(), *registry.methods.names()], "`mubench ls`"
    )


def check_result(folder):
    """The contract test of one's own result.

    It can be read like a stranger's. Every metric follows from its predictions. Those are of the task's own examples.
    """
    folder = Path(folder)
    if not (folder / RESULT).exists():
        raise MubenchError(f"no result at {str(folder)!r}: give a folder that holds {RESULT}")
    run = read_run(folder)
    result = run.result
    place = f"{result.task['name']}/{result.model['name']}/{result.method['name']}"
    yield f"schema {SCHEMA}: {place}, {result.status}"
    yield f"{len(run.metrics)} metrics follow from {result.predictions.get('rows', 0)} predictions"
    for name, facts in result.probes.items():
        came = f"failed: {facts['error']}" if "error" in facts else f"{facts['rows']} predictions"
        yield f"probe {name}, version {facts['version']}: {came}"
    if run.spec.task in registry.tasks.names():
        flags = compare_with_suite(run)
        yield "; ".join(
            ["spec, split, original, examples and targets are the suite's", *(f"but: {flag}" for flag in flags)]
        )
        if (folder / MODEL).is_dir():
            try:
                yield re_evaluate(run)
            except Unavailable as error:
                yield f"not {Level.RE_EVALUATED}: {error}"
