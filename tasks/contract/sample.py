"""A task on a tiny data set with tiny models: what `mubench check` runs where the data are not at hand."""

from pathlib import Path

from mubench.tasks.contract.caching import uncached
from mubench.tasks.contract.tiny import tiny_model


def make_sample(task, folder, **facts):
    """A task on its sample, see `Task.sample`.

    folder: where all is written.
    facts: what the sample's card declares otherwise than the task's.
    """
    folder = Path(folder)
    (folder / "data").mkdir()
    task.write_sample(folder / "data")
    sample = _sample_class(type(task), folder, facts)()
    sample.models = {name: tiny_model(sample, name, sample.originals_dir(name)) for name in task.models}
    return sample


def _sample_class(card, folder, facts):
    """The data card with what differs of its sample in ``folder``."""
    differing = {
        "__module__": card.__module__,
        "__doc__": card.__doc__,
        "__reduce__": lambda self: (_revived, (card, folder, facts, {"name": self.name, **uncached(self)})),
        "data_dir": folder / "data",
        "rows": {},
        "checksum": "",
        "checksums": {},
        "originals_dir": lambda self, model: folder / "models" / model,
    }
    return type(card.__name__, (card,), differing | facts)


def _revived(card, folder, facts, attributes):
    """A sample in another process."""
    sample = _sample_class(card, folder, facts)()
    vars(sample).update(attributes)
    return sample
