"""Image classification: pictures kept as bytes, normalised in the batch."""

from mubench.models import networks
from mubench.models.pixels import per_channel, pixel_range
from mubench.tasks.base import Task
from mubench.tasks.contract.caching import cached_method


class ImageClassification(Task):
    """Rows have ``image`` and ``label``.

    A model's ``inputs``; where it is pretrained, they are its image processor's:

    mean, std: of the pixels (in [0, 1]), one number or one per channel
    size: the side that pictures are resized to, where it differs from their own
    """

    modality = "image"
    provides = Task.provides | {"signal", "pixels"}
    resident = ("pixels", "labels")

    def with_corrupted(self, data):
        """``data`` with a transfer set: the rows that count in D_t, each under one corruption.

        See `mubench.tasks.image.readers.corruptions`.
        """
        import datasets
        import numpy as np
        from PIL import Image

        from mubench.tasks.image.readers.corruptions import corrupt

        rows = self.test_rows(len(data["test"]))[1]
        clean = data["test"].select(rows)
        pictures = corrupt(np.stack([np.asarray(picture) for picture in clean["image"]]), np.array(rows))
        data["transfer"] = datasets.Dataset.from_dict(
            {"image": [Image.fromarray(p) for p in pictures], "label": list(clean["label"])}, features=clean.features
        )
        return data

    def pixels(self, dataset):
        """The pictures as bytes, [n, H, W] or [n, H, W, C]."""
        import numpy as np

        return np.stack([np.asarray(picture) for picture in dataset["image"]])

    def inputs(self, model):
        """What a model's pictures are brought to: ``mean``, ``std`` and, where they are resized, ``size``."""
        declared = self.models[model]
        if not declared.pretrained:
            return declared.inputs
        processor = networks.processor("AutoImageProcessor", declared.pretrained)
        size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
        side = size.get("height") or size["shortest_edge"]  # of square pictures
        return {"size": side, "mean": processor.image_mean, "std": processor.image_std} | declared.inputs

    def input_range(self, model):
        inputs = self.inputs(model)
        return pixel_range(inputs["mean"], inputs["std"])

    def preparation(self, model):
        return "pixels"

    def prepare(self, dataset, model):
        import torch

        pixels = torch.from_numpy(self.pixels(dataset))
        if pixels.ndim == 3:
            pixels = pixels.unsqueeze(-1)
        return {"pixels": pixels.permute(0, 3, 1, 2), "labels": torch.tensor(dataset["label"])}

    def collate(self, batch, model):
        import torch.nn.functional as F

        pixels = batch["pixels"].float() / 255
        size, mean, std = self._scale(model, pixels.device)
        if size and size != pixels.shape[-1]:
            pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
        return {"pixel_values": (pixels - mean) / std, "labels": batch["labels"]}

    @cached_method
    def _scale(self, model, device):
        """The size of a model's pictures, or None where it is their own, their mean and their std, on a device."""
        inputs = self.inputs(model)
        return inputs.get("size"), *per_channel(inputs["mean"], inputs["std"], device)
