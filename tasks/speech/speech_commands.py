from mubench.tasks.base import Model
from mubench.tasks.speech import SpeechClassification
from mubench.tasks.speech.readers.speech_commands import SpeechCommandsFiles
from mubench.train.recipe import Recipe


class SpeechCommands(SpeechCommandsFiles, SpeechClassification):
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
    labels = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "_silence_", "_unknown_")
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
