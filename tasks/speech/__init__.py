"""Speech classification: compressed clips, placed in a fixed window with fixed noise, as a waveform or as a spectrogram."""
from mubench.tasks.base import Task


class SpeechClassification(Task):
    """A model's ``inputs``: ``extractor``, a feature extractor of `transformers`, and its ``options``. A data set's column
    ``noise`` gives, per row, the seed and the range (log10 of the standard deviation) of the noise clips are mixed with."""

    modality = "speech"
    noise: dict = {}

    def prepare(self, dataset, model):
        import numpy as np
        import torch
        import transformers

        from mubench.tasks.speech._audio import RATE, decode, window

        stored = dataset.with_format("arrow")[:]
        clips = (decode(audio["bytes"]) for audio in stored["audio"].to_pylist())
        waves = [window(clip, row, noise=noise[1:], seed=int(noise[0]))
                 for row, (clip, noise) in enumerate(zip(clips, stored["noise"].to_pylist()))]
        inputs = self.models[model].inputs
        extractor = getattr(transformers, inputs["extractor"])(**inputs.get("options", {}))
        name = extractor.model_input_names[0]
        pieces = [extractor(waves[i:i + 256], sampling_rate=RATE, return_tensors="np")[name] for i in range(0, len(waves), 256)]
        return {name: torch.from_numpy(np.concatenate(pieces).astype(np.float32)), "labels": torch.tensor(stored["label"].to_pylist())}
