"""What runs lack to be ranked rows: five seeds on the standard split with predictions, by the code of now, original and
retrain beside them, and known work, at most retraining's."""

import numpy as np

from mubench.leaderboard.rows import REFERENCES, SEEDS
from mubench.leaderboard.trust.reading import is_elsewhere
from mubench.spec import command, retrain_of


def why_unranked(runs, references=()):
    """Sentences on why rows would not be ranked.

    runs: `CheckedRun`s.
    references: more of them, of original and retrain, that lie elsewhere.
    """
    groups = {}
    for run in runs:
        if run.result.method["name"] not in REFERENCES:
            groups.setdefault((run.group, run.settings), []).append(run)
    if not groups:
        return ["there is no result but those of original and retrain"]
    sentences = []
    for (place, _), group in groups.items():
        beside = [run for run in [*runs, *references] if run.group == place]
        sentences += [
            f"{group[0].title} {reason}"
            for reasons in (_kind(group), _seeds(group), _references(group, beside), _work(group, beside))
            for reason in reasons
        ]
    return sentences


def _kind(group):
    """Of which kind no row is ranked."""
    first = group[0]
    if any(run.frame is None for run in group):
        yield "has results without predictions: they are shown as reported"
    if first.spec.limit or any(run.result.status == "limited" for run in group):
        yield "ran on a few rows only: run it without --limit"
    if first.spec.split_file:
        yield "forgets rows of its own choice: run it with --ratio, on the standard split"
    if first.spec.checkpoint:
        yield "starts from another original: run it without --checkpoint"
    if wrapped := first.result.model.get("wrapper"):
        yield f"is the wrapper {wrapped['name']} at inference: it is shown, and not ranked among weights"
    if first.old:
        yield "is of an older version of task, method or engine: run it again"


def _seeds(group):
    spec, seeds = group[0].spec, {run.spec.seed for run in group}
    if len(seeds) < SEEDS:
        elsewhere = is_elsewhere(spec.method)
        more = "evaluate the weights of more" if elsewhere else _again(spec, {*range(SEEDS)} - seeds)
        yield f"has {len(seeds)} of {SEEDS} seeds: {more}"


def _references(group, beside):
    """Seeds without an original or retrained model ``beside`` them."""
    start = lambda run: run.result.checkpoint["sha256"]
    originals = {start(run) for run in beside if run.result.method["name"] == "original"}
    retrained = {run.spec.seed for run in beside if run.anchor}
    missing = {
        "original": {run.spec.seed for run in group if start(run) not in originals},
        "retrain": {run.spec.seed for run in group} - retrained,
    }
    for name, seeds in missing.items():
        if seeds:
            spec = retrain_of(group[0].spec).model_copy(update={"method": name})
            yield f"has no {name} of seed {' '.join(map(str, sorted(seeds)))} beside it: {_again(spec, seeds)}"


def _work(group, beside):
    flops = [run.result.costs["flops"] for run in group]
    retraining = [run.result.costs["flops"] for run in beside if run.anchor and run.result.costs["flops"]]
    if None in flops:
        yield "is of unknown work: `mubench run` counts FLOPs, weights from elsewhere are not ranked"
    elif retraining and np.mean(flops) > np.mean(retraining):
        yield (
            f"takes {np.mean(flops):.3g} FLOPs, retraining {np.mean(retraining):.3g}: it is more work than what it"
            " replaces"
        )


def _again(spec, seeds):
    """The command that runs a spec for some seeds, on all rows."""
    return command(spec, seed=sorted(seeds), limit=None)
