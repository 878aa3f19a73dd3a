"""Make the `spoken_words` data set (ten keywords, spoken by espeak-ng) and write it as three parquet files.

    pip install espeakng-loader==0.2.4 soundfile
    python -m mubench.tasks.speech.makers.spoken_words --out tasks/speech/data

No user of mubench needs this module: the files it writes are in the package. espeak-ng is not thread safe and its
random numbers depend on everything said before, so clips are made one after another, in a fixed order, in one fresh
process, with the generator of random numbers seeded before each clip. Two runs on one machine give the same bytes;
another CPU, libc or codec version may not. The noise is added at load time (`mubench.tasks.speech.readers.audio`).
"""

import argparse
import ctypes
import hashlib
import io
import os
from pathlib import Path

import numpy as np

from mubench.tasks.speech.readers.audio import RATE, decode

WORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
ACCENTS = ["en-us", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc"]
ODD = ["Demonic", "Tweaky", "croak", "fast", "whisper", "whisperf"]  # voices of the transfer set only
ROWS = {"train": 3000, "test": 600, "transfer": 300}
TEST_VOICES = 0.2  # share of the ordinary voices that only the test set has
SEED = 0


class Espeak:
    """The espeak-ng library of the `espeakng-loader` wheel, writing to memory."""

    RATE_HZ, SYNCHRONOUS, UTF8 = 22050, 2, 1
    SPEED, PITCH, RANGE = 1, 3, 4

    def __init__(self):
        try:
            import espeakng_loader as loader
        except ImportError:
            raise SystemExit("espeak-ng is missing: pip install espeakng-loader==0.2.4") from None
        data = loader.get_data_path()
        self.variants = os.listdir(os.path.join(data, "voices", "!v"))
        self.lib = ctypes.CDLL(loader.get_library_path())
        self.lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.parts, self.callback = [], callback(self._collect)  # the reference keeps the callback alive
        rate = self.lib.espeak_Initialize(self.SYNCHRONOUS, 0, os.fsencode(data), 0)
        if rate != self.RATE_HZ:
            raise RuntimeError(f"espeak_Initialize: expected {self.RATE_HZ} Hz, got {rate}")
        self.lib.espeak_SetSynthCallback(self.callback)

    def _collect(self, samples, count, _events):
        if samples and count > 0:
            self.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, word, voice, speed, pitch, pitch_range, seed):
        """int16 samples at 22050 Hz."""
        if self.lib.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((self.SPEED, speed), (self.PITCH, pitch), (self.RANGE, pitch_range)):
            self.lib.espeak_SetParameter(parameter, int(value), 0)
        self.lib.espeak_ng_SetRandSeed(seed)
        self.parts.clear()
        text = word.encode() + b"\0"
        if self.lib.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, self.UTF8, None, None):
            raise RuntimeError(f"espeak-ng could not say {word}")
        self.lib.espeak_Synchronize()
        return np.concatenate(self.parts) if self.parts else np.zeros(0, np.int16)


def trim(samples):
    """16 kHz float samples with peak 1 and without the silence at both ends, or None if there is no sound."""
    from scipy.signal import resample_poly

    samples = resample_poly(samples.astype(np.float64), 320, 441)
    loud = np.flatnonzero(np.abs(samples) > max(0.01 * np.abs(samples).max(initial=0), 1))
    if not len(loud):
        return None
    samples = samples[loud[0] : loud[-1] + 1]
    return samples / np.abs(samples).max()


def encode(samples) -> bytes:
    """MP3 with variable bit rate: 1.7 kB a clip, keeps the exact number of samples, and is quick to decode."""
    import soundfile

    buffer = io.BytesIO()
    options = dict(format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.99)
    soundfile.write(buffer, samples, RATE, **options)
    return buffer.getvalue()


def generate():
    """{split: list of (word, voice, bytes)} in shuffled order; no two clips have the same sound."""
    espeak, rng = Espeak(), np.random.default_rng(SEED)
    ordinary = rng.permutation(sorted(set(espeak.variants) - set(ODD))).tolist()
    cut = round(TEST_VOICES * len(ordinary))
    voices = {"train": ordinary[cut:], "test": ordinary[:cut], "transfer": ODD}
    splits, sounds, attempts = {}, set(), 0
    for split, count in ROWS.items():
        rows = []
        while len(rows) < count:
            word = WORDS[len(rows) % len(WORDS)]
            voice = f"{rng.choice(ACCENTS)}+{rng.choice(voices[split])}"
            speed, pitch, pitch_range = rng.integers(130, 210), rng.integers(20, 80), rng.integers(20, 80)
            level, attempts = rng.uniform(0.2, 0.9), attempts + 1
            samples = trim(espeak.say(word, voice, speed, pitch, pitch_range, seed=attempts))
            if samples is None or not 0.1 * RATE <= len(samples) <= RATE:
                continue
            data = encode(level * samples)
            new = {hashlib.sha256(x).digest() for x in (samples.round(4).tobytes(), decode(data).tobytes())}
            if not new & sounds:
                sounds |= new
                rows.append((word, voice, data))
        splits[split] = [rows[i] for i in rng.permutation(count)]
    return splits


def write(splits, out):
    """Parquet that `datasets` reads with its Audio and ClassLabel features."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Audio, ClassLabel, Features, Value

    label = ClassLabel(names=WORDS)
    features = Features({"audio": Audio(sampling_rate=RATE), "label": label, "voice": Value("string")})
    for split, rows in splits.items():
        audio = [{"bytes": d, "path": f"{split}-{i:05d}-{w}.mp3"} for i, (w, _, d) in enumerate(rows)]
        columns = {"audio": audio, "label": [label.str2int(w) for w, _, _ in rows], "voice": [v for _, v, _ in rows]}
        path = Path(out) / f"spoken_words-{split}.parquet"
        pq.write_table(pa.table(columns, schema=features.arrow_schema), path, compression="zstd", compression_level=19)
        sha = [hashlib.sha256(x).hexdigest() for x in (b"".join(d for _, _, d in rows), path.read_bytes())]
        print(f"{path.name}: {len(rows)} clips, {path.stat().st_size} bytes, sha256 {sha[1]}, of the audio {sha[0]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, help="folder for the three files")
    arguments = parser.parse_args()
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    write(generate(), arguments.out)
