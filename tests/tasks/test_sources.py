"""Published data: from the original archives, from the Hub (a stand-in: the same files in a local folder), and what is
wrong with them.
"""

import json
import os
import pickle
import shutil

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from mubench.errors import MubenchError
from mubench.registry import load_task
from mubench.tasks.base import rows_checksum
from mubench.tasks.readers.files import picture, plain_pickle


@pytest.fixture
def archived(tmp_path, monkeypatch):
    """Task name → (the task reading its sample as a user's folder, whatever the number of rows, and that folder)."""

    def make(name):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        monkeypatch.setenv("MUBENCH_DATA", str(tmp_path / "data"))
        task = load_task(name)
        task.rows = {}
        task.write_sample(folder)
        return task, folder

    return make


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in of the Hub: repository → split → columns, as Parquet files that the library reads."""

    def make(repositories):
        for repo, (splits, features) in repositories.items():
            for split, columns in splits.items():
                path = tmp_path / "hub" / repo / "data" / f"{split}-00000-of-00001.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(path)

        def load(repo, config=None, revision=None, data_files=None):
            assert len(revision) == 40  # pinned
            return real(str(tmp_path / "hub" / repo), config)

        real = datasets.load_dataset
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(datasets, "load_dataset", load)
        monkeypatch.delenv("MUBENCH_DATA", raising=False)

    return make


def label(names):
    return datasets.ClassLabel(names=list(names))


# -- the same rows from everywhere -------------------------------------------------------------------------------------


def test_cifar100_from_the_hub_has_the_rows_of_the_archive(archived, hub):
    task, _ = archived("cifar100")
    splits = {
        name: {
            "img": [Image.frombytes("RGB", (32, 32), pixels) for pixels in rows["image"]],
            "fine_label": rows["label"],
            "coarse_label": [7] * len(rows),
        }
        for name, rows in task.data.items()
        if name != "transfer"
    }
    hub(
        {
            "uoft-cs/cifar100": (
                splits,
                {"img": datasets.Image(), "fine_label": label(task.labels), "coarse_label": datasets.Value("int64")},
            )
        }
    )
    there = load_task("cifar100")
    there.rows = {}
    assert set(there.data) == {"train", "test"} and there.data["train"].column_names == ["image", "label"]
    assert {n: rows_checksum(rows) for n, rows in there.data.items()} == {
        n: rows_checksum(task.data[n]) for n in ("train", "test")
    }
    assert there.split(5) == task.split(5)


def test_imdb_from_the_hub_has_the_rows_of_the_archive_in_their_order(archived, hub):
    task, _ = archived("imdb")
    features = {"text": datasets.Value("string"), "label": label(task.labels)}
    mixed = {name: {column: rows[column][::-1] for column in ("text", "label")} for name, rows in task.data.items()}
    films = mixed.pop("transfer")
    cut = {
        name: {column: values[part] for column, values in films.items()}
        for name, part in (("train", slice(40)), ("validation", slice(40, 50)), ("test", slice(50, None)))
    }
    hub(
        {
            "stanfordnlp/imdb": (mixed | {"unsupervised": {"text": ["unlabelled"], "label": [-1]}}, features),
            "cornell-movie-review-data/rotten_tomatoes": (cut, features),
        }
    )
    there = load_task("imdb")
    there.rows = {}
    assert {n: rows_checksum(rows) for n, rows in there.data.items()} == {
        n: rows_checksum(rows) for n, rows in task.data.items()
    }
    assert set(there.data["train"]["text"][:30]) == {
        t for t in there.data["train"]["text"] if any(w in t for w in ("dull", "awful", "boring"))
    }


def test_a_hub_data_set_with_other_columns_is_refused(hub):
    hub(
        {
            "uoft-cs/cifar100": (
                {"train": {"picture": ["x"]}, "test": {"picture": ["x"]}},
                {"picture": datasets.Value("string")},
            )
        }
    )
    with pytest.raises(MubenchError, match="no column 'fine_label', only picture"):
        load_task("cifar100").data["train"]


def test_what_was_pickled_by_python_2_is_read(tmp_path):
    """The opcodes of CIFAR's own files, which Python 3 does not write: byte strings (U), numpy.core."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01"
        b"\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06abcdeftb"
    )
    (tmp_path / "train").write_bytes(b"\x80\x02}(U\x04data" + array + b"U\x0bfine_labels](K\x05K\x07eu.")
    held = plain_pickle(tmp_path / "train")
    assert held[b"fine_labels"] == [5, 7] and held[b"data"].tolist() == [list(b"abc"), list(b"def")]


def test_channels_and_rows_of_cifar_stay_in_place(archived):
    task, folder = archived("cifar100")
    raw = plain_pickle(folder / "cifar-100-python" / "test")
    prepared = task.prepare(task.data["test"], "resnet_18")
    assert (
        torch.equal(prepared["pixels"].flatten(1), torch.from_numpy(raw[b"data"]))
        and prepared["labels"].tolist() == raw[b"fine_labels"]
    )
    noise = np.load(folder / "CIFAR-100-C" / "gaussian_noise.npy")
    rows = task.held_out[1]
    at = next(i for i, row in enumerate(rows) if row % 15 == 0 and row // 15 % 5 == 1)
    assert task.pixels(task.data["transfer"])[at].tolist() == noise[40 + rows[at]].tolist()
    assert list(task.data["transfer"]["label"]) == [raw[b"fine_labels"][row] for row in rows]


XML = """<?xml version="1.0"?><document id="d0"><sentence id="d0.s0" text="Aspirin, iron and zinc salts&#10;slow it.">
<entity id="e0" charOffset="0-6" text="Aspirin"/>
<entity id="e1" charOffset="9-12;23-27" text="iron salts"/>
<entity id="e2" charOffset="18-27"/>
<pair id="p0" e1="e1" e2="e0" ddi="true" type="mechanism"/>
<pair id="p1" e1="e1" e2="e2" ddi="false"/></sentence></document>"""


def test_ddi_corpus_is_masked_as_blurb_does(archived):
    task, folder = archived("ddi")
    shutil.rmtree(folder / "data_generation" / "data")
    for name, inside in (
        ("train", "Train/DrugBank/a.xml"),
        ("dev", "Train/MedLine/b.xml"),
        ("test", "Test/DrugBank/a.xml"),
    ):
        for path, content in ((f"raw_data/DDICorpus/{inside}", XML), (f"indexing/DDI/{name}_files.tsv", f"{inside}\n")):
            path = folder / "data_generation" / path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    assert list(task.data["train"]["text"]) == ["@DRUG$, @DRUG$ slow it.", "Aspirin, @DRUG-DRUG$ slow it."]
    assert [task.labels[i] for i in task.data["test"]["label"]] == ["DDI-mechanism", "DDI-false"]
    (folder / "data_generation/raw_data/DDICorpus/Test/DrugBank/a.xml").write_text(XML[:200])
    with pytest.raises(MubenchError, match="a.xml is no whole XML file"):
        task.from_archive(folder)


def test_pairs_of_photographs_stand_in_their_order(archived):
    task, folder = archived("nlvr2")
    task.models = {"vilt": load_task("nlvr2").sample(_new(folder.parent / "tiny")).models["vilt"]}
    batch = task.prepared("vilt", "train")[torch.tensor([3, 7])]
    rows = task.data["train"].select([3, 7])
    assert batch["pixel_values"].shape[:2] == (2, 2) and batch["pixel_mask"].shape == (
        2,
        2,
        *batch["pixel_values"].shape[-2:],
    )
    for i in range(2):
        for j, side in enumerate(("left", "right")):
            with Image.open(folder / "images" / rows[side][i]) as photograph:
                red = photograph.getpixel((0, 0))[0] / 255
            assert batch["pixel_values"][i, j, 0, 0, 0].item() == pytest.approx((red - 0.5) / 0.5, abs=1e-5)
    assert batch["labels"].tolist() == rows["label"] == [1, 1] and batch["index"].tolist() == [3, 7]


def test_a_published_original_may_name_its_revision(tmp_path, monkeypatch):
    import huggingface_hub

    from mubench.models import networks

    asked = []
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repo, revision=None, **_: asked.append((repo, revision)) or tmp_path,
    )
    assert networks.local("who/what@refs/pr/2") == networks.local("who/what") == tmp_path
    assert asked == [("who/what", "refs/pr/2"), ("who/what", None)]


# -- what is wrong, in one sentence ------------------------------------------------------------------------------------


def _new(path):
    path.mkdir()
    return path


def _pickled(path, **changed):
    held = plain_pickle(path) | {name.encode(): value for name, value in changed.items()}
    path.write_bytes(pickle.dumps(held, protocol=2))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


class Shout:
    def __reduce__(self):
        return os.system, ("echo unpickled",)


CIFAR, DDI = "cifar-100-python/train", "data_generation/data/DDI/train.tsv"
WRONG = {
    "half a file": ("cifar100", lambda f: _cut(f / CIFAR), rf"{CIFAR} cannot be read"),
    "a file missing": ("cifar100", lambda f: (f / CIFAR).unlink(), rf"{CIFAR} is missing: unpack the whole archive"),
    "code in a pickle": (
        "cifar100",
        lambda f: (f / CIFAR).write_bytes(pickle.dumps({b"data": Shout()})),
        "it asks for posix.system",
    ),
    "no pickle": ("cifar100", lambda f: (f / CIFAR).write_text("<html>404</html>"), rf"{CIFAR} cannot be read"),
    "CIFAR-10": (
        "cifar100",
        lambda f: (f / CIFAR).write_bytes(pickle.dumps({b"data": [], b"labels": []})),
        "a fine label for each",
    ),
    "fewer labels": (
        "cifar100",
        lambda f: _pickled(f / CIFAR, fine_labels=[1, 2]),
        "pictures of 3×32×32 and a fine label for each",
    ),
    "a label too high": ("cifar100", lambda f: _pickled(f / CIFAR, fine_labels=[100] * 60), "holds the label 100"),
    "corruption missing": ("cifar100", lambda f: (f / "CIFAR-100-C/fog.npy").unlink(), "fog.npy is missing"),
    "corruption cut short": ("cifar100", lambda f: _cut(f / "CIFAR-100-C/fog.npy"), "CIFAR-100-C holds a damaged file"),
    "other corruptions": (
        "cifar100",
        lambda f: np.save(f / "CIFAR-100-C/fog.npy", np.zeros((3, 2))),
        r"fog.npy has the shape \(3, 2\)",
    ),
    "corruptions of others": (
        "cifar100",
        lambda f: np.save(f / "CIFAR-100-C/labels.npy", np.zeros(200, int)),
        "not the labels of the test",
    ),
    "no such class": ("imdb", lambda f: shutil.rmtree(f / "aclImdb/train/pos"), "train/pos is missing"),
    "an empty review": ("imdb", lambda f: (f / "aclImdb/test/neg/0_1.txt").write_text(" \n"), "0_1.txt is empty"),
    "no text": (
        "imdb",
        lambda f: (f / "aclImdb/test/neg/0_1.txt").write_bytes(b"caf\xe9 "),
        r"0_1.txt is no utf-8 text \(byte 3\)",
    ),
    "a review missing": (
        "imdb",
        lambda f: (f / "aclImdb/test/neg/0_1.txt").unlink(),
        "test set of imdb has 39 rows where the published one has 40",
    ),
    "a column missing": (
        "ddi",
        lambda f: (f / DDI).write_text("id\ttext DDI-false\n"),
        "train.tsv, line 1: it must have an id",
    ),
    "an unknown kind": (
        "ddi",
        lambda f: (f / DDI).write_text("a\tb\tDDI-int\na\tb\tDDI-none\n"),
        "line 2: the label 'DDI-none' is none of",
    ),
    "a pair without text": (
        "ddi",
        lambda f: (f / DDI).write_text("a\t\tDDI-int\n"),
        "line 1: it must have an id, a text",
    ),
    "half a line": ("nlvr2", lambda f: _cut(f / "data/train.json"), r"train.json, line \d+: it is no example of NLVR2"),
    "no truth value": (
        "nlvr2",
        lambda f: (f / "data/dev.json").write_text(
            json.dumps({"identifier": "dev-1-0-0", "sentence": "Two dogs.", "label": "Maybe"})
        ),
        "dev.json, line 1: it needs a sentence and the label",
    ),
    "a picture missing": (
        "nlvr2",
        lambda f: (f / "images/dev/dev-3-0-img1.png").unlink(),
        "dev-3-0-img1.png is missing, a picture of dev.json",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_bad_data_is_refused_by_name(what, archived, capfd):
    name, spoil, sentence = WRONG[what]
    task, folder = archived(name)
    task.rows = {"train": 60, "test": 40}
    spoil(folder)
    with pytest.raises(MubenchError, match=sentence):
        task.data["train"]
    assert "unpickled" not in capfd.readouterr().out


def test_a_truncated_photograph_is_named_when_it_is_needed(archived):
    task, folder = archived("nlvr2")
    for path in (folder / "images/dev/dev-3-0-img1.png", folder / "images/dev/dev-4-0-img0.png"):
        path.write_bytes(path.read_bytes()[:60] if "img1" in path.name else b"no picture at all")
        with pytest.raises(MubenchError, match=f"{path.name} is no picture that can be read"):
            picture(path)
    with pytest.raises(MubenchError, match="dev-3-0-img1.png is no picture"):
        task.pairs(task.data["validation"])


@pytest.mark.parametrize("name", ["cifar100", "imdb", "ddi", "nlvr2"])
def test_a_data_set_of_another_size_is_refused(name, archived):
    task, _ = archived(name)
    task.rows = load_task(name).rows
    with pytest.raises(
        MubenchError, match=f"train set of {name} has 60 rows where the published one has {task.rows['train']}"
    ):
        task.data["train"]


@pytest.mark.parametrize(
    "name, parts",
    [
        ("cifar100", ["cifar-100-python.tar.gz", "md5 eb9058c3", "uoft-cs/cifar100 not to be had"]),
        ("imdb", ["aclImdb_v1.tar.gz", "sha256 c40f74a1"]),
        ("ddi", ["DDICorpus-2013.zip"]),
        ("nlvr2", ["their terms have to be accepted"]),
    ],
)
def test_data_that_are_not_at_hand_come_with_what_to_do(name, parts, tmp_path, monkeypatch, cli):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setenv("MUBENCH_DATA", "")  # put back afterwards
    done = cli("split", name, "--data-dir", tmp_path)
    assert (
        done.code == 1
        and done.err.count("\n") == 1
        and all(part in done.err for part in [*parts, str(tmp_path), "--data-dir FOLDER"])
    )


@pytest.mark.parametrize("name, gone", [("cifar100", "CIFAR-100-C"), ("imdb", "rt-polaritydata")])
def test_a_task_runs_without_its_transfer_set_and_says_so(name, gone, archived, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    task, folder = archived(name)
    task.rows = {"transfer": 1}
    shutil.rmtree(folder / gone)
    assert set(task.load()) == {"train", "validation", "test"}
    assert f"{name} runs without its transfer set: {gone} of {name} is not at hand" in caplog.text
