"""Pictures and sounds inside a page."""

import base64

LARGEST = 5_000_000  # bytes of a picture or sound that is put into the page
KINDS = {b"\x89PNG": "image/png", b"RIFF": "audio/wav", b"fLaC": "audio/flac", b"OggS": "audio/ogg"}


def embedded(data):
    """Bytes as an address that holds them."""
    return f"data:{KINDS.get(data[:4], 'audio/mpeg')};base64,{base64.b64encode(data).decode()}"


def is_strip(data):
    """Whether a PNG is a row of pictures, such as the frames of a movement: those need the room of a text."""
    return int.from_bytes(data[16:20], "big") > 3 * int.from_bytes(data[20:24], "big")


def pictures(folder):
    """The PNGs that lie beside a result: pictures before and after."""
    files = [path for path in sorted(folder.glob("*.png")) if path.is_file() and not path.is_symlink()]
    contents = {path.stem: path.read_bytes() for path in files if path.stat().st_size <= LARGEST}
    return [{"name": name, "content": embedded(data)} for name, data in contents.items() if data[:4] == b"\x89PNG"]
