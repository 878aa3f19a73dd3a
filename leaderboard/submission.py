"""What a submission is: a folder of results of one method with a description, checked here, packed, pushed.

    NAME/submission.json                                             the description (`Submission`)
    NAME/results/<task>/<model>/<method>/<ratio>/<id>/result.json    and predictions.parquet; with the weights,
    model/*.safetensors NAME/verified.json                                               what the leaderboard found,
    never part of what is sent

or a .zip of that. No code is part of it: a method of one's own is its name, paper, hyperparameters and what came of it.
"""

import contextlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from mubench import registry
from mubench.models import networks
from mubench.cache import whole, writing
from mubench.errors import MubenchError
from mubench.leaderboard import reading, verify
from mubench.leaderboard.reading import LIMITS, Count, Line, Part, Taxonomy
from mubench.leaderboard.rows import REFERENCES, SEEDS, SETTINGS, repeated
from mubench.leaderboard.verify import SAMPLE, SUBMISSION, VERIFIED, Level, Verdict, Verified
from mubench.records.predictions import PREDICTIONS
from mubench.records.result import RESULT
from mubench.records.store import MODEL, Store
from mubench.spec import command, retrain_of

PARTS = r"results/[a-z][a-z0-9_]*/[A-Za-z0-9][A-Za-z0-9_.-]*/[a-z][a-z0-9_]*/([0-9.]+|file)/[0-9a-f]{12}"
FILES = re.compile(rf"{SUBMISSION}|{PARTS}/({RESULT}|{PREDICTIONS}|{MODEL}/[\w-]+\.safetensors)", re.ASCII)
Link = Annotated[
    str, Field(max_length=300, pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~:/?#@!$&*+,;=%-]*)?$")
]


class Submission(Part):
    """submission.json."""

    schema_version: Literal[1] = Field(1, alias="schema", description="version of this format")
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="of the folder")]
    title: Annotated[str, Field(min_length=1, max_length=100, description="the method's name as its authors write it")]
    description: Annotated[str, Field(max_length=2000)] = ""
    paper: Link | None = None
    code: Link | None = None
    contact: Line | None = None
    taxonomy: Taxonomy | None = None
    selection: Literal["default", "tuned"] = Field("default", description="how hyperparameters were chosen")
    trials: Count = Field(0, description="settings tried on validation data, for each task and model")
    budget: Line = Field("", description="of one trial, in words")
    weights: (
        Annotated[
            str,
            Field(
                pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*@[0-9a-f]{40}$",
                description="hub repository @ commit, in it a folder <id>/ with model.safetensors for each result",
            ),
        ]
        | None
    ) = None


# -- reading -----------------------------------------------------------------------------------------------------------


def is_submission(path):
    path = Path(path)
    return path.is_file() and path.suffix == ".zip" or os.path.lexists(path / SUBMISSION)


@contextlib.contextmanager
def opened(path, limits=LIMITS):
    """The folder of a submission, of a .zip a temporary one; refused as a whole where a file of it is not expected
    there.
    """
    path = Path(path)
    if path.is_dir():
        _layout(path, limits)
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield unpack(path, folder, limits)


def unpack(path, folder, limits=LIMITS):
    """Extract a .zip into a folder, after everything that its directory says was found in order."""
    path = Path(path)
    try:
        _directory(path, limits)
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
            names = [entry.filename for entry in entries]
            roots = {name.partition("/")[0] for name in names}
            for entry in archive.infolist():
                kind, folders = stat.S_IFMT(entry.external_attr >> 16), entry.filename.endswith("/")
                inner = entry.filename.partition("/")[2]
                if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise MubenchError(f"{path}: {inner[:80]!r} is encrypted, or compressed in an unusual way")
                if kind not in (0, stat.S_IFDIR if folders else stat.S_IFREG):
                    raise MubenchError(f"{path}: {inner[:80]!r} is a link or device")
                if not folders and not FILES.fullmatch(inner) or entry.orig_filename != entry.filename:
                    raise MubenchError(f"{path}: {entry.orig_filename[:120]!r} is no file of a submission")
                if entry.file_size > max(limits.ratio * entry.compress_size, 2**12) or entry.file_size > _most(
                    inner, limits
                ):
                    raise MubenchError(
                        f"{path}: {inner[:80]!r} would unpack {entry.compress_size:,} to {entry.file_size:,} bytes"
                    )
            if len({name.casefold() for name in names}) < len(names) or len(roots) != 1:
                raise MubenchError(f"{path} holds a file twice, or more than the one folder of a submission")
            [name] = roots
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
                raise MubenchError(f"{path}: {name[:80]!r} cannot be a submission's folder")
            if sum(entry.file_size for entry in entries) > limits.total:
                raise MubenchError(f"{path} would unpack to more than {limits.total:,} bytes")
            for entry in entries:
                target = Path(folder) / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(target, "xb") as file:
                    shutil.copyfileobj(source, file, 2**20)  # at most file_size bytes, their checksum verified
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        struct.error,
    ) as error:
        raise MubenchError(
            f"{path} cannot be unpacked ({type(error).__name__}): give a submission's folder or a .zip of it"
        ) from None
    except Exception as error:
        if type(error).__module__ != "zlib":
            raise
        raise MubenchError(f"{path} cannot be unpacked: its compressed data are damaged") from None
    _layout(Path(folder) / name, limits)
    return Path(folder) / name


def _directory(path, limits):
    """Refuse a zip whose directory is long, before it is read: its entries become objects."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 22 - 20))
        tail = file.read()
    *_, entries, length, _, comment = struct.unpack("<4s4H2LH", tail[-22:])
    if tail[-22:-18] != b"PK\5\6" or comment or tail[:4] == b"PK\6\7" or size > limits.total:
        raise MubenchError(f"{path} is no plain .zip: no comment, no zip64, at most {limits.total:,} bytes")
    if entries > 2 * limits.files or length > 512 * limits.files:
        raise MubenchError(f"{path} announces {entries:,} entries, at most {limits.files:,} files are read")


def _layout(root, limits):
    """Every file where it belongs, none of them a link, none too large; raises with the first that is otherwise."""
    count = total = 0
    for folder, folders, files in os.walk(root, onerror=_raise):
        for name in [*folders, *files]:
            path, about = Path(folder) / name, os.lstat(Path(folder) / name)
            inner = path.relative_to(root).as_posix()
            count, total = count + 1, total + about.st_size
            expected = stat.S_ISDIR if name in folders else stat.S_ISREG
            if not expected(about.st_mode):
                raise MubenchError(f"{root}: {_shown(inner)} is a link or device")
            if name in files and inner != VERIFIED and not FILES.fullmatch(inner):
                raise MubenchError(f"{root}: {_shown(inner)} is no file of a submission")
            if name in files and about.st_size > _most(inner, limits):
                raise MubenchError(
                    f"{root}: {_shown(inner)} has {about.st_size:,} bytes, at most {_most(inner, limits):,} are read"
                )
            if count > 4 * limits.files or total > limits.total:
                raise MubenchError(f"{root} holds more than {limits.files:,} files or {limits.total:,} bytes")


def _raise(error):
    raise MubenchError(f"{error.filename} cannot be listed: {error.strerror}")


def _shown(name):
    return ascii(name)[:120]


def _most(name, limits):
    return {".json": limits.json, ".parquet": limits.predictions}.get(Path(name).suffix, limits.weights) * (
        16 if name == VERIFIED else 1
    )


def read_submission(root, limits=LIMITS):
    """The `Submission` that a folder says it is."""
    path = Path(root) / SUBMISSION
    with reading.sentence(path):
        said = Submission.model_validate(reading.parsed(reading.content(path, limits.json), path, limits))
    if said.name != Path(root).absolute().name:
        raise MubenchError(f"{path}: the folder is called {_shown(Path(root).name)}, the submission {said.name!r}")
    return said


# -- checking ----------------------------------------------------------------------------------------------------------


def check(
    path, weights=False, rerun=False, record=False, sample=SAMPLE, references="leaderboard/results", limits=LIMITS
):
    """Establish the level of every result of a submission, a folder or .zip. Yields a line for each.

    weights: predict again, from the weights that are part of it or on the hub, ``sample`` examples of each set (None:
    all); rerun: run again from the spec; record: write what was found to verified.json beside it; references: a folder
    of results whose retrained models times and predictions are compared with too. Raises `MubenchError` where anything
    is refused; then nothing is recorded.
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
        folders = Store(root / "results").results()
        if not folders:
            raise MubenchError(f"{root} holds no result")
        runs, verdicts, wrong = {}, {}, []
        for folder in folders:
            try:
                runs[folder], verdicts[folder] = judge(folder, submission, weights, rerun, sample, limits)
            except MubenchError as error:
                wrong.append(str(error).replace(f"{root}/", ""))
                yield f"refused: {wrong[-1]}"
        wrong += _one_method(submission, runs.values())
        if wrong:
            raise MubenchError(
                f"{submission.name} is refused for {len(wrong)} reasons in {len(folders)} results, the first:"
                f" {wrong[0]}"
            )
        reached = {verdict.level for verdict in verdicts.values()}
        for asked, level in ((weights, Level.RE_EVALUATED), (rerun, Level.REPRODUCED)):
            if asked and level not in reached:
                raise MubenchError(
                    f"{submission.name}: nothing could be {level}: {next(iter(verdicts.values())).checked}"
                )
        beside = _references(references, runs.values(), limits)
        strange = verify.flags([*runs.values()], beside)
        for folder, run in runs.items():
            verdicts[folder].flags += [flag[:400] for flag in strange[run]]
            yield "; ".join(
                [
                    f"{verdicts[folder].level}: {folder.relative_to(root / 'results')}, seed {run.spec.seed}",
                    *filter(None, [verdicts[folder].checked]),
                    *(f"flag: {flag}" for flag in verdicts[folder].flags),
                ]
            )
        yield from (f"not ranked: {sentence}" for sentence in lacking(runs.values(), beside))
        if record:
            found = Verified(schema=1, results={folder.name: verdict for folder, verdict in verdicts.items()})
            with whole(root / VERIFIED) as file:
                file.write_text(found.model_dump_json(by_alias=True, indent=1) + "\n")
            yield f"recorded in {root / VERIFIED}"


def judge(folder, submission, weights=False, rerun=False, sample=SAMPLE, limits=LIMITS):
    """The `Run` in a result's folder and a `Verdict` on it."""
    from mubench.records.machine import hardware

    run = reading.read_run(folder, limits)
    if folder.parts[-5:] != run.home.parts:
        raise MubenchError(f"{folder}: its result belongs in {run.home}")
    with reading.foreign(folder):
        flags = verify.compare(run)
    level, done = (Level.REPORTED if run.frame is None else Level.RECOMPUTED), []
    source = lambda: _from_hub(submission.weights, folder.name, limits) if submission.weights else folder / MODEL
    for asked, step, reached in (
        (weights, lambda: verify.re_evaluate(run, source(), sample, limits=limits), Level.RE_EVALUATED),
        (rerun, lambda: verify.rerun(run), Level.REPRODUCED),
    ):
        try:
            done += [step()] if asked else []
            level = reached if asked else level
        except verify.Unavailable as error:  # which speaks neither for nor against it
            done.append(f"not {reached}: {error}")
    return run, Verdict(
        level=level,
        files=run.hashes,
        flags=[flag[:400] for flag in flags],
        mubench=version("mubench"),
        machine=hardware()["machine"],
        checked="; ".join(done)[:400],
    )


def _from_hub(source, name, limits):
    """The folder of that name in a hub repository, its weights fetched, unless they are too large."""
    from huggingface_hub import HfApi, snapshot_download

    repo, _, revision = source.partition("@")
    entries = networks._found(source, lambda: [*HfApi().list_repo_tree(repo, recursive=True, revision=revision)])
    files = {entry.path: entry.size for entry in entries if re.fullmatch(rf"{name}/[\w-]+\.safetensors", entry.path)}
    if sum(files.values()) > limits.weights:
        raise MubenchError(
            f"{source}: {sum(files.values()):,} bytes of weights in {name}, at most {limits.weights:,} are fetched"
        )
    return (
        Path(networks._found(source, snapshot_download, repo, revision=revision, allow_patterns=[*files] or ["-"]))
        / name
    )


def _one_method(submission, runs):
    """What is wrong with runs as one submission."""
    names = {run.result.method["name"] for run in runs} - {*REFERENCES}
    ids = [run.result.id for run in runs]
    if len(names) > 1:
        yield f"it holds results of {', '.join(sorted(names))}: one submission is one method (and original and retrain)"
    if len({*ids}) < len(ids):
        yield "a result stands in it twice"
    for same in repeated(runs):
        ids = ", ".join(sorted(run.result.id for run in same))
        yield f"it holds {len(same)} results of {same[0]} (ids {ids}): keep the one that is meant"
    named, code = (lambda run: run.result.method["name"]), lambda run: run.result.method.get("fingerprint")
    for name, codes in _different(runs, named, code):
        yield (
            f"it holds results of {name} from {len(codes)} states of its code (fingerprints {', '.join(codes)}): "
            "run all seeds with one"
        )
    for (name, said, *_), _ in _different(runs, _passed, lambda run: run.settings[SETTINGS.index("hyperparameters")]):
        yield (
            f"it holds results of {name} that were passed the same settings, {said}, but record different "
            "hyperparameters: run all seeds with one"
        )
    for run in runs:
        if run.result.method["name"] in names & {*registry.methods.names()} and submission.taxonomy:
            if submission.taxonomy.model_dump() != (known := run.spec.make_method().taxonomy()):
                yield f"its taxonomy is not that of {run.spec.method}, {known}"
    tuned = any(run.spec.trials for run in runs)
    trials = max((run.spec.trials for run in runs), default=0)
    if submission.selection == "default" and (tuned or submission.trials) or submission.trials < trials:
        yield (
            f"it says its hyperparameters are {submission.selection} with {submission.trials} trials, but its results"
            f" that there were {trials}"
        )
    own = {name for run in runs if run.spec.method in registry.methods.names() for name in run.spec.params}
    if submission.selection == "default" and own:
        yield (
            f"it says its hyperparameters are the defaults, but {', '.join(sorted(own))} were set: say --trials, how"
            " many were tried"
        )


def _passed(run):
    params = json.dumps(run.spec.params, sort_keys=True, default=str)
    return run.result.method["name"], params, run.spec.protocol, run.schema


def _different(runs, key, value):
    """Keys of runs that have different values in common, and those."""
    found = {}
    for run in runs:
        if (said := value(run)) is not None:
            found.setdefault(key(run), set()).add(said)
    return [(name, sorted(values)) for name, values in found.items() if len(values) > 1]


def _references(references, runs, limits):
    """Original and retrain in a folder of results, where ``runs`` stand."""
    places = {(run.result.task["name"], run.result.model["name"], run.result.split["name"]) for run in runs}
    found = [
        folder
        for task, model, ratio in sorted(places)
        for name in REFERENCES
        for folder in sorted(Path(references).glob(f"{task}/{model}/{name}/{ratio}/*/{RESULT}"))
    ]
    return [reading.read_run(path.parent, limits) for path in found]


def lacking(runs, references=()):
    """Sentences on what runs need to become ranked rows: five seeds on the standard split with predictions, by the
    code of now, original and retrain beside them, and known work, at most retraining's."""
    groups, said = {}, []
    for run in runs:
        if run.result.method["name"] not in REFERENCES:
            groups.setdefault((run.group, run.settings), []).append(run)
    if not groups:
        said.append("there is no result but those of original and retrain")
    for (place, _), group in groups.items():
        first, title, seeds = group[0], group[0].title, {run.spec.seed for run in group}
        again = lambda spec, seeds: command(spec, seed=sorted(seeds), limit=None)
        if any(run.frame is None for run in group):
            said.append(f"{title} has results without predictions: they are shown as reported")
        if first.spec.limit or any(run.result.status == "limited" for run in group):
            said.append(f"{title} ran on a few rows only: run it without --limit")
        if first.spec.split_file:
            said.append(f"{title} forgets rows of its own choice: run it with --ratio, on the standard split")
        if first.spec.checkpoint:
            said.append(f"{title} starts from another original: run it without --checkpoint")
        if first.old:
            said.append(f"{title} is of an older version of task, method or engine: run it again")
        if len(seeds) < SEEDS:
            said.append(
                f"{title} has {len(seeds)} of {SEEDS} seeds: {again(first.spec, {*range(SEEDS)} - seeds)}"
                if "@" not in first.spec.method
                else f"{title} has {len(seeds)} of {SEEDS} seeds: evaluate the weights of more"
            )
        beside = [run for run in [*runs, *references] if run.group == place]
        retrained = [run for run in beside if run.anchor]
        start = lambda run: run.result.checkpoint["sha256"]
        originals = {start(run) for run in beside if run.result.method["name"] == "original"}
        without = {
            "original": {run.spec.seed for run in group if start(run) not in originals},
            "retrain": seeds - {run.spec.seed for run in retrained},
        }
        for name, missing in without.items():
            if missing:
                said.append(
                    f"{title} has no {name} of seed {' '.join(map(str, sorted(missing)))} beside it: "
                    f"{again(retrain_of(first.spec).model_copy(update={'method': name}), missing)}"
                )
        mine = [run.result.costs["flops"] for run in group]
        theirs = [run.result.costs["flops"] for run in retrained if run.result.costs["flops"]]
        if None in mine:
            said.append(
                f"{title} is of unknown work: `mubench run` counts FLOPs, weights from elsewhere are not ranked"
            )
        elif theirs and np.mean(mine) > np.mean(theirs):
            said.append(
                f"{title} takes {np.mean(mine):.3g} FLOPs, retraining {np.mean(theirs):.3g}: it is more work "
                "than what it replaces"
            )
    return said


# -- packing -----------------------------------------------------------------------------------------------------------


def submit(
    results,
    name,
    *,
    description="",
    paper=None,
    code=None,
    contact=None,
    taxonomy=None,
    trials=None,
    budget="",
    weights=None,
    out=None,
    push_to_hub=None,
):
    """Check results and pack them as a submission. Yields what is to be said of it, at the end where it lies.

    results: result folders, or folders of them: of one method, and original and retrain where the leaderboard lacks
    them for this machine; name: the method's, as its authors write it; description, paper and code (links), contact:
    for the reader; taxonomy: the five cells of its row of Table 2 (default: as the results say); trials: how many
    settings were tried on validation data for each task
    and model (default: as the results say), budget: of one trial, in words; weights: ``owner/name@commit`` of the hub,
    or ``local`` to pack those saved with the results; out: a folder to lay its folder into (default: this one), or a
    .zip; push_to_hub: a dataset repository to send it to.
    Raises `MubenchError`, before anything is written, where the leaderboard would refuse it.
    """
    folders = list(
        dict.fromkeys(
            folder
            for given in ([results] if isinstance(results, (str, Path)) else results)
            for folder in Store(given).results()
        )
    )
    if not folders:
        raise MubenchError(
            f"no results below {results}: `mubench run` or `mubench evaluate --name … --out …` makes some"
        )
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:64]
    runs = [reading.read_run(folder) for folder in folders]
    mine = [run for run in runs if run.result.method["name"] not in REFERENCES] or runs
    known = max(run.spec.trials for run in mine)
    trials = known if trials is None else trials
    row = dict(zip(Taxonomy.model_fields, taxonomy)) if taxonomy else mine[0].result.method.get("taxonomy")
    if not row and mine[0].spec.method in registry.methods.names():
        row = mine[0].spec.make_method().taxonomy()
    said = {
        "schema": 1,
        "name": slug,
        "title": name,
        "description": description,
        "paper": paper,
        "code": code,
        "contact": contact,
        "taxonomy": row,
        "selection": "tuned" if trials else "default",
        "trials": trials,
        "budget": budget,
        "weights": None if weights == "local" else weights,
    }
    try:
        submission = Submission(**said)
    except ValidationError as error:
        first = error.errors()[0]
        raise MubenchError(f"{first['loc'][0]}={first['input']!r}: {first['msg']}") from None
    with tempfile.TemporaryDirectory() as aside:
        root = Path(aside) / slug
        for run in runs:
            folder = root / "results" / run.home
            folder.mkdir(parents=True, exist_ok=True)
            files = [RESULT, PREDICTIONS] if run.frame is not None else [RESULT]
            files += (
                [path.relative_to(run.folder) for path in networks.weights(run.folder / MODEL)]
                if weights == "local"
                else []
            )
            for file in files:
                (folder / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(run.folder / file, folder / file)
        (root / SUBMISSION).write_text(submission.model_dump_json(by_alias=True, indent=1) + "\n")
        yield from check(root)
        if push_to_hub:
            yield push(root, push_to_hub)
        if out or not push_to_hub:
            yield f"written: {_deliver(root, Path(out or '.'))}"


def _deliver(root, out):
    """A packed folder laid into another one, or zipped; what lies there already is left alone."""
    out = out if out.suffix == ".zip" else out / root.name
    if os.path.lexists(out):
        raise MubenchError(f"{out} is there already: remove it, or choose another --out")
    if out.suffix == ".zip":
        with whole(out) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in root.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(root.parent))
        return out
    with writing(out):
        shutil.copytree(root, out)
    return out


def push(root, repository):
    """Send a packed submission to a dataset repository on the Hugging Face Hub, made if it is not there; returns what
    was done.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, repo_type="dataset", exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=str(root),
            path_in_repo=root.name,
            commit_message=f"Submission {root.name}",
        )
    except Exception as error:
        why = str(error).strip().splitlines()
        raise MubenchError(
            f"{repository} could not be written ({type(error).__name__}: {why[0][:160] if why else 'no reason given'}):"
            " log in with `hf auth login` as somebody who may"
        ) from error
    return f"pushed to {repository}: {done.commit_url}"
