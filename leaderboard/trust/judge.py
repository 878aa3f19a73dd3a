"""The level of one result of a submission."""

import re
from importlib.metadata import version
from pathlib import Path

from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard.trust.layout import WEIGHTS
from mubench.leaderboard.trust.levels import Level, Unavailable, Verdict
from mubench.leaderboard.trust.limits import LIMITS
from mubench.leaderboard.trust.re_evaluation import SAMPLE, re_evaluate
from mubench.leaderboard.trust.reading import read_run
from mubench.leaderboard.trust.reproduction import reproduce
from mubench.leaderboard.trust.suite import compare_with_suite
from mubench.leaderboard.trust.untrusted import library_errors
from mubench.models import networks
from mubench.records.machine import hardware
from mubench.records.store import MODEL


def judge_result(folder, submission, weights=False, rerun=False, sample=SAMPLE, limits=LIMITS):
    """Read a result, compare it with the suite and, where asked for, predict and run again.

    folder: of the result.
    submission: the `Submission` it is part of.
    weights: whether to predict again from its weights.
    rerun: whether to run again from its spec.
    sample: how many examples of each set are predicted again; None: all.
    limits: on its files.

    Returns the `CheckedRun` and a `Verdict`. Raises `MubenchError` where anything is found against it.
    """
    run = read_run(folder, limits)
    task, model, method, *rest = folder.parts[-5:]
    name = registry.methods.current(method, run.result.method["version"])
    if (task, model, name, *rest) != run.home.parts:
        raise MubenchError(f"{folder}: its result belongs in {run.home}")
    with library_errors(folder):
        flags = compare_with_suite(run)
    steps = {}
    if weights:
        steps[Level.RE_EVALUATED] = lambda: re_evaluate(
            run, _weights_folder(folder, submission, limits), sample, limits=limits
        )
    if rerun:
        steps[Level.REPRODUCED] = lambda: reproduce(run)
    level, sentences = (Level.REPORTED if run.frame is None else Level.RECOMPUTED), []
    for reached, step in steps.items():
        try:
            sentences.append(step())
            level = reached
        except Unavailable as error:  # which speaks neither for nor against it
            sentences.append(f"not {reached}: {error}")
    return run, Verdict(
        level=level,
        files=run.hashes,
        flags=[flag[:400] for flag in flags],
        mubench=version("mubench"),
        machine=hardware()["machine"],
        checked="; ".join(sentences)[:400],
    )


def _weights_folder(folder, submission, limits):
    """Where the weights of a result lie: on the hub, fetched unless they are too large, or beside its predictions."""
    if not submission.weights:
        return folder / MODEL
    from huggingface_hub import HfApi, snapshot_download

    source, name = submission.weights, folder.name
    repo, _, revision = source.partition("@")
    tree = lambda: [*HfApi().list_repo_tree(repo, recursive=True, revision=revision)]
    sizes = {
        entry.path: entry.size
        for entry in networks.load_or_explain(source, tree)
        if re.fullmatch(rf"{name}/{WEIGHTS}", entry.path, re.ASCII)
    }
    if sum(sizes.values()) > limits.weights:
        raise MubenchError(
            f"{source}: {sum(sizes.values()):,} bytes of weights in {name}, at most {limits.weights:,} are fetched"
        )
    wanted = {"revision": revision, "allow_patterns": [*sizes] or ["-"]}
    return Path(networks.load_or_explain(source, snapshot_download, repo, **wanted)) / name
