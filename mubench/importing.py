"""Large libraries are imported without a search for garbage, which would take a fifth of the time and find none."""

import contextlib
import gc


@contextlib.contextmanager
def importing():
    """Inside, Python does not look for cycles of dead objects; afterwards it does again, if it did before.

    What is there then counts as old at once, where nobody has frozen anything: not looked through twice on its way
    there, which takes a second for PyTorch and `transformers`.
    """
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()  # into the oldest generation
        if looking:
            gc.enable()
