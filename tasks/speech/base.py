"""Speech classification: clips placed in a window of one second, as a waveform or as a spectrogram."""

from mubench.tasks.base import Task


class SpeechClassification(Task):
    """Rows have ``audio``, an encoded clip or the path of its file, and ``label``.

    They may have ``noise``: the seed and the range (log10 of the standard deviation) of the noise that the clip is
    mixed with. Clips without begin at 0, cut or padded with silence.

    A model's ``inputs``; where it is pretrained, it brings its extractor:

    extractor: the class of a feature extractor of `transformers`
    options: its arguments
    """

    modality = "speech"
    provides = Task.provides | {"signal"}
    resident = ("input_values", "input_features", "labels")  # a waveform or a spectrogram
    noise: dict = {}

    def prepare(self, dataset, model):
        import numpy as np
        import torch

        from mubench.tasks.speech.readers.audio import RATE, decode, fitted, window

        stored = dataset.with_format("arrow")[:]
        clips = (decode(audio["bytes"], audio["path"]) for audio in stored["audio"].to_pylist())
        if "noise" in dataset.column_names:
            waves = [
                window(clip, row, noise=noise[1:], seed=int(noise[0]))
                for row, (clip, noise) in enumerate(zip(clips, stored["noise"].to_pylist(), strict=True))
            ]
        else:
            waves = [fitted(clip) for clip in clips]
        extractor = self._extractor(model)
        name = extractor.model_input_names[0]
        pieces = [
            extractor(waves[i : i + 256], sampling_rate=RATE, return_tensors="np")[name]
            for i in range(0, len(waves), 256)
        ]
        return {
            name: torch.from_numpy(np.concatenate(pieces).astype(np.float32)),
            "labels": torch.tensor(stored["label"].to_pylist()),
        }

    def _extractor(self, model):
        import transformers

        from mubench.models import networks

        declared = self.models[model]
        if declared.pretrained:
            return networks.processor("AutoFeatureExtractor", declared.pretrained)
        return getattr(transformers, declared.inputs["extractor"])(**declared.inputs.get("options", {}))
