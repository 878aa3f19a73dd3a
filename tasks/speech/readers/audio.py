"""Stored speech clips -> fixed-length waveforms, noisy or not, at load time, numpy only."""

import io

import numpy as np

from mubench.errors import MubenchError
from mubench.tasks.readers.files import whole_riff

RATE = 16000
NOISE = (-3.5, -1.7)  # log10 of the noise's standard deviation, drawn uniformly for each row


def decode(data: bytes | None, path: str | None = None) -> np.ndarray:
    """One clip as float32 samples, about -1 to 1, from its encoded bytes or else from its file.

    Raises `MubenchError` naming the file that is missing, cut short or of another rate than 16 kHz mono.
    """
    import soundfile

    name = path or "a clip"
    if data is None:
        whole_riff(path)
    try:
        clip, rate = soundfile.read(path if data is None else io.BytesIO(data), dtype="float32")
    except (soundfile.LibsndfileError, OSError) as error:
        raise MubenchError(
            f"{name} is no sound that can be decoded ({error}): it is damaged, unpack or fetch the data again"
        ) from error
    if rate != RATE or clip.ndim != 1 or not len(clip):
        raise MubenchError(
            f"{name}: expected {RATE} Hz mono audio, got {rate} Hz with shape {clip.shape}: is it of another data set?"
        )
    return clip


def fitted(clip, length=RATE) -> np.ndarray:
    """The first `length` samples of `clip`, padded with silence where it is shorter."""
    return np.pad(clip[:length], (0, max(0, length - len(clip))))


def window(clip, row, length=RATE, noise=NOISE, seed=0) -> np.ndarray:
    """`clip` at a random place in `length` samples plus Gaussian noise, the same each time for one (seed, row)."""
    rng = np.random.default_rng([seed, row])
    clip = clip[:length]
    start = rng.integers(length - len(clip) + 1)
    amplitude = np.float32(10 ** rng.uniform(*noise))
    out = amplitude * rng.standard_normal(length, dtype=np.float32)
    out[start : start + len(clip)] += clip
    return out.clip(-1, 1, out=out)
