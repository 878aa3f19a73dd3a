from mubench.errors import MubenchError
from mubench.train.recipe import Recipe
from mubench.tasks._sources import Published, dataset, text, there
from mubench.tasks.base import Model
from mubench.tasks.text import TextClassification


class Ddi(Published, TextClassification):
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
    # those while
    # calling four fifths of all pairs positive: 2 TP / (positives + called positive) = 0.0705. (Saying "false" always
    # gives 0.)
    random_guess = 2 * (979 / 5) / (979 + 5716 * 4 / 5)
    rows = {"train": 25_296, "validation": 2_496, "test": 5_716}
    archive = "data_generation"
    remedy = (
        "unpack BLURB's data_generation.tar.gz (https://microsoft.github.io/BLURB/sample_code/data_generation.tar.gz)"
        " into FOLDER and DDICorpus-2013.zip (https://github.com/isegura/DDICorpus) into"
        " FOLDER/data_generation/raw_data"
    )
    recipe = Recipe(
        lr=5e-5, epochs=20, batch_size=32, lr_schedule="linear", keep_best=True
    )  # as MU-Bench trains its originals
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

    def from_archive(self, folder):
        import datasets

        folder = folder / self.archive
        prepared = folder / "data" / "DDI"
        read = (
            (lambda name: self._table(prepared / f"{name}.tsv"))
            if prepared.is_dir()
            else (lambda name: self._corpus(folder, name))
        )
        return datasets.DatasetDict(
            {name: read(file) for name, file in (("train", "train"), ("validation", "dev"), ("test", "test"))}
        )

    def _table(self, path):
        said, labels = [], []
        for number, line in enumerate(text(path).removesuffix("\n").split("\n"), 1):
            fields = line.removesuffix("\r").split("\t")
            if len(fields) != 3 or not fields[1].strip():
                raise MubenchError(
                    f"{path}, line {number}: it must have an id, a text and a label, with tabs between them:"
                    f" {line[:60]!r}"
                )
            labels.append(self._label(fields[2], f"{path}, line {number}"))
            said.append(fields[1])
        return dataset({"text": said, "label": labels}, self.labels)

    def _corpus(self, folder, name):
        listed = text(folder / "indexing" / "DDI" / f"{name}_files.tsv").split()
        roots = [path for path in folder.rglob(listed[0].rsplit("/", 1)[-1]) if path.as_posix().endswith(listed[0])]
        if not roots:
            raise MubenchError(
                f"the corpus's {listed[0]} is nowhere below {folder}: unpack DDICorpus-2013.zip into"
                f" {folder / 'raw_data'}"
            )
        root = roots[0].as_posix().removesuffix(listed[0])
        rows = [row for file in listed for row in self._document(there(type(folder)(root + file)))]
        return dataset({"text": [said for said, _ in rows], "label": [label for _, label in rows]}, self.labels)

    def _document(self, path):
        """(masked sentence, label) of every pair of drugs in a document of the corpus."""
        from xml.etree import ElementTree

        try:
            sentences = ElementTree.parse(path).getroot().findall("sentence")
        except ElementTree.ParseError as error:
            raise MubenchError(f"{path} is no whole XML file ({error}): unpack the corpus again") from error
        for sentence in sentences:
            spans = {entity.get("id"): _span(entity.get("charOffset")) for entity in sentence.findall("entity")}
            for pair in sentence.findall("pair"):
                kind = pair.get("type") if pair.get("ddi") == "true" else "false"
                first, second = sorted((spans[pair.get("e1")], spans[pair.get("e2")]))
                yield (
                    _masked(sentence.get("text"), first, second),
                    self._label(f"DDI-{kind}", f"{path}, {pair.get('id')}"),
                )

    def _label(self, name, where):
        if name not in self.labels:
            raise MubenchError(f"{where}: the label {name!r} is none of {', '.join(self.labels)}")
        return name

    def write_sample(self, folder):
        said = {
            "DDI-false": "@DRUG$ and @DRUG$ were given",
            "DDI-mechanism": "@DRUG$ slows the clearance of @DRUG$",
            "DDI-advise": "avoid @DRUG$ with @DRUG$",
            "DDI-effect": "@DRUG$ with @DRUG$ causes drowsiness",
            "DDI-int": "@DRUG$ interacts with @DRUG$",
        }
        (folder / self.archive / "data" / "DDI").mkdir(parents=True)
        for name, n in (("train", 60), ("dev", 20), ("test", 40)):
            rows = ((i, self.labels[i * 7 % 10 % 5 if i % 2 else 0]) for i in range(n))
            lines = [f"DDI-DrugBank.d{i}.s0.p0\tIn {name} case {i}, {said[label]}.\t{label}\n" for i, label in rows]
            (folder / self.archive / "data" / "DDI" / f"{name}.tsv").write_text("".join(lines))


def _span(offsets):
    """The first and the last character of a drug's name, which may be in several pieces (``10-14;20-25``); the end
    exclusive.
    """
    ends = [int(number) for piece in offsets.split(";") for number in piece.split("-")]
    return ends[0], ends[-1] + 1


def _masked(sentence, first, second):
    if first[1] > second[0]:  # names that overlap
        (start, end), mask = (first[0], max(first[1], second[1])), "@DRUG-DRUG$"
        masked = sentence[:start] + mask + sentence[end:]
    else:
        masked = sentence[: first[0]] + "@DRUG$" + sentence[first[1] : second[0]] + "@DRUG$" + sentence[second[1] :]
    return masked.translate(str.maketrans("\n\t\r", "   "))
