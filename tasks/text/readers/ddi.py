"""DDI-2013: the tables that BLURB's script makes, or the corpus itself, masked likewise."""

from pathlib import Path

from mubench.errors import MubenchError
from mubench.tasks.readers.files import existing, text
from mubench.tasks.readers.published import Published
from mubench.tasks.readers.tables import dataset


class DdiFiles(Published):
    """Rows have ``text`` and ``label``."""

    def from_archive(self, folder):
        import datasets

        folder = folder / self.archive
        files = {"train": "train", "validation": "dev", "test": "test"}
        if (prepared := folder / "data" / "DDI").is_dir():
            return datasets.DatasetDict({name: self._table(prepared / f"{file}.tsv") for name, file in files.items()})
        return datasets.DatasetDict({name: self._corpus(folder, file) for name, file in files.items()})

    def _table(self, path):
        """The rows of one of BLURB's tables."""
        rows = []
        for number, line in enumerate(text(path).removesuffix("\n").split("\n"), 1):
            fields = line.removesuffix("\r").split("\t")
            if len(fields) != 3 or not fields[1].strip():
                raise MubenchError(
                    f"{path}, line {number}: it must have an id, a text and a label, with tabs between them:"
                    f" {line[:60]!r}"
                )
            rows.append((fields[1], self._label(fields[2], f"{path}, line {number}")))
        return self._rows(rows)

    def _corpus(self, folder, name):
        """The rows of the documents that BLURB lists for a set."""
        listed = text(folder / "indexing" / "DDI" / f"{name}_files.tsv").split()
        roots = [path for path in folder.rglob(listed[0].rsplit("/", 1)[-1]) if path.as_posix().endswith(listed[0])]
        if not roots:
            raise MubenchError(
                f"the corpus's {listed[0]} is nowhere below {folder}: unpack DDICorpus-2013.zip into"
                f" {folder / 'raw_data'}"
            )
        root = roots[0].as_posix().removesuffix(listed[0])
        return self._rows([row for file in listed for row in self._document(existing(Path(root + file)))])

    def _rows(self, rows):
        """Pairs (text, label) as a data set."""
        return dataset({"text": [text for text, _ in rows], "label": [label for _, label in rows]}, self.labels)

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
        """The name of a class, refused with its place where there is no such class."""
        if name not in self.labels:
            raise MubenchError(f"{where}: the label {name!r} is none of {', '.join(self.labels)}")
        return name

    def write_sample(self, folder):
        sentences = {
            "DDI-false": "@DRUG$ and @DRUG$ were given",
            "DDI-mechanism": "@DRUG$ slows the clearance of @DRUG$",
            "DDI-advise": "avoid @DRUG$ with @DRUG$",
            "DDI-effect": "@DRUG$ with @DRUG$ causes drowsiness",
            "DDI-int": "@DRUG$ interacts with @DRUG$",
        }
        (folder / self.archive / "data" / "DDI").mkdir(parents=True)
        for name, n in (("train", 60), ("dev", 20), ("test", 40)):
            rows = ((i, self.labels[i * 7 % 10 % 5 if i % 2 else 0]) for i in range(n))
            lines = [
                f"DDI-DrugBank.d{i}.s0.p0\tIn {name} case {i}, {sentences[label]}.\t{label}\n" for i, label in rows
            ]
            (folder / self.archive / "data" / "DDI" / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")


def _span(offsets):
    """The first and the last character of a drug's name, which may be in several pieces (``10-14;20-25``); the end
    exclusive.
    """
    ends = [int(number) for piece in offsets.split(";") for number in piece.split("-")]
    return ends[0], ends[-1] + 1


def _masked(sentence, first, second):
    """A sentence with the drugs at two spans masked, on one line."""
    if first[1] > second[0]:  # names that overlap
        (start, end), mask = (first[0], max(first[1], second[1])), "@DRUG-DRUG$"
        masked = sentence[:start] + mask + sentence[end:]
    else:
        masked = sentence[: first[0]] + "@DRUG$" + sentence[first[1] : second[0]] + "@DRUG$" + sentence[second[1] :]
    return masked.translate(str.maketrans("\n\t\r", "   "))
