"""Video files: the frames that a model takes, read, and clips of samples, written."""

from mubench.errors import MubenchError
from mubench.tasks.readers.files import side_by_side, whole_riff


def read_clips(paths, frames, stride, size):
    """[clips, frames, size, size, 3] bytes: see `read_clip`."""
    import numpy as np

    return np.stack(side_by_side(lambda path: read_clip(path, frames, stride, size), paths))


def read_clip(path, frames, stride, size):
    """Frames from the middle of a video file, [frames, size, size, 3] bytes.

    frames: how many.
    stride: every how many-th one; a short clip's frames are spread over all of it.
    size: their shorter side is brought to it, and the middle cut out.

    Raises `MubenchError` naming a file that cannot be decoded.
    """
    import numpy as np

    film = _decoded(path)
    reach = min((frames - 1) * stride, len(film) - 1)
    first = (len(film) - 1 - reach) // 2
    chosen = [film[round(first + reach * i / max(1, frames - 1))] for i in range(frames)]
    return np.stack([np.asarray(_square(frame.to_image(), size)) for frame in chosen])


def _decoded(path):
    """All frames of a video file."""
    try:
        import av
    except ImportError:
        raise MubenchError(
            "video files are decoded by PyAV, which is not installed: pip install 'mubench[video]'"
        ) from None

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
    return film


def _square(picture, size):
    """The middle of a picture whose shorter side is brought to ``size``."""
    from PIL import Image

    width, height = picture.size
    scale = size / min(width, height)
    wide, high = round(width * scale), round(height * scale)
    left, top = (wide - size) // 2, (high - size) // 2
    resized = picture.resize((wide, high), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


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
