"""What a file says of an image apart from what is on it: size, bytes, channels, quality."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from kd.datasets.base import SampleFiles
from kd.datasets.decode import FORMATS

_ORIENTATION, _LYING = 0x0112, 5  # EXIF: from this value on, width and height are exchanged


@dataclass(frozen=True)
class FileFacts:
    """Upright width and height in pixels, bytes on disk, channels, and the coarseness of a JPEG: the mean of its first
    quantisation table, 0 for other formats. Zeros where the set's images are no files, or Pillow cannot open this one.
    """

    width: int = 0
    height: int = 0
    size: int = 0
    channels: int = 0
    coarseness: float = 0.0


def file_facts(files: SampleFiles | None) -> FileFacts:
    """The facts of one image's file; only its head is read."""
    if files is None:
        return FileFacts()
    try:
        with Image.open(BytesIO(files.image), formats=FORMATS) as image:
            tables = getattr(image, "quantization", None) or {}
            width, height = image.size[::-1] if image.getexif().get(_ORIENTATION, 1) >= _LYING else image.size
            coarseness = float(np.mean(tables[0])) if 0 in tables else 0.0
            return FileFacts(width, height, len(files.image), len(image.getbands()), coarseness)
    except Exception:  # it was decoded before, by a reader of deeper formats; broken heads raise anything
        return FileFacts(size=len(files.image))
