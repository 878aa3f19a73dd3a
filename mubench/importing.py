"""Large libraries are imported without a search for garbage, which would take a fifth of the time and find none."""

import contextlib
import gc


@contextlib.contextmanager
def importing():
    """Inside, Python does not look for cycles of dead objects; afterwards it does again, if it did before.

    What is there then counts as old after one look, not after three.
    """
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            gc.collect(1)
            gc.enable()
