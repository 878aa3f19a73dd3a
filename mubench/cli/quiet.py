"""Settings of this process that hold for one command, and are put back after it."""

import contextlib
import logging
import os
import sys
import warnings

LOGGERS = ("transformers", "huggingface_hub")
VARIABLES = {  # read by libraries when they are imported, here or by workers; what the user has set stays
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
RAISING = ("strict", "surrogateescape", "surrogatepass")  # what streams do with characters they cannot encode
BARS = ("huggingface_hub.utils", "datasets.utils")  # have the same functions to show and hide their bars


@contextlib.contextmanager
def quiet():
    """Inside, libraries neither warn nor show bars: their chatter is for debugging.

    Only this remains: the bars of a library that is first imported inside stay hidden in this process.
    """
    missing = {name: value for name, value in VARIABLES.items() if name not in os.environ}
    with warnings.catch_warnings(), environment(**missing), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        for name in LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        for library in [sys.modules[name] for name in BARS if name in sys.modules]:
            if not library.are_progress_bars_disabled():
                stack.callback(library.enable_progress_bars)
                library.disable_progress_bars()
        yield


@contextlib.contextmanager
def replacing():
    """Inside, what a terminal cannot show is written as a question mark or an escape, here and by processes that are
    started: no work is lost for a character.
    """
    kind, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    streams = [stream for stream in (sys.stdout, sys.stderr) if getattr(stream, "errors", None) in RAISING]
    before = [(stream, stream.errors) for stream in streams if hasattr(stream, "reconfigure")]
    with environment(PYTHONIOENCODING=f"{kind}:{'replace' if (errors or 'strict') in RAISING else errors}"):
        for stream, _ in before:
            stream.reconfigure(errors="replace")
        try:
            yield
        finally:
            for stream, handler in before:
                if not stream.closed:
                    stream.reconfigure(errors=handler)


@contextlib.contextmanager
def environment(**values):
    """Inside, environment variables have these values; processes that are started there inherit them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
