"""The one exception a user is meant to see."""


class MubenchError(Exception):
    """A mistake the user can mend: its message is the whole story, one sentence that says what and how."""


def nearest(kind, name, known, listing):
    """The error for an unknown name: it says the nearest ones.

    kind: what it should be a name of.
    name: the unknown one.
    known: all there are.
    listing: the command that lists them.
    """
    from difflib import get_close_matches

    close = get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return MubenchError(f"unknown {kind} {name!r}: {guess}{listing} lists them all")
