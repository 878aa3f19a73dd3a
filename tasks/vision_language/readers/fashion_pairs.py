"""Pairs of pictures with a sentence that is true or false of them: the rows behind the mini task `fashion_pairs`."""

import hashlib

NOUNS = {  # of classes of Fashion-MNIST
    1: "trousers",
    5: "a sandal",
    6: "a shirt",
    7: "a sneaker",
    8: "a bag",
    9: "a boot",
}
SENTENCES = ("the left image shows {}", "the right image shows {}", "both images show {}")


def read_pairs(sizes, labels):
    """Pairs of the pictures of task ``fashion``, a ``DatasetDict``.

    sizes: set → how many.
    labels: the names of the classes.
    """
    import datasets

    from mubench.registry import load_task
    from mubench.tasks.image.fashion import Fashion  # not by its name alone: its code is a part of this task's

    pictures, data = load_task(Fashion.__name__.lower()).data, datasets.DatasetDict()
    for name, size in sizes.items():
        image = pictures[name].features["image"]
        stored = pictures[name].with_format("arrow")[:]["image"].to_pylist()
        features = datasets.Features(
            left=image, right=image, text=datasets.Value("string"), label=datasets.ClassLabel(names=list(labels))
        )
        pairs = make_pairs(name, pictures[name]["label"], size)
        rows = [pair | {side: stored[pair[side]] for side in ("left", "right")} for pair in pairs]
        data[name] = datasets.Dataset.from_list(rows, features=features)
    return data


def make_pairs(name: str, labels: list[int], size: int) -> list[dict]:
    """Rows ``{"left", "right", "text", "label"}``, left and right being rows of pictures; every second is true.

    name: of the set.
    labels: the class of each picture.
    size: how many pairs.

    The name and the pair's number decide everything else, by SHA-256; no random numbers are involved. Of a sentence
    about both pictures that is false, one half is true, so that each has to be looked at.
    """
    rows = {kind: [row for row, label in enumerate(labels) if label == kind] for kind in NOUNS}
    pairs = []
    for number in range(size):
        digest = hashlib.sha256(f"{name}/{number}".encode()).digest()
        draws = (int.from_bytes(digest[i : i + 4], "big") for i in range(0, 32, 4))
        true, kind = number % 2, number // 2 % len(SENTENCES)
        named, *others = _order(list(NOUNS), draws)
        shown = {0: [named, None], 1: [None, named], 2: [named, named]}[kind]
        if not true:
            wrong = kind if kind < 2 else next(draws) % 2
            shown[wrong] = others[0]
        shown = [others[next(draws) % len(others)] if noun is None else noun for noun in shown]
        left, right = (rows[noun][next(draws) % len(rows[noun])] for noun in shown)
        pairs.append({"left": left, "right": right, "text": SENTENCES[kind].format(NOUNS[named]), "label": true})
    return pairs


def _order(kinds: list[int], draws) -> list[int]:
    """Two of the kinds, then the rest."""
    first = kinds.pop(next(draws) % len(kinds))
    second = kinds.pop(next(draws) % len(kinds))
    return [first, second, *kinds]
