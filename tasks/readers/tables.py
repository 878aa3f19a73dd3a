"""Rows of published data as a ``datasets.Dataset``."""


def dataset(columns, labels, **types):
    """A ``datasets.Dataset``.

    columns: name → values; ``label`` among them, as names or numbers of the classes.
    labels: the names of the classes.
    types: column → its type, where it is no string.
    """
    import datasets

    features = {name: datasets.Value(types.get(name, "string")) for name in columns} | {
        "label": datasets.ClassLabel(names=list(labels))
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def labelled(sets, labels):
    """A ``DatasetDict`` of texts.

    sets: name → rows with ``text`` and ``label``, the number of a class.
    labels: the names of the classes.
    """
    import datasets

    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=list(labels)))
    return datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows, features=features) for name, rows in sets.items()}
    )
