"""Video classification: clips as film strips or video files, normalised in the batch."""

from mubench.models import networks
from mubench.models.pixels import per_channel, pixel_range
from mubench.tasks.base import Task
from mubench.tasks.contract.caching import cached_method
from mubench.tasks.video.readers.clips import read_clips


class VideoClassification(Task):
    """Rows have ``video`` and ``label``. A video is one picture, its square frames side by side in order of time, or
    the path of a video file, of which as many frames as the model takes are read, ``stride`` apart, from its middle.

    stride: of how many frames of a file one is read

    A model's ``inputs``; where it is pretrained, it brings them:

    mean, std: of the pixels (in [0, 1]), one number or one per channel
    size: the side of its pictures; of pretrained models only
    frames: how many it takes; of pretrained models only
    """

    modality = "video"
    provides = Task.provides | {"signal", "pixels"}
    resident = ("frames", "labels")
    stride = 4

    def preparation(self, model):
        return "frames"

    def prepare(self, dataset, model):
        import numpy as np
        import torch

        labels = torch.tensor(dataset["label"])
        if isinstance(dataset[0]["video"], str):
            inputs = self.inputs(model)
            frames = read_clips(dataset["video"], inputs["frames"], self.stride, inputs["size"])
            return {"frames": torch.from_numpy(frames).permute(0, 1, 4, 2, 3), "labels": labels}
        strips = torch.from_numpy(np.stack([np.asarray(strip) for strip in dataset["video"]]))
        side = strips.shape[1]
        frames = strips.unflatten(2, (-1, side))  # clip, height, time, width, channel
        return {"frames": frames.permute(0, 2, 4, 1, 3), "labels": labels}

    def collate(self, batch, model):
        mean, std = self._scale(model, batch["frames"].device)
        return {"pixel_values": (batch["frames"].float() / 255 - mean) / std, "labels": batch["labels"]}

    @cached_method
    def _scale(self, model, device):
        """The mean and the std of a model's pixels, on a device."""
        inputs = self.inputs(model)
        return per_channel(inputs["mean"], inputs["std"], device)

    def input_range(self, model):
        inputs = self.inputs(model)
        return pixel_range(inputs["mean"], inputs["std"])

    def inputs(self, model):
        """What a model's clips are brought to: ``mean``, ``std`` and, of pretrained models, ``size`` and ``frames``."""
        declared = self.models[model]
        if not declared.pretrained:
            return declared.inputs
        processor = networks.processor("AutoImageProcessor", declared.pretrained)
        side = processor.crop_size if processor.do_center_crop else processor.size
        return {
            "mean": processor.image_mean,
            "std": processor.image_std,
            "size": side.get("height") or side["shortest_edge"],
            "frames": networks.configuration(self.model_class(model), declared.pretrained).num_frames,
        } | declared.inputs
