"""Video classification: clips kept as film strips, normalised in the batch."""
from mubench.tasks.base import Task


class VideoClassification(Task):
    """A data set's column ``video`` holds one picture per clip: its square frames, side by side, in order of time. A model's
    ``inputs``: ``mean`` and ``std`` of the pixels (in [0, 1]), one number or one per channel."""

    modality = "video"

    def preparation(self, model):
        return "frames"

    def prepare(self, dataset, model):
        import numpy as np
        import torch

        strips = torch.from_numpy(np.stack([np.asarray(strip) for strip in dataset["video"]]))
        side = strips.shape[1]
        frames = strips.unflatten(2, (-1, side))  # clip, height, time, width, channel
        return {"frames": frames.permute(0, 2, 4, 1, 3), "labels": torch.tensor(dataset["label"])}

    def collate(self, batch, model):
        import torch

        inputs = self.models[model].inputs
        mean, std = (torch.tensor(inputs[k]).reshape(-1, 1, 1) for k in ("mean", "std"))
        return {"pixel_values": (batch["frames"].float() / 255 - mean) / std, "labels": batch["labels"]}
