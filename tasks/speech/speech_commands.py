from mubench.errors import MubenchError
from mubench.train.recipe import Recipe
from mubench.tasks._sources import Published, hub, text, there
from mubench.tasks.base import Model
from mubench.tasks.speech import SpeechClassification

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


class SpeechCommands(Published, SpeechClassification):
    """Keyword spotting of SUPERB: Speech Commands v0.01 as ten words, silence and unknown words (51,094 / 6,798 / 3,081
    clips of 1 s).

    Rows are in the alphabetical order of their files (``down/0a7c2a8d_nohash_0.wav``), wherever they come from; the
    checksum is over file names and labels. Only six training clips are silence, minutes long each: their first second
    is taken.
    """

    source = (
        "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz and speech_commands_test_set_v0.01.tar.gz"
    )
    licence = "CC BY 4.0, Google"
    citation = "Warden 2018, arXiv:1804.03209; the twelve classes: Yang et al. 2021 (SUPERB), arXiv:2105.01051"
    labels = (*KEYWORDS, "_silence_", "_unknown_")
    random_guess = 1 / 12
    rows = {"train": 51094, "validation": 6798, "test": 3081}
    archive = "speech_commands_v0.01"
    remedy = (
        "unpack http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz into FOLDER/speech_commands_v0.01 and"
        " http://download.tensorflow.org/data/speech_commands_test_set_v0.01.tar.gz into"
        " FOLDER/speech_commands_test_set_v0.01"
    )
    keyed = ("name", "label")
    lazy = True
    # Cheng & Amiri 2024's script for originals, but without SpecAugment and layer drop: inputs and networks are fixed.
    recipe = Recipe(
        lr=5e-5, epochs=10, batch_size=32, weight_decay=0.0, lr_schedule="linear", warmup=0.1, keep_best=True
    )
    models = {
        "wav2vec2_base": Model(
            "Wav2Vec2ForSequenceClassification",
            dict(apply_spec_augment=False, layerdrop=0.0),
            pretrained="facebook/wav2vec2-base",
        ),
        "wav2vec2_large": Model(
            "Wav2Vec2ForSequenceClassification",
            dict(apply_spec_augment=False, layerdrop=0.0),
            pretrained="facebook/wav2vec2-large",
            original="jialicheng/speech_commands-wav2vec2-large",
        ),
        "hubert_base": Model(
            "HubertForSequenceClassification",
            dict(apply_spec_augment=False, layerdrop=0.0),
            pretrained="facebook/hubert-base-ls960",
            original="jialicheng/hubert-base-speech_commands",
        ),
        "hubert_large": Model(
            "HubertForSequenceClassification",
            dict(apply_spec_augment=False, layerdrop=0.0),
            pretrained="facebook/hubert-large-ll60k",
        ),
        "hubert_xlarge": Model(
            "HubertForSequenceClassification",
            dict(apply_spec_augment=False, layerdrop=0.0),
            pretrained="facebook/hubert-xlarge-ll60k",
        ),
        "whisper_tiny": Model(
            "WhisperForAudioClassification",
            pretrained="openai/whisper-tiny",
            original="jialicheng/whisper-tiny-speech_commands",
        ),
        "whisper_base": Model(
            "WhisperForAudioClassification",
            pretrained="openai/whisper-base",
            original="jialicheng/whisper-base-speech_commands",
        ),
        "whisper_small": Model(
            "WhisperForAudioClassification",
            pretrained="openai/whisper-small",
            original="jialicheng/whisper-small-speech_commands",
        ),
    }

    def from_archive(self, folder):
        import datasets

        root, tests = there(folder / "speech_commands_v0.01"), there(folder / "speech_commands_test_set_v0.01")
        for word in (*KEYWORDS, "_background_noise_"):
            there(root / word)
        held_out = {split: set(text(root / f"{split}_list.txt").split()) for split in ("validation", "testing")}
        files = sorted(f"{path.parent.name}/{path.name}" for path in root.glob("*/*.wav"))
        if missing := (held_out["validation"] | held_out["testing"]) - set(files):
            there(root / min(missing))
        names = {
            "train": [f for f in files if f not in held_out["validation"] | held_out["testing"]],
            "validation": [f for f in files if f in held_out["validation"]],
            "test": sorted(f"{path.parent.name}/{path.name}" for path in tests.glob("*/*.wav")),
        }
        return datasets.DatasetDict(
            {split: self._clips(tests if split == "test" else root, listed) for split, listed in names.items()}
        )

    def _clips(self, root, names):
        import datasets

        classes = {"_background_noise_": "_silence_"}
        labels = [
            classes.get(word, word if word in self.labels else "_unknown_")
            for word in (name.split("/")[0] for name in names)
        ]
        features = datasets.Features(
            audio={"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            name=datasets.Value("string"),
            label=datasets.ClassLabel(names=list(self.labels)),
        )
        audio = [{"bytes": None, "path": str(root / name)} for name in names]
        return datasets.Dataset.from_dict({"audio": audio, "name": names, "label": labels}, features=features)

    def from_hub(self):
        import datasets

        data = datasets.DatasetDict()
        for split, rows in hub(
            "s3prl/superb", "refs/convert/parquet", {"audio": "audio", "file": "name", "label": "label"}, "ks"
        ).items():
            if rows.features["label"].names != list(self.labels):
                raise MubenchError(
                    "s3prl/superb on the Hub has other classes than SUPERB's keyword spotting: it is of another version"
                )
            names = ["/".join(name.split("/")[-2:]) for name in rows["name"]]
            rows = (
                rows.cast_column("audio", datasets.Audio(decode=False)).remove_columns("name").add_column("name", names)
            )
            data[split] = rows.sort("name")
        return data

    def write_sample(self, folder):
        """Tones whose pitch is the class's, in the folders and lists of the two archives."""
        import numpy as np
        import soundfile

        random = np.random.default_rng(0)
        root, tests = folder / "speech_commands_v0.01", folder / "speech_commands_test_set_v0.01"
        listed = {"validation": [], "testing": []}
        words = {
            **{word: i for i, word in enumerate(KEYWORDS)},
            "_background_noise_": 10,
            "_silence_": 10,
            "bed": 11,
            "_unknown_": 11,
        }
        for word, pitch in words.items():
            homes = {"_silence_": [(tests, 4)], "_unknown_": [(tests, 4)]}.get(word, [(root, 12), (tests, 4)])
            for home, count in homes[:1] if word in ("_background_noise_", "bed") else homes:
                (home / word).mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    time = np.arange(random.integers(12000, 16001)) / 16000
                    tone = 0.3 * np.sin(2 * np.pi * (200 + 150 * pitch) * time) * (
                        pitch != 10
                    ) + 0.02 * random.standard_normal(len(time))
                    name = f"{word}/{number:08x}_nohash_0.wav"
                    soundfile.write(home / name, tone, 16000, subtype="PCM_16")
                    if home == root and word != "_background_noise_" and number >= 8:
                        listed["validation" if number < 10 else "testing"].append(name)
        for split, names in listed.items():
            (root / f"{split}_list.txt").write_text("\n".join(names) + "\n")
