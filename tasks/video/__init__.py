"""Video classification: clips as film strips or video files, normalised in the batch."""

from mubench.models import networks
from mubench.models.behaviour import pixel_range
from mubench.errors import MubenchError
from mubench.tasks._sources import whole_riff
from mubench.tasks.base import Task


class VideoClassification(Task):
    """A data set's column ``video`` holds one picture per clip, its square frames side by side in order of time, or the
    path of a video file, of which as many frames as the model takes are read, ``stride`` apart, from its middle.

    A model's ``inputs``: ``mean`` and ``std`` of the pixels (in [0, 1]), one number or one per channel; pretrained
    models bring these, the side of their pictures and the number of frames.
    """

    modality = "video"
    provides = Task.provides | {"signal", "pixels"}
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
        import torch

        inputs = self.inputs(model)
        mean, std = (torch.tensor(inputs[k]).reshape(-1, 1, 1) for k in ("mean", "std"))
        return {"pixel_values": (batch["frames"].float() / 255 - mean) / std, "labels": batch["labels"]}

    def input_range(self, model):
        inputs = self.inputs(model)
        return pixel_range(inputs["mean"], inputs["std"])

    def inputs(self, model):
        """``mean``, ``std`` and, of pretrained models, ``size`` and number of ``frames``."""
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


def read_clips(paths, frames, stride, size):
    """[clips, frames, size, size, 3] bytes: see `read_clip`; files are decoded side by side."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda path: read_clip(path, frames, stride, size), paths)))


def read_clip(path, frames, stride, size):
    """``frames`` frames of a video file, every ``stride``-th from its middle (a short one's frames are spread over all
    of it), their shorter side brought to ``size`` and the middle cut out. Raises `MubenchError` naming a file that
    cannot be decoded."""
    import numpy as np

    try:
        import av
    except ImportError:
        raise MubenchError(
            "video files are decoded by PyAV, which is not installed: pip install 'mubench[video]'"
        ) from None
    from PIL import Image

    whole_riff(path)
    try:
        with av.open(str(path)) as container:
            film = list(container.decode(video=0))
    except (av.error.FFmpegError, OSError) as error:
        raise MubenchError(
            f"{path} is no video that can be decoded ({error}): it is damaged, unpack the archive again"
        ) from error
    if not film:
        raise MubenchError(f"{path} holds no frames: it is damaged, unpack the archive again")
    reach = min((frames - 1) * stride, len(film) - 1)
    first = (len(film) - 1 - reach) // 2
    chosen = [film[round(first + reach * i / max(1, frames - 1))].to_image() for i in range(frames)]
    width, height = chosen[0].size
    scale = size / min(width, height)
    wide, high = round(width * scale), round(height * scale)
    left, top = (wide - size) // 2, (high - size) // 2
    return np.stack(
        [
            np.asarray(f.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size)))
            for f in chosen
        ]
    )


def write_clip(path, film, rate=25):
    """Write frames [time, height, width, 3], bytes, as a video file of the kind its name ends in (``.avi``: MPEG-4, as
    UCF101's).
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = *film.shape[1:3], "yuv420p", 8_000_000
        for picture in film:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
