"""Where a task's data come from, and what holds of them: pinned rows, validation and test rows, deletion splits."""

import functools
import os
from importlib.metadata import version
from pathlib import Path

from mubench.cache import cache_dir, cached_json, content_key
from mubench.errors import MubenchError, nearest
from mubench.fetch import fetch
from mubench.fingerprint import fingerprint
from mubench.splits import file_split, make_split, rank
from mubench.tasks.contract.rows import rows_checksum, shown

VALIDATION_SHARE = 0.2
LIBRARIES = ("datasets", "numpy", "pillow", "scipy", "tokenizers", "torch", "transformers")  # that rows come through


class Data:
    """The part of a task that knows its rows."""

    def fetch(self):
        """Bring what the task needs into the cache; afterwards everything runs offline.

        Raises `MubenchError` if it cannot.
        """
        for archive in self.archives:
            fetch(archive, cache_dir() / "archives")
        return self.data

    @property
    def fetched(self):
        """Paths of what `fetch` has brought, one for each of ``archives``.

        Raises `MubenchError` with the command to run where it has not.
        """
        paths = [cache_dir() / "archives" / archive.member for archive in self.archives]
        if not all(path.is_file() for path in paths):
            raise MubenchError(
                f"the data of {self.name} may not ship with mubench and is not fetched yet: run `mubench fetch"
                f" {self.name}`"
            )
        return paths

    @property
    def data_dir(self):
        """The folder the user keeps this task's data in (``--data-dir``, ``$MUBENCH_DATA``), or None.

        It is the one named after the task in there, or else that folder itself.
        """
        given = os.environ.get("MUBENCH_DATA")
        if not given:
            return None
        if not Path(given).is_dir():
            raise MubenchError(f"no data folder {given!r}: give --data-dir a folder that exists")
        own = Path(given) / self.name
        return own if own.is_dir() else Path(given)

    @functools.cached_property
    def data(self):
        """What `read` gives, its rows verified against the pinned checksums."""
        data = self.read()
        for name in ["train", *self.checksums]:
            found = self._checksums[name] = rows_checksum(data[name], self.keyed)
            pinned = self.pinned.get(name)
            if pinned and found != pinned:
                raise MubenchError(
                    f"the {name} rows of {self.name} have checksum {found[:12]}…, not {pinned[:12]}…: they are not the"
                    f" published ones; `mubench fetch {self.name}` brings those, or reinstall the package"
                )
        for name, count in self.rows.items():
            if name in data and len(data[name]) != count:  # a transfer set may be left out
                raise MubenchError(
                    f"the {name} set of {self.name} has {len(data[name])} rows where the published one has {count}: the"
                    f" data is incomplete or of another version ({self.source})"
                )
        return data

    @functools.cached_property
    def _checksums(self):
        """Set name → checksum of its rows, of those that were asked for."""
        return {}

    @property
    def pinned(self):
        """Set name → checksum of its rows, of those whose checksum the card states."""
        return ({"train": self.checksum} if self.checksum else {}) | self.checksums

    @property
    def known(self):
        """Whether the card says all there is to know of the data, which are not read yet."""
        return "data" not in vars(self) and self._pins

    @property
    def _pins(self):
        """Whether all that `read` gives follows from rows whose checksums and numbers are on the card."""
        return {"train", "test"} <= {*self.pinned} & {*self.rows}

    @property
    def sizes(self):
        """Set name → how many rows it has."""
        return self.rows if self.known else {name: len(rows) for name, rows in self.data.items()}

    @property
    def data_checksum(self):
        """The checksum of the training rows."""
        return self.checksum if self.known else self.data and self._checksums["train"]

    def origin(self, name):
        """What the rows of a set follow from, as JSON values: the pinned checksums, or else that of the set itself, and
        the code that reads them.
        """
        if self.known or self._pins and self.pinned.items() <= self._checksums.items():
            return [name, self.pinned, *self.code]
        if name not in self._checksums:
            self._checksums[name] = rows_checksum(self.data[name], self.keyed)
        return [self._checksums[name], *self.code]

    @functools.cached_property
    def code(self):
        """What changes with the code that reads and prepares the rows: its fingerprint, and the libraries' versions."""
        return [self.version, fingerprint(type(self)), [version(library) for library in LIBRARIES]]

    def load(self):
        """The data as a ``datasets.DatasetDict``.

        train: all of D.
        validation: the official set, or some of the test rows.
        test: the test rows that are no validation rows.
        transfer and the further sets that are scored: where the task has them.

        Raises `MubenchError` saying how to supply what is missing.
        """
        import datasets

        validation, test = self.held_out
        rows = {"train": None, "validation": validation, "test": test, "transfer": None}
        rows |= dict.fromkeys(self.scored_sets)
        official = self.data.get("validation") is not None
        return datasets.DatasetDict(
            {
                name: self.data[name] if chosen is None or official else self.data["test"].select(chosen)
                for name, chosen in rows.items()
                if name in self.data or name == "validation"
            }
        )

    @functools.cached_property
    def held_out(self):
        """Rows of (validation, test); without an official validation set those of `test_rows`."""
        sizes = self.sizes
        n = sizes["test"]
        if "validation" in sizes:
            return list(range(sizes["validation"])), list(range(n))
        return self.test_rows(n)

    def test_rows(self, n):
        """n test rows cut into (validation, test), each ascending.

        Validation are the first 20 %, ranked by SHA-256(``"{task}/validation/{row}"``). They never count in D_t, for
        anybody.
        """
        ranked = rank([f"{self.name}/validation/{row}" for row in range(n)])
        cut = round(VALIDATION_SHARE * n)
        return sorted(ranked[:cut]), sorted(ranked[cut:])

    def split(self, ratio=5, file=None, unit=None):
        """The standard deletion `Split` at ``ratio`` per cent, or somebody's own index ``file``.

        unit: the kind of the units, one of ``unit_kinds`` (None: the first).
        """
        n, checksum = self.sizes["train"], self.data_checksum
        if file is not None:
            return file_split(self.name, file, n, checksum)
        kind = self.unit(unit)
        return make_split(self.name, ratio, self._units(kind or self.unit_kinds[0]), checksum, kind)

    def _units(self, kind):
        """`units`; of data that are known without reading them, from the cache."""
        if not self.known or kind == "row":
            return self.units(kind)
        key = content_key("units", kind, self.origin("train"))
        return cached_json(cache_dir() / "prepared" / f"{self.name}-{kind}-{key}.json", lambda: [*self.units(kind)])

    def unit(self, kind=None):
        """A kind of unit, checked; None stands for the first of ``unit_kinds``."""
        if kind is not None and kind not in self.unit_kinds:
            raise nearest(f"unit of {self.name}", kind, self.unit_kinds, f"`mubench ls {self.name}`")
        return None if kind == self.unit_kinds[0] else kind

    def retraining_rows(self, forget, retain):
        """How many rows retraining would be trained on, from which the default budget follows: |D_r|; of a task without
        a retain set |D|, what its original was trained on.

        forget, retain: how many training rows a split has of each.
        """
        return retain if "retain" in self.provides else forget + retain

    def show(self, rows, position):
        """An example for people, a row of a set of `load`: see `mubench.tasks.contract.rows.shown`."""
        return shown(rows, position)
