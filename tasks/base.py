"""What a task is: a data set, the behaviour of its modality and a set of models, declared in one file per data set."""

import re
import sys

from mubench.errors import MubenchError, nearest
from mubench.models.behaviour import Behaviour
from mubench.registry import tasks
from mubench.tasks.contract.caching import uncached
from mubench.tasks.contract.data import Data
from mubench.tasks.contract.models import Model, Models
from mubench.tasks.contract.rows import rows_checksum, stored
from mubench.tasks.contract.sample import make_sample
from mubench.tasks.contract.sets import Sets
from mubench.train.recipe import Recipe

__all__ = ["Model", "Task", "rows_checksum", "stored"]
RESERVED = ("train", "validation", "test", "forget", "retain", "transfer", "original")  # names of sets


class Task(Data, Sets, Models, Behaviour):
    """A data set with its models. A data card states the attributes below; a modality's base class has the methods.

    name: the file's name
    tier: ``mini`` or ``paper``
    modality: such as ``image``
    source, licence, citation: of the data
    labels: the names of the classes
    metric: the primary metric
    metric_options: its options
    also: further measures (``accuracy``, ``verbatim``)
    random_guess: the metric's value for a model that knows nothing; None: measured once the data are read
    fits: the train score that an original must reach, or None
    transfer: what the transfer set is, or ""
    shortcut: what goes with the label without being the reason for it (a row's `attribute`), or ""
    recipe: how originals are trained
    models: name → `Model`, the first being the default
    checksum: of the training rows, pinned (see `rows_checksum`)
    checksums: name of a further set → checksum of its rows, pinned. With the test set's here, sets that are not pinned
        follow from those that are and from the code; then a run reads no rows whose prepared sets are in the cache
    keyed: the columns the checksum is over, if not all (names instead of 10 GB of video)
    rows: set name → how many there must be
    archives: what `mubench fetch` brings, if anything
    unit_kinds: what people may ask to be forgotten, kinds of `units`; the first is the default
    scored_sets: further sets that are scored, name → what it is: sets of `read`, or of an overridden `sets`
    evaluated_on: the `world` that all rows are evaluated in, by the original too: ``remaining``, that of D_r, or
        ``all``, that of D, where a deleted thing comes back as a mere query
    measured: set name → the most rows that are scored, where scoring is slow (the first by the hash ranking)
    evaluation_batch: examples at a time in evaluation
    threads: of the CPU, in a run; None: as many as torch takes. One for tiny models: their results then do not depend
        on the number of cores, and a busy machine does not slow them down many times.
    lazy: whether rows are decoded batch by batch (large pictures, videos) instead of prepared once and for all
    resident: the columns of `prepare` that `collate` gets on the device: kept there as they are where there is room.
        The others it gets in main memory, where it may look at their values (how long a text is) without a wait.
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
    checksums: dict = {}
    keyed: tuple = ()
    rows: dict = {}
    archives: tuple = ()
    unit_kinds: tuple = ("row",)
    scored_sets: dict = {}
    evaluated_on = "remaining"
    measured: dict = {}
    evaluation_batch = 256
    threads = 1
    lazy = False
    resident: tuple = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "models" in vars(cls):  # a data card: a misspelt fact is an error, not a fact ignored
            for name, value in vars(cls).items():
                if not name.startswith("_") and not callable(value) and not hasattr(super(cls, cls), name):
                    raise nearest(f"attribute of data card {cls.__name__}", name, vars(Task), "mubench.tasks.base.Task")
        if cls.world:  # D_f and D_r are seen with two worlds: they cannot be in one batch
            cls.provides = frozenset(cls.provides) - {"union"}
        if cls.batchwise:
            cls.provides = frozenset(cls.provides) - {"examples"}
        _check_names(cls)

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

    def lengths(self, columns):
        """How long each row is, [n], where batches are padded to their longest row; else None.

        columns: of `prepare`.
        """
        return None

    def preparation(self, model):
        """What `prepare` depends on besides the rows, as JSON values: models with the same share prepared sets."""
        return self.models[model].inputs

    def units(self, kind):
        """The unit of deletion each training row belongs to: rows of one unit are forgotten together.

        kind: one of ``unit_kinds``; a ``row`` is a unit of its own.
        """
        return range(self.sizes["train"])

    # world(rows) → name → tensor: what belongs to no row and is built from the training rows that remain, ascending (a
    #     graph's adjacency). A pure function; every batch has it as ``world``. There are two in a run, of D and of D_r:
    #     see `sets`. None: there is no such thing.
    world = None

    def attribute(self, row):
        """The value of the task's ``shortcut`` in a row (column → value), a short text: a pure function, by which bias
        amplification is measured. For tasks that state a shortcut."""
        raise NotImplementedError

    # -- what holds of all -----------------------------------------------------------------------------------------

    @property
    def num_labels(self):
        return len(self.labels)

    def sample(self, folder):
        """This task on a tiny data set in the original archive's format (`write_sample`), with tiny untrained models of
        the very same classes and processors, also as its originals.

        All is written to ``folder``. It is what `mubench check` runs without the data.
        """
        return make_sample(self, folder, evaluation_batch=Task.evaluation_batch)

    def __reduce__(self):
        """In another process a task is itself, without what it has read and made: it does that again when asked."""
        plugin = "SOURCE_OF_PLUGIN" in vars(sys.modules[type(self).__module__])  # a file that nobody else imports
        return _revived, (tasks.reference(self) if plugin else type(self), {"name": self.name, **uncached(self)})


def _check_names(cls):
    """Raise where the sets, units or worlds that a task declares are none."""
    for name in cls.scored_sets:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED:
            raise MubenchError(
                f"scored_sets of {cls.__name__}: {name!r} must be a snake_case name other than {', '.join(RESERVED)}"
            )
    for kind in cls.unit_kinds:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", kind):
            raise MubenchError(f"unit_kinds of {cls.__name__}: {kind!r} must be snake_case, such as person")
    if not cls.unit_kinds or len({*cls.unit_kinds}) < len(cls.unit_kinds):
        raise MubenchError(f"unit_kinds of {cls.__name__}: {cls.unit_kinds!r} must be different kinds, at least one")
    if cls.evaluated_on not in ("remaining", "all"):
        raise MubenchError(f"evaluated_on of {cls.__name__}: {cls.evaluated_on!r} must be 'remaining' or 'all'")


def _revived(reference, attributes):
    """A task in another process."""
    task = tasks.get(reference)()
    vars(task).update(attributes)
    return task
