"""Images of more than 8 bits, and TIFF files of kinds that Pillow does not read, as their own numbers.

Pillow keeps the upper byte of colours deeper than 8 bits, so 12 bits in 16 come out nearly black; it reads 32 unsigned
bits as signed, and turns over WhiteIsZero (photometric 0) at 8 bits only. Here every number keeps its value, and
WhiteIsZero is turned over at every depth.
"""

from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.datasets.limits import LIMITS

if TYPE_CHECKING:
    from tifffile import TiffPage

_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 2, 3, 6
_GREY_OR_COLOUR = (_WHITE_IS_ZERO, 1, _RGB, _PALETTE)
_BITS, _PHOTOMETRIC, _ORIENTATION, _EXTRA, _FORMAT = 258, 262, 274, 338, 339


class NotReadable(ValueError):
    """An image of more than 8 bits that cannot be shown, and why."""


@dataclass(frozen=True)
class DeepImage:
    """Values of an image as stored: grey [H, W] or RGB [H, W, 3] of any number type, alpha laid over black.

    turn: EXIF orientation, 1..8. frames: whether there are more images in the file than the first, which this is.
    alpha: whether a part was transparent. channels: whether it was of channels that are neither grey nor colour, of
    which this is the first.
    """

    values: NDArray[np.generic]
    turn: int = 1
    frames: bool = False
    alpha: bool = False
    channels: bool = False


def read_deep(source: bytes | Path) -> DeepImage | None:
    """The image of a PNG or TIFF file whose values need more than Pillow; None for every other.

    Raises NotReadable, and whatever the decoders raise for damaged files.
    """
    head = _head(source)
    if head.startswith(_PNG) and len(head) > 25 and head[24] == 16 and head[25] != 0:  # 16-bit grey: Pillow is right
        return _png(source)
    if head.startswith(_TIFF) and _needs_values(source):
        return _tiff(source)
    return None


def _head(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source[:32]
    with source.open("rb") as file:
        return file.read(32)


def _png(source: bytes | Path) -> DeepImage:
    from imagecodecs import png_decode

    with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=("PNG",)) as image:
        _require_bounded(image.width, image.height)
        turn = 1
        with suppress(Exception):  # a broken side note is no reason to lose a good image
            turn = int(image.getexif().get(_ORIENTATION, 1))
        frames = getattr(image, "is_animated", False)
    values = png_decode(source if isinstance(source, bytes) else source.read_bytes())
    values, alpha = over_black(values, values.ndim == 3 and values.shape[2] in (2, 4))
    return DeepImage(values, turn, frames, alpha)


def _needs_values(source: bytes | Path) -> bool:
    """Whether a TIFF file is of a kind that Pillow does not read or reads otherwise than it is meant."""
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=("TIFF",)) as image:
            tags = image.tag_v2  # type: ignore[attr-defined]
            bits, kinds = tags.get(_BITS, (1,)), tags.get(_FORMAT, (1,))
    except Exception:  # of no mode that Pillow knows, or damaged: tifffile says which
        return True
    return max(bits) > 8 or any(kind not in (1, 4) for kind in kinds)


def _tiff(source: bytes | Path) -> DeepImage:
    from tifffile import TiffFile, TiffPage

    with TiffFile(BytesIO(source) if isinstance(source, bytes) else source) as file:
        page = file.pages.first
        if not isinstance(page, TiffPage):
            raise NotReadable("it has no image")
        _require_bounded(page.imagewidth, page.imagelength * max(1, page.imagedepth))
        if page.dtype is None or page.dtype.kind not in "uifb":
            raise NotReadable(f"its values are of a kind that is not read ({page.dtype or 'unknown'})")
        values = _first_plane(page)
        turn = page.tags[_ORIENTATION].value if _ORIENTATION in page.tags else 1
        return _interpreted(page, values, turn if isinstance(turn, int) else 1, len(file.pages) > 1)


def _first_plane(page: "TiffPage") -> NDArray[np.generic]:
    """Values [H, W] or [H, W, S] of a page, whatever the order in which it keeps channels."""
    values = page.asarray(maxworkers=1)
    axes = page.axes
    for name in [name for name in axes if name not in "YXS"]:
        values, axes = values.take(0, axes.index(name)), axes.replace(name, "", 1)
    return np.moveaxis(values, axes.index("S"), -1) if "S" in axes else values


def _interpreted(page: "TiffPage", values: NDArray[np.generic], turn: int, frames: bool) -> DeepImage:
    if page.photometric not in _GREY_OR_COLOUR:
        raise NotReadable(f"its colours are stored as {getattr(page.photometric, 'name', page.photometric)} at "
                          f"{page.bitspersample} bits")
    if page.photometric == _PALETTE and page.colormap is not None and values.ndim == 2:
        return DeepImage(np.moveaxis(page.colormap[:, values.astype(np.intp)], 0, -1), turn, frames)
    if page.photometric == _WHITE_IS_ZERO:
        values = _turned_over(values, page.bitspersample)
    samples = values.shape[2] if values.ndim == 3 else 1
    colour = page.photometric == _RGB and samples >= 3
    has_alpha = any(int(kind) in (1, 2) for kind in page.extrasamples or ()) and samples == (4 if colour else 2)
    if not colour and samples > 1 and not has_alpha:
        return DeepImage(values[..., 0], turn, frames, channels=True)
    laid, alpha = over_black(values if has_alpha else values[..., :3] if colour else values, has_alpha)
    return DeepImage(laid, turn, frames, alpha, samples > 4)


def _turned_over(values: NDArray[np.generic], bits: int) -> NDArray[np.generic]:
    """Values of a WhiteIsZero image with white as the highest."""
    if values.dtype.kind == "b":
        return np.logical_not(values)
    if values.dtype.kind == "u":
        return np.asarray((np.uint64(2**bits - 1) - values.astype(np.uint64)).astype(values.dtype))
    return np.asarray(-values.astype(np.float64))


def over_black(values: NDArray[Any], has_alpha: bool) -> tuple[NDArray[np.generic], bool]:
    """Grey [H, W] or RGB [H, W, 3] of values [H, W, S] laid over black, and whether any of it was transparent."""
    if not has_alpha:
        return (values[..., 0], False) if values.ndim == 3 and values.shape[2] == 1 else (values, False)
    layer, alpha = values[..., :-1], values[..., -1]
    full = float(np.iinfo(values.dtype).max) if values.dtype.kind in "ui" else 1.0
    layer = layer[..., 0] if layer.shape[2] == 1 else layer
    if alpha.min() == alpha.max():  # opaque, in whatever depth it is written
        return layer, False
    share = np.clip(alpha.astype(np.float64) / full, 0, 1)
    return layer * (share if layer.ndim == 2 else share[..., None]), True


def _require_bounded(width: int, height: int) -> None:
    if width * height > LIMITS.pixels:
        raise NotReadable(f"it has {width}x{height} pixels, more than {LIMITS.pixels // 10**6} million")
