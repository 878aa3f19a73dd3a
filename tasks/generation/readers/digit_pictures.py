"""scikit-learn's handwritten digits with prompts: the rows behind the mini task `digit_pictures`."""


def read_digits(task):
    """1,000 pictures to train on and 360 others, which and in which order by a hash of their numbers."""
    import datasets
    import numpy as np
    from sklearn.datasets import load_digits

    from mubench.splits import rank

    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.uint8)
    order = rank([f"{task.name}/test/{row}" for row in range(len(pixels))])

    def row(number):  # PGM: stored uncompressed, the same bytes everywhere
        label = int(digits.target[number])
        template = task.templates[number % len(task.templates)]
        return {
            "image": {"bytes": b"P5 8 8 255\n" + pixels[number].tobytes()},
            "label": label,
            "text": template.format(task.labels[label]),
        }

    numbers = {"test": order[:360], "train": order[360:1360]}
    return datasets.DatasetDict(
        {
            name: datasets.Dataset.from_list([row(n) for n in sorted(chosen)], features=task.features)
            for name, chosen in numbers.items()
        }
    )
