from mubench.methods.base import Method


class Original(Method):
    """Do nothing: the original model as it is, the row every method must beat."""

    epochs = 0
    official = {}  # the same in both protocols
