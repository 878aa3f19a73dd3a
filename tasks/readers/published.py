"""Published data, read for a data card: from the user's folder in the layout of the original archive, else from the
Hub.
"""

import logging

from mubench.errors import MubenchError


class NotAtHand(MubenchError):
    """The data are neither in the user's folder nor to be had from the Hub.

    What is there but damaged raises `MubenchError`.
    """


class Published:
    """A task of the paper tier: a data set that others publish.

    archive: what lies in the user's folder (``--data-dir``, ``$MUBENCH_DATA``) where the original archive was unpacked
        there
    remedy: which archive that is, where it is, what to accept

    A data set's reader has `from_archive`, `from_hub` (where a copy is on the Hub in a format that `datasets` reads)
    and `write_sample`. Rows are in the same order with the same values wherever they come from, so that a row's
    number, and with it a deletion set, means the same row to everybody.
    """

    tier = "paper"
    threads = None
    fits = None
    archive = ""
    remedy = ""

    def read(self):
        return self.found(self.archive, self.remedy, self.from_archive, self.from_hub)

    def found(self, archive, remedy, from_archive, from_hub=None):
        """A data set, from where it is at hand.

        archive: what lies in the user's folder where it was unpacked.
        remedy: what to do where it is nowhere.
        from_archive: folder → the data.
        from_hub: () → the data; None where there is no copy on the Hub.

        Raises `NotAtHand`.
        """
        folder = self.data_dir
        if folder and (folder / archive).exists():
            return from_archive(folder)
        tried = f"no {archive} in {folder}" if folder else "no --data-dir"
        try:
            if from_hub:
                return from_hub()
        except NotAtHand as error:
            tried += f"; {error}"
        raise NotAtHand(f"{archive} of {self.name} is not at hand ({tried}): {remedy}, and give --data-dir FOLDER")

    def add_transfer(self, data, archive, remedy, from_archive, from_hub=None):
        """The ``DatasetDict`` with a transfer set, found as `found` does; where it is not at hand, without, and a
        warning says so.
        """
        try:
            data["transfer"] = self.found(archive, remedy, from_archive, from_hub)
        except NotAtHand as error:
            logging.getLogger("mubench").warning("%s runs without its transfer set: %s", self.name, error)
        return data

    def from_archive(self, folder):
        """The ``DatasetDict`` out of the unpacked original archive.

        Raises `MubenchError` naming the file that is missing or wrong.
        """
        raise NotImplementedError

    from_hub = None  # a method that gives the same out of a copy on the Hub, where there is one; raises `NotAtHand`

    def write_sample(self, folder):
        """Write a tiny, learnable data set, the same every time, in the layout of the original archive.

        It is what `mubench check` runs on.
        """
        raise NotImplementedError


def hub(repo, revision, columns, config=None, files=None):
    """A data set of the Hub: split → rows with the named columns and no others.

    repo: its id.
    revision: the commit.
    columns: name there → name here.
    config: which part of the repository, where it has several.
    files: split → the only file wanted.

    Mirrors (``HF_ENDPOINT``), the cache and ``HF_HUB_OFFLINE`` are the library's. Raises `NotAtHand`.
    """
    import datasets

    try:
        data = datasets.load_dataset(repo, config, revision=revision, data_files=files)
    except Exception as error:
        why = str(error).strip().splitlines() or ["no reason given"]
        raise NotAtHand(
            f"{repo} not to be had from the Hugging Face Hub or its cache: {type(error).__name__}: {why[0][:160]}"
        ) from error
    for split, rows in data.items():
        if missing := set(columns) - set(rows.column_names):
            raise MubenchError(
                f"{repo}@{revision[:7]}, {split}: no column {min(missing)!r}, only {', '.join(rows.column_names)}: is"
                " it another data set under that name?"
            )
    return {
        split: rows.select_columns(list(columns)).rename_columns({k: v for k, v in columns.items() if k != v})
        for split, rows in data.items()
    }
