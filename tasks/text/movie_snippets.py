import re

from mubench.fetch import Archive
from mubench.tasks.base import Model
from mubench.tasks.readers.tables import labelled
from mubench.tasks.text import TextClassification
from mubench.tasks.text.readers.movie_snippets import read_snippets
from mubench.train.recipe import Recipe


class MovieSnippets(TextClassification):
    """Sentiment of movie-review snippets rated by people (VADER data, 6,000 / 1,000, balanced, deduplicated); twin of
    imdb.
    """

    tier = "mini"
    source = (
        "hutto_ICWSM_2014.tar.gz in the source distribution of vaderSentiment 3.3.2 (`mubench fetch movie_snippets`)"
    )
    licence = "MIT (the collection); the sentences are others', so they are fetched and not shipped"
    citation = "Hutto & Gilbert 2014 (ICWSM); movies: Pang & Lee 2004; products: Hu & Liu 2004"
    labels = ("negative", "positive")
    random_guess = 1 / 2
    transfer = "1,000 Amazon product-review snippets of the same collection"
    shortcut = "a word of negation: 60 % of the training snippets with one are negative, 47 % of the others"
    checksum = "97016d1d189f38a72aa19690181a0de156fdf77b7025afd5208dd95dff29b989"
    checksums = {
        "test": "5a7f6000ffddd84cd068d35dc98164ab36f885e1336b72ad741c639c55517411",
        "transfer": "3e6507d5bebbbf3ba9e19a6c91c225f96f62ed86296863d26fcaf29d368ac03e",
    }
    rows = {"train": 6000, "test": 1000, "transfer": 1000}
    archives = (
        Archive(
            "vaderSentiment==3.3.2",
            "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
            "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
            sdist=True,
        ),
    )
    tokenizer = "movie_snippets-tokenizer.json"
    recipe = Recipe(lr=1.5e-3, epochs=5, batch_size=32, lr_schedule="linear", warmup=0.1)
    models = {
        "bert": Model(
            "BertForSequenceClassification",
            dict(
                vocab_size=4000,
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=128,
                max_position_embeddings=48,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                initializer_range=0.125,
            ),
            inputs=dict(length=48),
        ),
        "distilbert": Model(
            "DistilBertForSequenceClassification",
            dict(
                vocab_size=4000,
                dim=64,
                n_layers=2,
                n_heads=4,
                hidden_dim=128,
                max_position_embeddings=48,
                dropout=0.0,
                attention_dropout=0.0,
                seq_classif_dropout=0.0,
                initializer_range=0.125,
            ),
            inputs=dict(length=48),
        ),
    }

    def attribute(self, row):
        negation = r"\b(no|not|never|nor|neither|none|nothing|nobody|nowhere|without|cannot)\b|n't\b"
        return "negated" if re.search(negation, row["text"], re.IGNORECASE) else "plain"

    def read(self):
        return labelled(
            dict(zip(("train", "test", "transfer"), read_snippets(*self.fetched), strict=True)), self.labels
        )
