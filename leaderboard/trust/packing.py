"""How results become a submission's folder, and where that goes: into another folder, a .zip, the hub."""

import os
import re
import shutil
import zipfile
from pathlib import Path

from pydantic import ValidationError

from mubench import registry
from mubench.cache import whole, writing
from mubench.errors import MubenchError
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.trust.description import Submission
from mubench.leaderboard.trust.layout import SUBMISSION
from mubench.leaderboard.trust.reading import read_run
from mubench.leaderboard.trust.schema import Taxonomy
from mubench.models import networks
from mubench.records.store import MODEL, Store


def read_results(results):
    """The `CheckedRun`s in result folders, or in folders of them; raises `MubenchError` where there are none."""
    roots = [results] if isinstance(results, (str, Path)) else results
    folders = list(dict.fromkeys(folder for root in roots for folder in Store(root).results()))
    if not folders:
        raise MubenchError(
            f"no results below {results}: `mubench run` or `mubench evaluate --name … --out …` makes some"
        )
    return [read_run(folder) for folder in folders]


def describe_submission(runs, title, trials=None, taxonomy=None, **fields):
    """The `Submission` of runs.

    runs: `CheckedRun`s of one method, with original and retrain or without.
    title: the method's name, as its authors write it.
    trials: settings tried; None: as the runs say.
    taxonomy: the five cells of its row of Table 2; None: as the runs say.
    fields: others of `Submission`.

    Raises `MubenchError` naming the first field that is wrong.
    """
    own = [run for run in runs if run.result.method["name"] not in REFERENCES] or runs
    trials = max(run.spec.trials for run in own) if trials is None else trials
    row = dict(zip(Taxonomy.model_fields, taxonomy, strict=False)) if taxonomy else _taxonomy(own[0])
    try:
        return Submission(
            schema=1,
            name=re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:64],
            title=title,
            taxonomy=row,
            selection="tuned" if trials else "default",
            trials=trials,
            **fields,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise MubenchError(f"{first['loc'][0]}={first['input']!r}: {first['msg']}") from None


def _taxonomy(run):
    """As a run records it; of a record that does not say it, the suite's."""
    row = run.result.method.get("taxonomy")
    if not row and run.spec.method in registry.methods.names():
        row = run.spec.make_method().taxonomy()
    return row


def pack(runs, submission, folder, with_weights=False):
    """Lay runs and their description into a ``folder``. Returns the submission's folder in it."""
    root = Path(folder) / submission.name
    for run in runs:
        home = root / "results" / run.home
        home.mkdir(parents=True, exist_ok=True)
        files = [*run.hashes]
        if with_weights:
            files += _weights(run.folder)
        for file in files:
            (home / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.folder / file, home / file)
    (root / SUBMISSION).write_text(submission.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
    return root


def _weights(folder):
    """The files that hold a run's weights, of a wrapper also the one that describes it, relative to its folder."""
    model = folder / MODEL
    if not (model / networks.WRAPPER).is_file():
        return [path.relative_to(folder) for path in networks.weights(model)]
    parts = sorted(path for path in model.iterdir() if path.is_dir())
    return [Path(MODEL, networks.WRAPPER), *(p.relative_to(folder) for part in parts for p in networks.weights(part))]


def deliver(root, out):
    """Lay a packed submission into a folder ``out``, or zip it; what lies there already is left alone. Returns where
    it lies."""
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
    """Send a packed submission to a dataset repository on the Hugging Face Hub, made if it is not there.

    Returns a sentence on what was done.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, repo_type="dataset", exist_ok=True)
        commit = api.upload_folder(
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
    return f"pushed to {repository}: {commit.commit_url}"
