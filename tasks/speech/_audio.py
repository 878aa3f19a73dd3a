"""Stored speech clips -> fixed-length noisy waveforms, at load time, numpy only."""
import io

import numpy as np

RATE = 16000
NOISE = (-3.5, -1.7)  # log10 of the noise's standard deviation, drawn uniformly for each row


def decode(data: bytes) -> np.ndarray:
    """One stored clip as float32 samples, about -1 to 1."""
    import soundfile

    clip, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    if rate != RATE or clip.ndim != 1:
        raise ValueError(f"expected {RATE} Hz mono audio, got {rate} Hz with shape {clip.shape}")
    return clip


def window(clip, row, length=RATE, noise=NOISE, seed=0) -> np.ndarray:
    """`clip` at a random place in `length` samples plus Gaussian noise, the same each time for one (seed, row)."""
    rng = np.random.default_rng([seed, row])
    clip = clip[:length]
    start = rng.integers(length - len(clip) + 1)
    amplitude = np.float32(10 ** rng.uniform(*noise))
    out = amplitude * rng.standard_normal(length, dtype=np.float32)
    out[start : start + len(clip)] += clip
    return out.clip(-1, 1, out=out)
