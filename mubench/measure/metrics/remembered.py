"""What is slow to compute is computed once: a run, its board and all that is compared with it ask for the same."""

import functools
import hashlib
from collections import OrderedDict

KEPT = 1024  # results of each function, a number each


def by_content(function):
    """A function of arrays that gives a number: of the same values it is not computed again by this process."""
    results = OrderedDict()

    @functools.wraps(function)
    def found(*arrays):
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
        key = digest.digest()
        value = results[key] = results.pop(key) if key in results else function(*arrays)
        if len(results) > KEPT:
            results.popitem(last=False)
        return value

    return found
