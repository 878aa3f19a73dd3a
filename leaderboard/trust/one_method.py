"""Why results are not one submission: that is one method, one code, one result of each seed, chosen as it says."""

import json

from mubench import registry
from mubench.leaderboard.rows import REFERENCES, SETTINGS, repeated


def disagreements(submission, runs):
    """Yields sentences on what is wrong with runs as one submission.

    submission: the `Submission` that describes them.
    runs: `CheckedRun`s.
    """
    yield from _one_name(runs)
    yield from _one_each(runs)
    yield from _one_code(runs)
    yield from _one_taxonomy(submission, runs)
    yield from _one_selection(submission, runs)


def _one_name(runs):
    names = _methods(runs)
    if len(names) > 1:
        yield f"it holds results of {', '.join(sorted(names))}: one submission is one method (and original and retrain)"


def _methods(runs):
    """The names of methods other than original and retrain."""
    return {run.result.method["name"] for run in runs} - {*REFERENCES}


def _one_each(runs):
    ids = [run.result.id for run in runs]
    if len({*ids}) < len(ids):
        yield "a result stands in it twice"
    for same in repeated(runs):
        ids = ", ".join(sorted(run.result.id for run in same))
        yield f"it holds {len(same)} results of {same[0]} (ids {ids}): keep the one that is meant"


def _one_code(runs):
    fingerprints = _different(
        runs, key=lambda run: run.result.method["name"], value=lambda run: run.result.method.get("fingerprint")
    )
    for name, found in fingerprints:
        yield (
            f"it holds results of {name} from {len(found)} states of its code (fingerprints {', '.join(found)}): "
            "run all seeds with one"
        )
    hyperparameters = SETTINGS.index("hyperparameters")
    for (name, passed, *_), _ in _different(runs, key=_passed, value=lambda run: run.settings[hyperparameters]):
        yield (
            f"it holds results of {name} that were passed the same settings, {passed}, but record different "
            "hyperparameters: run all seeds with one"
        )


def _passed(run):
    """What was passed to a run besides its seed."""
    params = json.dumps(run.spec.params, sort_keys=True, default=str)
    return run.result.method["name"], params, run.spec.protocol, run.schema


def _different(runs, key, value):
    """Keys of runs that have different values in common, and those; a value that is None does not count."""
    values = {}
    for run in runs:
        if (found := value(run)) is not None:
            values.setdefault(key(run), set()).add(found)
    return [(name, sorted(found)) for name, found in values.items() if len(found) > 1]


def _one_taxonomy(submission, runs):
    own = _methods(runs) & {*registry.methods.names()} if submission.taxonomy else set()
    for run in runs:
        taxonomy = run.spec.make_method().taxonomy() if run.result.method["name"] in own else None
        if taxonomy and submission.taxonomy.model_dump() != taxonomy:
            yield f"its taxonomy is not that of {run.spec.method}, {taxonomy}"


def _one_selection(submission, runs):
    trials = max((run.spec.trials for run in runs), default=0)
    default = submission.selection == "default"
    if default and (trials or submission.trials) or submission.trials < trials:
        yield (
            f"it says its hyperparameters are {submission.selection} with {submission.trials} trials, but its results"
            f" that there were {trials}"
        )
    passed = {name for run in runs if run.spec.method in registry.methods.names() for name in run.spec.params}
    if default and passed:
        yield (
            f"it says its hyperparameters are the defaults, but {', '.join(sorted(passed))} were set: say --trials, how"
            " many were tried"
        )
