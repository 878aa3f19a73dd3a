"""`mubench fetch` of models and data sets from a hub, and everything after it without one."""

import json
import random
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

CARD = """
from mubench.train.recipe import Recipe
from mubench.tasks.base import Model
from mubench.tasks.text import TextClassification


class Reviews(TextClassification):
    labels = ("bad", "good")
    recipe = Recipe(lr=1e-3, epochs=1, batch_size=4)
    models = {"bert": Model("BertForSequenceClassification", pretrained="owner/bert", original="owner/bert-reviews"),
              "large": Model("BertForSequenceClassification", pretrained="owner/large")}

    def read(self):
        import datasets

        return datasets.load_dataset("owner/reviews")

    def preparation(self, model):
        return 8

    def prepare(self, dataset, model):
        from mubench.models.networks import processor
        import torch

        tokenizer = processor("AutoTokenizer", "owner/bert")
        texts = tokenizer(list(dataset["text"]), padding="max_length", max_length=8, return_tensors="pt")
        return {**texts, "labels": torch.tensor(dataset["label"])}

    def collate(self, batch, model):
        return batch
"""
DOWNLOADS = """
import sys
import time

time.sleep = lambda seconds: None  # between the attempts of the hub's library
from mubench.models import networks
from mubench.errors import MubenchError

for name in sys.argv[1:]:
    try:
        networks.download(name)
        print(name, "is here")
    except MubenchError as error:
        print(error)
"""


@pytest.fixture
def card(tmp_path):
    (tmp_path / "reviews.py").write_text(CARD)
    return f"{tmp_path / 'reviews.py'}:Reviews"


@pytest.fixture
def repositories(hub):
    """A pretrained BERT with all that a hub repository has lying about, an original, and a data set."""
    config = BertConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    bert, original = hub.root / "models/owner/bert", hub.root / "models/owner/bert-reviews"
    for folder in (bert, original):
        BertForSequenceClassification(config).save_pretrained(folder)
    (bert / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "dull", "film", "play"])
    )
    BertTokenizerFast(str(bert / "vocab.txt")).save_pretrained(bert)
    for name in (
        "pytorch_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
        "model.fp16.safetensors",
        "onnx/model.onnx",
        "onnx/config.json",
    ):
        (bert / name).parent.mkdir(exist_ok=True)
        (bert / name).write_bytes(b"not wanted")
    data = hub.root / "datasets/owner/reviews/data"
    data.mkdir(parents=True)
    for name, n in (("train", 40), ("test", 10)):
        rows = pyarrow.table(
            {
                "text": [f"{'fine' if i % 2 else 'dull'} {'film' if i % 3 else 'play'} {i}" for i in range(n)],
                "label": [i % 2 for i in range(n)],
            }
        )
        pyarrow.parquet.write_table(rows, data / f"{name}-00000-of-00001.parquet")
    return hub


def downloads(hub, cache, *names):
    """What `networks.download` says of each repository, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", DOWNLOADS, *names],
        env=hub.environment(cache),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_fetched_once_everything_runs_without_a_network(repositories, card, mubench, tmp_path):
    cache, mine = tmp_path / "huggingface", {"MUBENCH_CACHE": str(tmp_path / "cache")}
    done = mubench("fetch", card, env=repositories.environment(cache) | mine)
    assert done.code == 0, done.err
    assert (
        f"{card} bert: owner/bert, owner/bert-reviews\n{card}: 40 training rows" in done.out and "large" not in done.out
    )
    asked = {r.rpartition("/")[2] for r in repositories.requests if r.startswith("GET /owner/bert/")}
    assert asked >= {"model.safetensors", "config.json", "tokenizer.json"} and not {
        a for a in asked if a.endswith((".bin", ".h5", ".msgpack", ".onnx"))
    }
    assert "model.fp16.safetensors" not in asked
    before = len(repositories.requests)
    offline = repositories.environment(cache, offline=True) | mine
    done = mubench("run", card, "retrain", "--limit", 4, "--out", tmp_path / "out", env=offline)
    assert done.code == 0, done.err + done.out
    result = json.loads(next((tmp_path / "out").rglob("result.json")).read_text())
    assert result["checkpoint"]["source"] == "owner/bert-reviews" and result["model"]["parameters"] > 0
    assert len(repositories.requests) == before


def test_a_dry_run_names_the_command_that_brings_the_configuration(hub, card, mubench, tmp_path):
    environment = hub.environment(tmp_path / "huggingface")
    done = mubench("run", card, "finetune", "--model", "large", "--dry-run", "--out", tmp_path / "out", env=environment)
    assert done.code == 0 and f"`mubench fetch {card} --model large` brings it" in done.out and hub.requests == []


def test_what_cannot_be_had_is_one_sentence_with_the_remedy(repositories, tmp_path):
    repositories.refused["owner/bert-reviews"] = 403
    gated, missing, nameless = downloads(
        repositories, tmp_path / "huggingface", "owner/bert-reviews", "owner/nothing", "no such/name/here"
    )
    assert (
        gated.startswith("owner/bert-reviews could not be loaded (GatedRepoError")
        and "accept its licence" in gated
        and "`hf auth login`" in gated
    )
    assert "owner/nothing" in missing and "no such repository, or it is private" in missing
    assert "no such/name/here could not be loaded" in nameless


def test_without_a_hub(hub, tmp_path):
    hub.url = "http://127.0.0.1:9"  # where nobody listens
    [refused] = downloads(hub, tmp_path / "huggingface", "owner/bert")
    assert refused.startswith("owner/bert could not be loaded (ConnectError") and "HF_ENDPOINT, a mirror" in refused


def test_a_file_cut_short_is_gone_on_with(hub, tmp_path):
    weights = hub.root / "models/owner/big/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(random.Random(0).randbytes(12_000_000))
    hub.cut["model.safetensors"] = 11_000_000
    assert downloads(hub, tmp_path / "huggingface", "owner/big") == ["owner/big is here"]
    first, second = [r for r in hub.requests if r.startswith("GET") and "model.safetensors" in r]
    assert "bytes=" not in first and second.endswith("bytes=10485760-")  # the library keeps 10 MiB at a time
    [stored] = (tmp_path / "huggingface").rglob("model.safetensors")
    assert stored.read_bytes() == weights.read_bytes()
