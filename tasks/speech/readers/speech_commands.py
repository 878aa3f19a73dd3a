"""Speech Commands v0.01: Google's two archives, and the copy on the Hub."""

from mubench.errors import MubenchError
from mubench.tasks.readers.files import existing, text
from mubench.tasks.readers.published import Published, hub

SPEECH, TESTS = "speech_commands_v0.01", "speech_commands_test_set_v0.01"  # the folders of the two archives
NOISE = "_background_noise_"  # the folder of long recordings of silence, in both


class SpeechCommandsFiles(Published):
    """Rows have ``audio``, ``name`` and ``label``; they are ordered by name."""

    def from_archive(self, folder):
        import datasets

        root, tests = existing(folder / SPEECH), existing(folder / TESTS)
        for word in (*self.labels[:-2], NOISE):
            existing(root / word)
        listed = {split: set(text(root / f"{split}_list.txt").split()) for split in ("validation", "testing")}
        held_out = listed["validation"] | listed["testing"]
        files = _clip_names(root)
        if missing := held_out - set(files):
            existing(root / min(missing))
        return datasets.DatasetDict(
            train=self._clips(root, [name for name in files if name not in held_out]),
            validation=self._clips(root, [name for name in files if name in listed["validation"]]),
            test=self._clips(tests, _clip_names(tests)),
        )

    def _clips(self, root, names):
        """The rows of some clips, ``word/file.wav`` below a folder."""
        import datasets

        words = [name.split("/")[0] for name in names]
        labels = ["_silence_" if word == NOISE else word if word in self.labels else "_unknown_" for word in words]
        features = datasets.Features(
            audio={"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            name=datasets.Value("string"),
            label=datasets.ClassLabel(names=list(self.labels)),
        )
        audio = [{"bytes": None, "path": str(root / name)} for name in names]
        return datasets.Dataset.from_dict({"audio": audio, "name": names, "label": labels}, features=features)

    def from_hub(self):
        import datasets

        columns = {"audio": "audio", "file": "name", "label": "label"}
        data = datasets.DatasetDict()
        for split, rows in hub("s3prl/superb", "refs/convert/parquet", columns, "ks").items():
            if rows.features["label"].names != list(self.labels):
                raise MubenchError(
                    "s3prl/superb on the Hub has other classes than SUPERB's keyword spotting: it is of another version"
                )
            names = ["/".join(name.split("/")[-2:]) for name in rows["name"]]
            rows = rows.cast_column("audio", datasets.Audio(decode=False)).remove_columns("name")
            data[split] = rows.add_column("name", names).sort("name")
        return data

    def write_sample(self, folder):
        """Tones whose pitch is the class's, in the folders and lists of the two archives."""
        import numpy as np

        random = np.random.default_rng(0)
        root, tests = folder / SPEECH, folder / TESTS
        listed = {"validation": [], "testing": []}
        pitches = dict(zip(self.labels[:10], range(10), strict=True))
        pitches |= {NOISE: 10, "_silence_": 10, "bed": 11, "_unknown_": 11}
        for word, pitch in pitches.items():
            for home, count in ((root, 12), (tests, 4)):
                if word in ((NOISE, "bed") if home == tests else ("_silence_", "_unknown_")):
                    continue
                for number in range(count):
                    name = f"{word}/{number:08x}_nohash_0.wav"
                    _write_tone(home / name, None if pitch == 10 else 200 + 150 * pitch, random)
                    if home == root and word != NOISE and number >= 8:
                        listed["validation" if number < 10 else "testing"].append(name)
        for split, names in listed.items():
            (root / f"{split}_list.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _clip_names(folder):
    """``word/file.wav`` of all clips below a folder, in alphabetical order."""
    return sorted(f"{path.parent.name}/{path.name}" for path in folder.glob("*/*.wav"))


def _write_tone(path, pitch, random):
    """A tone of about a second under noise; of the noise alone where the pitch, in Hz, is None."""
    import numpy as np
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(random.integers(12000, 16001)) / 16000
    tone = 0.0 if pitch is None else 0.3 * np.sin(2 * np.pi * pitch * time)
    soundfile.write(path, tone + 0.02 * random.standard_normal(len(time)), 16000, subtype="PCM_16")
