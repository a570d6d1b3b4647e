"""One image in whatever form a caller has it."""

from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kd.datasets import decode
from kd.errors import UsageError

ImageLike = str | PathLike[str] | Image.Image | NDArray[Any]
"""A file's path, a PIL image, or an array [H, W] or [H, W, 3] of bytes or of floats in 0..1."""


MOST = 512  # pixels a side of an image in a figure


def as_image(image: Any, size: int) -> NDArray[np.uint8]:
    """The image [size, size, 3] as models see it: fitted into a square with black bars. Raises UsageError.

    image: see ImageLike; a tensor counts as an array, also [3, H, W].
    """
    read = _readable(image)
    if not isinstance(read, np.ndarray):
        return decode.decode(read, size)
    try:
        return decode.fit_array(read, size).pixels
    except decode.UnreadableImage as error:
        raise UsageError(f"The image cannot be used: {error}. Give another.") from None


def as_original(image: Any) -> NDArray[np.uint8]:
    """The image [S, S, 3] at its own resolution, at most MOST pixels a side, in the same square as `as_image`'s; for
    figures. image: one that `as_image` has taken."""
    read = _readable(image)
    if isinstance(read, np.ndarray):
        return decode.fit_array(read, min(MOST, max(read.shape[:2]))).pixels
    return decode.read_original(read, MOST)


def _readable(image: Any) -> bytes | Path | NDArray[Any]:
    """A file or its content, or an array [H, W] or [H, W, 3]. Raises UsageError."""
    if isinstance(image, str | PathLike):
        return Path(image)
    if isinstance(image, Image.Image):
        content = BytesIO()  # by the one decoder, so that a PIL image is read as its file would be
        upright = ImageOps.exif_transpose(image)
        (upright if upright.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I") else upright.convert("RGB")).save(
            content, "PNG")
        return content.getvalue()
    if not hasattr(image, "__array__"):
        raise UsageError(f"An image must be a path, a PIL image or an array, not {type(image).__name__}.")
    values = np.asarray(image)
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3):
        values = values.transpose(1, 2, 0)
    values = values[..., 0] if values.shape[2:] == (1,) else values
    shaped = values.ndim in (2, 3) and values.shape[2:] in ((), (3,)) and 0 not in values.shape
    if not shaped or values.dtype.kind not in "uifb":
        raise UsageError(f"An image must be numbers of shape (H, W) or (H, W, 3), not {values.dtype} {values.shape}.")
    return values
