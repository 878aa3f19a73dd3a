"""What a task is: a data set, the behaviour of its modality and a set of models, declared in one file per data set."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from mubench.models import networks
from mubench.models.behaviour import Behaviour
from mubench.cache import cache_dir, whole
from mubench.errors import MubenchError, nearest
from mubench.fetch import fetch
from mubench.train.recipe import Recipe
from mubench.splits import file_split, make_split, rank

VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Model:
    """A model of a task: a `transformers` class, its configuration or pretrained id, and the recipe of its original.

    architecture: the class's name, in `transformers` or `diffusers`; config: keyword arguments of its configuration (of
    pretrained models: what differs from theirs); pretrained: hub id (or folder) it and its processor start from, part:
    the folder in there (``unet``); original: hub id (or ``id@revision``) of a published original; recipe: what differs
    from the task's recipe;
    inputs: options of the modality's preprocessing.
    """

    architecture: str
    config: dict = field(default_factory=dict)
    pretrained: str = ""
    part: str = ""
    original: str = ""
    recipe: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)


class Task(Behaviour):
    """A data set with its models. A data card states the attributes below; a modality's base class has the methods.

    name: the file's name; tier: ``mini`` or ``paper``; modality; source, licence, citation: of the data; labels: the
    names of the classes; metric: the primary metric, metric_options: its options, also: further measures (``accuracy``,
    ``verbatim``);
    random_guess: the metric's value for a model that knows nothing (None: measured once the data are read); fits: the
    train score an original of the mini tier must reach; transfer: what the transfer set is, or ""; shortcut: what goes
    with the label without being the reason for it (a row's `attribute`), or ""; recipe: how originals are trained;
    models: name → `Model`, the first being the default; checksum: of the training rows, pinned (see `rows_checksum`),
    keyed: the columns it is over, if not all (names instead of 10 GB of video); rows: set name → how many there must
    be; archives: what `mubench fetch` brings, if anything; measured: set name → the most rows that are scored, where
    scoring is slow (the first by the hash ranking); evaluation_batch: examples at a time in evaluation; lazy: whether
    rows are prepared batch by batch (large pictures, videos) instead of once and for all.
    """

    version = 1
    name = ""
    tier = "mini"
    modality = ""
    source = licence = citation = transfer = shortcut = ""
    labels: tuple = ()
    metric = "accuracy"
    metric_options: dict = {}
    also: tuple = ()
    random_guess = 0.0
    fits = 0.97
    recipe = Recipe(lr=1e-3, epochs=10, batch_size=32)
    models: dict = {}
    checksum = ""
    keyed: tuple = ()
    rows: dict = {}
    archives: tuple = ()
    measured: dict = {}
    evaluation_batch = 256
    lazy = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "models" in vars(cls):  # a data card: a misspelt fact is an error, not a fact ignored
            for name, value in vars(cls).items():
                if not name.startswith("_") and not callable(value) and not hasattr(super(cls, cls), name):
                    raise nearest(f"attribute of data card {cls.__name__}", name, vars(Task), "mubench.tasks.base.Task")

    # -- what a modality or a data card implements -----------------------------------------------------------------

    def read(self):
        """The data as published: a ``DatasetDict`` with train, test and, where there are such, validation and
        transfer.
        """
        raise NotImplementedError

    def prepare(self, dataset, model):
        """A split of `read` as columns for a model: name → tensor, fixed (no random augmentation)."""
        raise NotImplementedError

    def collate(self, batch, model):
        """Columns of a batch → the arguments of the model and ``labels``."""
        return batch

    def preparation(self, model):
        """What `prepare` depends on besides the rows, as JSON values: models with the same share prepared sets."""
        return self.models[model].inputs

    def units(self):
        """The unit of deletion each training row belongs to; a row of its own unless people ask to be forgotten."""
        return range(len(self.data["train"]))

    def attribute(self, row):
        """The value of the task's ``shortcut`` in a row (column → value), a short text: a pure function, by which bias
        amplification is measured. For tasks that state a shortcut."""
        raise NotImplementedError

    def fetch(self):
        """Bring what the task needs into the cache; afterwards everything runs offline. Raises `MubenchError` if it
        cannot.
        """
        for archive in self.archives:
            fetch(archive, cache_dir() / "archives")
        return self.data

    def example(self, model, n):
        """The first ``n`` training rows as a batch, unverified: what the memory of a step is estimated from."""
        rows = self.read()["train"]
        return self.collate(self.prepare(rows.select(range(min(n, len(rows)))), model), model)

    def fetch_model(self, model):
        """Bring what a model starts from, and its published original unless there is one here, into the Hugging Face
        cache; returns the names of what was fetched."""
        from mubench.models.originals import trained_dir

        declared, here = self.models[model], (self.originals_dir(model), trained_dir(self, model))
        if declared.pretrained:
            networks.download(declared.pretrained, declared.part)
        if published := declared.original if not any(map(networks.weights, here)) else "":
            networks.local(published, declared.part)
        return [name for name in (declared.pretrained, published) if name]

    @property
    def fetched(self):
        """Paths of what `fetch` has brought, one for each of ``archives``; says which command to run where it has
        not.
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
        """The folder the user keeps this task's data in (``--data-dir``, ``$MUBENCH_DATA``): one named after the task
        in it, or itself; None where nothing is said."""
        said = os.environ.get("MUBENCH_DATA")
        if not said:
            return None
        if not Path(said).is_dir():
            raise MubenchError(f"no data folder {said!r}: give --data-dir a folder that exists")
        mine = Path(said) / self.name
        return mine if mine.is_dir() else Path(said)

    # -- data --------------------------------------------------------------------------------------------------------

    @property
    def threads(self):
        """CPU threads of a run: one for the tiny models of the mini tier, so that their results do not depend on the
        number of cores (and a busy machine does not slow them down many times); None: as many as torch takes."""
        return 1 if self.tier == "mini" else None

    @property
    def num_labels(self):
        return len(self.labels)

    @functools.cached_property
    def data(self):
        """What `read` gives, its training rows verified against the pinned checksum."""
        data = self.read()
        found = self._checksums["train"] = rows_checksum(data["train"], self.keyed)
        if self.checksum and found != self.checksum:
            raise MubenchError(
                f"the training rows of {self.name} have checksum {found[:12]}…, not {self.checksum[:12]}…: they are "
                f"not the published ones; `mubench fetch {self.name}` brings those, or reinstall the package"
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
        return {}

    def load(self):
        """The data as a ``datasets.DatasetDict``: train (all of D), validation, test (without validation rows) and,
        where the task has one, transfer. Raises `MubenchError` saying how to supply what is missing."""
        import datasets

        validation, test = self.held_out
        rows = {"train": None, "validation": validation, "test": test, "transfer": None}
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
        """Rows of (validation, test). Without an official validation set it is the first 20 % of the test rows, ranked
        by SHA-256(``"{task}/validation/{row}"``), and those never count in D_t, for anybody."""
        n = len(self.data["test"])
        return (
            (list(range(len(self.data["validation"]))), list(range(n)))
            if "validation" in self.data
            else self.test_rows(n)
        )

    def test_rows(self, n):
        """n test rows cut into (validation, test) by the hash ranking."""
        ranked = rank([f"{self.name}/validation/{row}" for row in range(n)])
        cut = round(VALIDATION_SHARE * n)
        return sorted(ranked[:cut]), sorted(ranked[cut:])

    def split(self, ratio=5, file=None):
        """The standard deletion `Split` at ``ratio`` per cent, or somebody's own index ``file``."""
        n, checksum = len(self.data["train"]), self.data and self._checksums["train"]
        if file is not None:
            return file_split(self.name, file, n, checksum)
        return make_split(self.name, ratio, self.units(), checksum)

    def prepared(self, model, name):
        """A whole set (``train``, ``test``, …) as `Examples` for a model; computed once, then read from the cache, or
        batch by batch where the task is ``lazy``."""
        import torch
        from safetensors.torch import load, save_file

        from mubench.examples import Examples

        if self.lazy:
            rows = self.data[name]
            read = lambda batch: self.collate(self.prepare(rows.select(batch["row"]), model), model)
            return Examples({"row": torch.arange(len(rows))}, collate=read)
        if name not in self._checksums:
            self._checksums[name] = rows_checksum(self.data[name], self.keyed)
        code = [c.version for c in type(self).__mro__ if "prepare" in vars(c)]
        key = json.dumps([self._checksums[name], self.preparation(model), code], sort_keys=True)
        path = (
            cache_dir() / "prepared" / f"{self.name}-{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
        )
        try:
            columns = load(path.read_bytes())  # not mapped: a file cut short later must not take the process with it
        except Exception:  # absent, or cut off by a power failure: made anew either way
            with whole(path) as temporary:
                save_file({k: v.contiguous() for k, v in self.prepare(self.data[name], model).items()}, temporary)
            columns = load(
                path.read_bytes()
            )  # read back even now: other strides would mean other kernels, and other last bits
        return Examples(columns, collate=functools.partial(self.collate, model=model))

    def sets(self, model, split, limit=None):
        """Set name → `Examples`: train, forget, retain, validation, test and, where there is one, transfer; ``limit``:
        the first so many rows of each."""
        split.verify(self.data and self._checksums["train"], len(self.data["train"]))
        train, test = self.prepared(model, "train"), self.prepared(model, "test")
        validation, rest = self.held_out
        sets = {
            "train": train,
            "forget": train.select(list(split.forget)),
            "retain": train.select(list(split.retain)),
            "validation": (
                (self.prepared(model, "validation") if "validation" in self.data else test).select(validation)
            ),
            "test": test.select(rest),
        }
        if "transfer" in self.data:
            sets["transfer"] = self.prepared(model, "transfer")
        return {name: view.select(slice(limit)) for name, view in sets.items()} if limit else sets

    def scored(self, sets):
        """The rows of each set that are scored: all, or the first of them in the order of
        SHA-256(``"{task}/scored/{row}"``).
        """
        chosen = {}
        for name, view in sets.items():
            most = self.measured.get(name, len(view))
            order = rank([f"{self.name}/scored/{row}" for row in view.rows.tolist()]) if most < len(view) else []
            chosen[name] = view.select(sorted(order[:most])) if order else view
        return chosen

    def show(self, rows, position):
        """An example for people: column → ``("image", PNG bytes)``, ``("audio", encoded bytes)`` or ``("text", str)``,
        from the types of the columns; what is of no such type is left out."""
        import io

        import datasets
        from PIL import Image

        (values,), shown = rows.with_format("arrow")[position : position + 1].to_pylist(), {}
        for name, feature in rows.features.items():
            value = values[name]
            data = (
                value.get("bytes") or (value.get("path") and Path(value["path"]).read_bytes())
                if isinstance(value, dict)
                else None
            )
            if isinstance(feature, datasets.Image) and data:
                file = io.BytesIO()
                Image.open(io.BytesIO(data)).convert("RGB").save(file, "PNG")
                shown[name] = "image", file.getvalue()
            elif isinstance(feature, datasets.Audio) and data:
                shown[name] = "audio", data
            elif isinstance(value, str):
                shown[name] = "text", value
        return shown

    # -- models --------------------------------------------------------------------------------------------------------

    def model(self, name=None):
        """The name of a model of this task: ``name``, checked, or the default."""
        if name is not None and name not in self.models:
            raise nearest(f"model of {self.name}", name, self.models, f"`mubench ls {self.name}`")
        return name or next(iter(self.models))

    def model_recipe(self, model):
        """The `Recipe` an original of this task is trained with."""
        return replace(self.recipe, **self.models[model].recipe)

    def model_class(self, model):
        return networks.model_class(self.models[model].architecture)

    @property
    def head_options(self):
        """What the configuration of this task's models is told of its labels."""
        return {"num_labels": self.num_labels} if self.labels else {}

    def build(self, model, seed=0, blank=False):
        """A new model before any training on D, initialised by ``seed``: pretrained where the card says so, with a new
        head, or entirely untrained (``blank``)."""
        import torch

        declared, cls = self.models[model], self.model_class(model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            options = declared.config | self.head_options
            if not declared.pretrained:
                return networks.make(cls, options)
            return (networks.make_like if blank else networks.pretrained)(
                cls, declared.pretrained, declared.part, **options
            )

    def originals_dir(self, model):
        """The folder of the original checkpoint that ships with the package, whether it is there or not."""
        return Path(inspect.getfile(type(self))).parent / "originals" / self.name / model

    def sample(self, folder):
        """This task on a tiny data set in the original archive's format (`write_sample`), with tiny untrained models of
        the very same classes and processors, also as its originals; all written to ``folder``. What `mubench check`
        runs without the data."""
        from mubench.tasks._tiny import tiny_model

        folder = Path(folder)
        (folder / "data").mkdir()
        self.write_sample(folder / "data")
        small = {
            "__module__": type(self).__module__,
            "__doc__": self.__doc__,
            "data_dir": folder / "data",
            "rows": {},
            "checksum": "",
            "evaluation_batch": Task.evaluation_batch,
            "originals_dir": lambda self, model: folder / "models" / model,
        }
        twin = type(type(self).__name__, (type(self),), small)()
        twin.models = {name: tiny_model(twin, name, twin.originals_dir(name)) for name in self.models}
        return twin


def stored(card, name):
    """The ``DatasetDict`` of the Parquet files ``data/{name}-{split}.parquet`` next to a data card, read into
    memory.
    """
    import datasets
    import pyarrow.parquet

    files = {path.stem.rsplit("-", 1)[1]: path for path in (Path(card).parent / "data").glob(f"{name}-*.parquet")}
    if not {"train", "test"} <= set(files):
        raise MubenchError(f"the data of {name} is missing next to {card}: reinstall the package")
    return datasets.DatasetDict(
        {
            split: datasets.Dataset(datasets.table.InMemoryTable(pyarrow.parquet.read_table(path)))
            for split, path in sorted(files.items())
        }
    )


def rows_checksum(dataset, columns=()):
    """SHA-256 over the rows of a ``datasets.Dataset``, column by column (all or those named) in alphabetical order, as
    stored: encoded bytes of pictures and sounds, UTF-8 of texts, decimal digits of numbers, each preceded by its
    length."""
    digest = hashlib.sha256()
    for name in sorted(columns or dataset.column_names):
        digest.update(f"{name}:".encode())
        for batch in dataset.select_columns([name]).with_format("arrow").iter(1000):
            for value in batch[name].to_pylist():
                value = value["bytes"] if isinstance(value, dict) and "bytes" in value else value
                value = value if isinstance(value, bytes) else str(value).encode()
                digest.update(f"{len(value)}:".encode())
                digest.update(value)
    return digest.hexdigest()
