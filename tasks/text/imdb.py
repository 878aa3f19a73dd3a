import re

from mubench.tasks.base import Model
from mubench.tasks.text import TextClassification
from mubench.tasks.text.readers.imdb import ImdbFiles
from mubench.train.recipe import Recipe


class Imdb(ImdbFiles, TextClassification):
    """Sentiment of IMDB reviews (25,000 / 25,000, balanced).

    Rows are ordered by label, then text: the archive's files have no order. Index files made for another order do not
    fit.
    """

    source = "https://ai.stanford.edu/~amaas/data/sentiment; stanfordnlp/imdb on the Hugging Face Hub"
    licence = "none stated by the authors (research use); Rotten Tomatoes: none stated"
    citation = (
        "Maas et al. 2011, aclanthology.org/P11-1015; Rotten Tomatoes: Pang & Lee 2005, aclanthology.org/P05-1015"
    )
    labels = ("neg", "pos")
    random_guess = 1 / 2
    transfer = "Rotten Tomatoes: all 10,662 sentences"
    shortcut = (
        "the writer's own mark in the text (3/10, 8 out of 10), which the labels were made from: up to 5, above it or"
        " none"
    )
    rows = {"train": 25_000, "test": 25_000, "transfer": 10_662}
    archive = "aclImdb"
    remedy = (
        "unpack aclImdb_v1.tar.gz (https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz, sha256 "
        "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe) into FOLDER"
    )
    # As MU-Bench trains its originals.
    recipe = Recipe(lr=5e-5, epochs=20, batch_size=32, lr_schedule="linear", keep_best=True)
    models = {
        "distilbert": Model(
            "DistilBertForSequenceClassification",
            pretrained="distilbert/distilbert-base-uncased",
            inputs=dict(length=128),
        ),
        "bert_base": Model(
            "BertForSequenceClassification", pretrained="google-bert/bert-base-uncased", inputs=dict(length=128)
        ),
        "bert_large": Model(
            "BertForSequenceClassification", pretrained="google-bert/bert-large-uncased", inputs=dict(length=128)
        ),
        "electra_base": Model(
            "ElectraForSequenceClassification",
            pretrained="google/electra-base-discriminator",
            original="jialicheng/imdb-electra-base",
            inputs=dict(length=128),
        ),
        "roberta_base": Model(
            "RobertaForSequenceClassification", pretrained="FacebookAI/roberta-base", inputs=dict(length=128)
        ),
        "roberta_large": Model(
            "RobertaForSequenceClassification", pretrained="FacebookAI/roberta-large", inputs=dict(length=128)
        ),
    }

    def attribute(self, row):
        mark = re.search(r"\b(10|\d(?:\.\d)?)\s*(?:/|out of)\s*10\b", row["text"], re.IGNORECASE)
        return "no mark" if not mark else "low mark" if float(mark[1]) < 5.5 else "high mark"
