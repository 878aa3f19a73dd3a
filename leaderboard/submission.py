"""A submission: a folder of results of one method with a description, or a .zip of it. Here it is checked, and made.

No code is part of it: a method of one's own is its name, paper, hyperparameters and what came of it. Which files it
holds: `mubench.leaderboard.trust.layout`.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from mubench.errors import MubenchError
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.trust import packing
from mubench.leaderboard.trust.archive import opened
from mubench.leaderboard.trust.description import read_submission
from mubench.leaderboard.trust.flags import raise_flags
from mubench.leaderboard.trust.judge import judge_result
from mubench.leaderboard.trust.layout import SUBMISSION
from mubench.leaderboard.trust.levels import Level, write_verified
from mubench.leaderboard.trust.limits import LIMITS
from mubench.leaderboard.trust.one_method import disagreements
from mubench.leaderboard.trust.re_evaluation import SAMPLE
from mubench.leaderboard.trust.reading import read_run
from mubench.leaderboard.trust.unranked import why_unranked
from mubench.records.result import RESULT
from mubench.records.store import Store


def is_submission(path):
    """Whether a path is a .zip or holds a submission.json."""
    path = Path(path)
    return path.is_file() and path.suffix == ".zip" or os.path.lexists(path / SUBMISSION)


def check(
    path, weights=False, rerun=False, record=False, sample=SAMPLE, references="leaderboard/results", limits=LIMITS
):
    """Establish the level of every result of a submission. Yields a line for each.

    path: its folder or .zip.
    weights: predict again from the weights that are part of it or on the hub.
    rerun: run again from the spec.
    record: write what was found to verified.json beside its submission.json.
    sample: how many examples of each set are predicted again; None: all.
    references: a folder of results whose retrained models times and predictions are compared with too.
    limits: on its files.

    Raises `MubenchError` where anything is refused; then nothing is recorded.
    """
    if record and not Path(path).is_dir():
        raise MubenchError(
            f"{path}: what a check finds is recorded beside a folder's submission.json: unpack the .zip first"
        )
    with opened(path, limits) as root:
        submission = read_submission(root, limits)
        yield (
            f"{submission.name}: {submission.title}, hyperparameters {submission.selection}, {submission.trials} trials"
        )
        runs, verdicts = yield from _judge_all(
            root, submission, weights=weights, rerun=rerun, sample=sample, limits=limits
        )
        _refuse_unreached(submission, verdicts, weights, rerun)
        beside = _references(references, runs.values(), limits)
        flags = raise_flags([*runs.values()], beside)
        for folder, run in runs.items():
            verdicts[folder].flags += [flag[:400] for flag in flags[run]]
            yield _line(folder.relative_to(root / "results"), run, verdicts[folder])
        yield from (f"not ranked: {reason}" for reason in why_unranked(runs.values(), beside))
        if record:
            file = write_verified(root, {folder.name: verdict for folder, verdict in verdicts.items()})
            yield f"recorded in {file}"


def _judge_all(root, submission, **options):
    """Yields a line for every result that is refused. Returns folder → `CheckedRun` and folder → `Verdict`.

    Raises `MubenchError` where one is refused, or all together are not one submission.
    """
    folders = Store(root / "results").results()
    if not folders:
        raise MubenchError(f"{root} holds no result")
    runs, verdicts, reasons = {}, {}, []
    for folder in folders:
        try:
            runs[folder], verdicts[folder] = judge_result(folder, submission, **options)
        except MubenchError as error:
            reasons.append(str(error).replace(f"{root}/", ""))
            yield f"refused: {reasons[-1]}"
    reasons += disagreements(submission, runs.values())
    if reasons:
        raise MubenchError(
            f"{submission.name} is refused for {len(reasons)} reasons in {len(folders)} results, the first:"
            f" {reasons[0]}"
        )
    return runs, verdicts


def _refuse_unreached(submission, verdicts, weights, rerun):
    """Raise where no result reached a level that was asked for."""
    reached = {verdict.level for verdict in verdicts.values()}
    for asked, level in ((weights, Level.RE_EVALUATED), (rerun, Level.REPRODUCED)):
        if asked and level not in reached:
            raise MubenchError(f"{submission.name}: nothing could be {level}: {next(iter(verdicts.values())).checked}")


def _references(references, runs, limits):
    """The `CheckedRun`s of original and retrain in a folder of results, where ``runs`` stand."""
    places = {(run.result.task["name"], run.result.model["name"], run.result.split["name"]) for run in runs}
    found = [
        folder
        for task, model, ratio in sorted(places)
        for name in REFERENCES
        for folder in sorted(Path(references).glob(f"{task}/{model}/{name}/{ratio}/*/{RESULT}"))
    ]
    return [read_run(path.parent, limits) for path in found]


def _line(place, run, verdict):
    """What is said of a result."""
    flags = [f"flag: {flag}" for flag in verdict.flags]
    return "; ".join(filter(None, [f"{verdict.level}: {place}, seed {run.spec.seed}", verdict.checked, *flags]))


def submit(
    results: str | Path | Sequence[str | Path],
    name: str,
    *,
    description: str = "",
    paper: str | None = None,
    code: str | None = None,
    contact: str | None = None,
    taxonomy: Sequence[str] | None = None,
    trials: int | None = None,
    budget: str = "",
    weights: str | None = None,
    out: str | Path | None = None,
    push_to_hub: str | None = None,
) -> Iterator[str]:
    """Check results and pack them as a submission. Yields what is to be said of it, at the end where it lies.

    results: result folders, or folders of them: of one method, and original and retrain where the leaderboard lacks
        them.
    name: the method's, as its authors write it.
    description: for the reader.
    paper: a link.
    code: a link.
    contact: for the reader.
    taxonomy: the five cells of its row of Table 2; None: as the results say.
    trials: how many settings were tried on validation data for each task and model; None: as the results say.
    budget: of one trial, in words.
    weights: ``owner/name@commit`` of the hub, or ``local`` to pack those saved with the results.
    out: a folder to lay its folder into, or a .zip; None: this folder.
    push_to_hub: a dataset repository to send it to.

    Raises `MubenchError`, before anything is written, where the leaderboard would refuse it.
    """
    runs, local = packing.read_results(results), weights == "local"
    about = {"description": description, "paper": paper, "code": code, "contact": contact, "budget": budget}
    submission = packing.describe_submission(runs, name, trials, taxonomy, **about, weights=None if local else weights)
    with tempfile.TemporaryDirectory() as aside:
        root = packing.pack(runs, submission, aside, with_weights=local)
        yield from check(root)
        if push_to_hub:
            yield packing.push(root, push_to_hub)
        if out or not push_to_hub:
            yield f"written: {packing.deliver(root, Path(out or '.'))}"
