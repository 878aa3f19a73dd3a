from mubench.tasks.base import Model
from mubench.tasks.text import TextClassification
from mubench.tasks.text.readers.ddi import DdiFiles
from mubench.train.recipe import Recipe


class Ddi(DdiFiles, TextClassification):
    """Interactions of two drugs in a sentence, DDI-2013 as BLURB prepares it (25,296 / 2,496 / 5,716 pairs, 4 kinds and
    none).

    Read are BLURB's train.tsv, dev.tsv and test.tsv (number, text with both drugs masked as @DRUG$, label), or, where
    its script has not run (it needs Python below 3.9), its lists of documents together with the corpus, which are then
    masked likewise. Which wording the published originals were trained on (masked, marked or plain) is not known.
    """

    source = (
        "https://github.com/isegura/DDICorpus, prepared as https://microsoft.github.io/BLURB (data_generation.tar.gz)"
    )
    licence = "CC BY-NC 4.0 (corpus)"
    citation = "Herrero-Zazo et al. 2013, doi 10.1016/j.jbi.2013.07.011; BLURB: Gu et al. 2021, arXiv:2007.15779"
    labels = ("DDI-false", "DDI-mechanism", "DDI-advise", "DDI-effect", "DDI-int")
    metric = "micro_f1"
    metric_options = {"positive_labels": [1, 2, 3, 4]}
    also = ("accuracy",)
    # Micro-F1 is no accuracy: of 5,716 test pairs 979 interact, and naming one of five classes blindly finds a fifth of
    # those while calling four fifths of all pairs positive: 2 TP / (positives + called positive) = 0.0705. (Saying
    # "false" always gives 0.)
    random_guess = 2 * (979 / 5) / (979 + 5716 * 4 / 5)
    rows = {"train": 25_296, "validation": 2_496, "test": 5_716}
    archive = "data_generation"
    remedy = (
        "unpack BLURB's data_generation.tar.gz (https://microsoft.github.io/BLURB/sample_code/data_generation.tar.gz)"
        " into FOLDER and DDICorpus-2013.zip (https://github.com/isegura/DDICorpus) into"
        " FOLDER/data_generation/raw_data"
    )
    # As MU-Bench trains its originals.
    recipe = Recipe(lr=5e-5, epochs=20, batch_size=32, lr_schedule="linear", keep_best=True)
    models = {
        "pubmedbert_abstract": Model(
            "BertForSequenceClassification",
            inputs=dict(length=128),
            original="jialicheng/pubmedbert-abstract-ddi",
            pretrained="microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        ),
        "pubmedbert_fulltext": Model(
            "BertForSequenceClassification",
            inputs=dict(length=128),
            original="jialicheng/pubmedbert-fulltext-ddi",
            pretrained="microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext",
        ),
        "biobert": Model(
            "BertForSequenceClassification",
            inputs=dict(length=128),
            original="jialicheng/biobert-ddi",
            pretrained="dmis-lab/biobert-v1.1",
        ),
    }
