"""Any image to uint8 RGB in a square: fitted with black bars, never stretched."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, UnidentifiedImageError

from kd.datasets.deep_images import DeepImage, NotReadable, read_deep
from kd.datasets.limits import LIMITS
from kd.datasets.mask_labels import drawn_part
from kd.datasets.pixel_budget import PixelBudget
from kd.errors import UsageError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm",
                        ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif"})
AT_ONCE = 2 * LIMITS.pixels  # pixels in memory at their full size, whatever the number of threads
# Only formats that Pillow decodes itself: no Ghostscript, no network, no plug-ins found by chance.
Image.init()  # Pillow registers WEBP late, and asking for a format that is not registered is a KeyError
FORMATS = tuple(kind for kind in ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
                 if kind in Image.OPEN)

FITTED, SCALED, ROTATED, FRAMES, ALPHA, ENLARGED = "fitted", "scaled", "rotated", "frames", "alpha", "enlarged"
BINARY, CHANNELS, DARK = "binary", "channels", "dark"
_DARK = 16  # of 255: 12 bits in 16 look like that; such an image shows nothing
TRAITS = {
    FITTED: "not square: fitted into the square with black bars, not stretched",
    SCALED: "deeper than 8 bits: each scaled so that its own darkest value is black and its brightest white",
    ROTATED: "turned upright as their EXIF data ask",
    FRAMES: "of several frames or pages: the first is used",
    ALPHA: "partly transparent: laid over black",
    ENLARGED: "smaller than the working size: enlarged, which adds no detail",
    BINARY: "of the values 0 and 1 only: shown as black and white",
    CHANNELS: "of several channels that are neither grey nor colour: the first is used",
    DARK: "nearly black: no value above a sixteenth of white",
}
_UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90}
_ORIENTATION = 0x0112


class UnreadableImage(UsageError):
    """A file that cannot be used as an image; the message is the bare reason, for a report's list."""


@dataclass(frozen=True)
class FittedImage:
    """A fitted image: pixels uint8 [S, S, 3], its box in the square (left, top, width, height), the original's
    upright width and height, and what had to be done (keys of TRAITS)."""

    pixels: NDArray[np.uint8]
    box: tuple[int, int, int, int]
    shape: tuple[int, int]
    traits: frozenset[str]


def decode(source: bytes | Path, size: int) -> NDArray[np.uint8]:
    """One image as uint8 [size, size, 3]. Raises UsageError that says what is wrong with the file."""
    try:
        return read(source, size).pixels
    except UnreadableImage as bad:
        name = f"The image {source.name!r}" if isinstance(source, Path) else "This image"
        raise UsageError(f"{name} cannot be used: {bad}. Choose another, or save it again as PNG or JPEG.") from bad


def read(source: bytes | Path, size: int) -> FittedImage:
    """One image with its frame and traits. Raises UnreadableImage with the reason."""
    with _reasons():
        return _read(source, size)


def dimensions(source: bytes | Path) -> tuple[int, int]:
    """Width and height of an image as its file says, not yet turned upright. Raises UnreadableImage."""
    with _reasons(), _open(source) as image:
        return image.size


def box_of(shape: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """Where an image of this width and height lies in the square that it is fitted into: left, top, width, height."""
    width, height = (max(1, round(side * size / max(shape))) for side in shape)
    return (size - width) // 2, (size - height) // 2, width, height


def read_original(source: bytes | Path, most: int) -> NDArray[np.uint8]:
    """One image at its own resolution, fitted into a square of its longer side (at most `most` pixels) as `read` fits
    it into the working size. Raises UnreadableImage."""
    return read(source, min(most, max(dimensions(source)))).pixels


def read_mask(source: bytes | Path, fitted: FittedImage) -> NDArray[np.uint8]:
    """The mask of an image as uint8 [S, S] of 0 and 255, in the image's frame. Raises UnreadableImage."""
    with _reasons():
        return _read_mask(source, fitted)


def fit_array(values: NDArray[np.generic], size: int) -> FittedImage:
    """A grey [H, W] or RGB [H, W, 3] array of any number type as a fitted image. Raises UnreadableImage."""
    traits: set[str] = set()
    image = _shown(values, traits)
    return _fit(image, size, image.size, traits)


def _shown(values: NDArray[np.generic], traits: set[str]) -> Image.Image:
    """Numbers as an RGB image; the channels of a colour are scaled together, so that its hue stays."""
    found, scaled = to_bytes(values)
    traits.update({SCALED} if scaled else ())
    return Image.fromarray(found).convert("RGB")


def to_bytes(values: NDArray[np.generic]) -> tuple[NDArray[np.uint8], bool]:
    """Any numbers as uint8, and whether they were scaled to their own range.

    Kept as they are when they fit into 8 bits (0..255); floats within 0..1 are read as shares of full brightness.
    Not-a-number and infinity become the lowest finite value. Raises UnreadableImage when nothing is finite.
    """
    if values.dtype == np.uint8:
        return values.view(np.ndarray), False
    if values.dtype == np.bool_:
        return np.where(values, 255, 0).astype(np.uint8), False
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        raise UnreadableImage("it holds no finite number")
    low, high = float(numbers[finite].min()), float(numbers[finite].max())
    numbers = np.where(finite, numbers, low)
    if low >= 0 and high <= 1 and values.dtype.kind == "f":
        return np.rint(numbers * 255).astype(np.uint8), False
    if low >= 0 and high <= 255 and values.dtype != np.int8:
        return np.rint(numbers).astype(np.uint8), False
    return np.rint((numbers - low) / max(high - low, 1e-300) * 255).astype(np.uint8), True


_budget = PixelBudget(AT_ONCE)


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever a decoder raises into an UnreadableImage that says it in words."""
    try:
        yield
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("it is not an image, or of a kind that is not read here") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(f"it has more than {LIMITS.pixels // 10**6} million pixels") from error
    except NotReadable as error:
        raise UnreadableImage(str(error)) from error
    except MemoryError as error:
        raise UnreadableImage("it needs more memory than there is") from error
    # Broken bytes make decoders raise anything at all: struct.error, KeyError, SyntaxError, EOFError and more.
    except Exception as error:
        missing = isinstance(error, OSError) and error.errno is not None
        why = (error.strerror if missing and isinstance(error, OSError) else str(error)) or type(error).__name__
        raise UnreadableImage(f"the file cannot be opened ({why})" if missing else f"it is damaged ({why})") from error


def _read(source: bytes | Path, size: int) -> FittedImage:
    traits: set[str] = set()
    if deep := _deep(source):
        traits.update(trait for trait, seen in ((FRAMES, deep.frames), (ALPHA, deep.alpha), (CHANNELS, deep.channels))
                      if seen)
        return _upright(_shown(deep.values, traits), deep.turn, size, deep.values.shape[1::-1], traits)
    with _open(source) as image, _budget.take(image.width * image.height):
        full = image.size
        if image.format != "MPO" and getattr(image, "is_animated", False):
            traits.add(FRAMES)
        # A JPEG can be decoded at a fraction of its size for less time and memory; twice the target keeps the quality.
        image.draft("", (2 * size, 2 * size))
        drafted = image.size != full
        image.load()
        turn = _orientation(image)
        shape = full if drafted else image.size
        shown = _to_rgb(image, traits)
    return _upright(shown, turn, size, shape, traits)


def _deep(source: bytes | Path) -> DeepImage | None:
    """The values of an image that Pillow does not read as they are meant; None for any other."""
    _require_content(source)
    return read_deep(source)


def _upright(image: Image.Image, turn: int, size: int, shape: tuple[int, int], traits: set[str]) -> FittedImage:
    if turn in _UPRIGHT:
        image = image.transpose(_UPRIGHT[turn])
        traits.add(ROTATED)
    return _fit(image, size, shape[::-1] if turn >= 5 else shape, traits)


def joined_masks(sources: Sequence[bytes]) -> bytes:
    """A PNG of 0 and 255 of where any of several masks of one image is drawn. Raises UnreadableImage."""
    with _reasons():
        drawn = [_drawn(source) for source in sources]
        joined = drawn[0]
        for one in drawn[1:]:
            joined = ImageChops.lighter(joined, one.resize(joined.size, Image.Resampling.NEAREST))
        out = BytesIO()
        joined.save(out, "PNG")
    return out.getvalue()


def _drawn(source: bytes | Path) -> Image.Image:
    """Where a mask is drawn, upright, as 0 and 255."""
    if deep := _deep(source):
        inside, turn = drawn_part(deep.values), deep.turn
    else:
        with _open(source) as image, _budget.take(image.width * image.height):
            image.load()
            inside = _inside(image)
            turn = _orientation(image)
    drawn = Image.fromarray(inside.astype(np.uint8) * np.uint8(255))
    return drawn.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else drawn


def _read_mask(source: bytes | Path, fitted: FittedImage) -> NDArray[np.uint8]:
    drawn = _drawn(source)
    (width, height), (across, down) = drawn.size, fitted.shape
    if abs(width * down - height * across) > 0.05 * width * down:
        raise UnreadableImage(f"its shape {width}x{height} is not that of its image, {across}x{down}")
    left, top, box_width, box_height = fitted.box
    canvas = np.zeros(fitted.pixels.shape[:2], np.uint8)
    resized = drawn.resize((box_width, box_height), Image.Resampling.NEAREST)
    canvas[top:top + box_height, left:left + box_width] = np.asarray(resized)
    return canvas


def _inside(image: Image.Image) -> NDArray[np.bool_]:
    """Where a mask is drawn; any colour of a palette but black."""
    if image.mode in ("P", "1"):
        return np.asarray(image.convert("RGB")).max(axis=2) > 0
    values = np.asarray(image) if _is_deep(image) else np.asarray(_to_rgb(image, set()))
    # JPEG blurs black into small numbers, so its masks cannot be counted in shares of their own maximum.
    return values.max(axis=2) > 127 if image.format == "JPEG" else drawn_part(values)


def _open(source: bytes | Path) -> Image.Image:
    _require_content(source)
    image = Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    if image.width * image.height > LIMITS.pixels:
        image.close()
        raise UnreadableImage(f"it has {image.width}x{image.height} pixels, more than {LIMITS.pixels // 10**6} million")
    return image


def _require_content(source: bytes | Path) -> None:
    if (source.stat().st_size if isinstance(source, Path) else len(source)) == 0:
        raise UnreadableImage("the file is empty")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation 1..8; 1 where there is none or the EXIF block itself is broken."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken side note is no reason to lose a good image
        return 1
    return turn if isinstance(turn, int) else 1


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _to_rgb(image: Image.Image, traits: set[str]) -> Image.Image:
    if _is_deep(image):
        return _shown(np.asarray(image), traits)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    if np.asarray(layer.getchannel("A")).min() < 255:
        traits.add(ALPHA)
    return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")


def _fit(image: Image.Image, size: int, shape: tuple[int, int], traits: set[str]) -> FittedImage:
    """Resize so that the longer side fills the square. `shape` is the original's, before any reduced decoding."""
    image = _black_and_white(image, traits)
    left, top, width, height = box_of(shape, size)
    canvas = Image.new("RGB", (size, size))
    canvas.paste(image.resize((width, height), Image.Resampling.BICUBIC), (left, top))
    if (width, height) != (size, size):
        traits.add(FITTED)
    if size > max(shape):
        traits.add(ENLARGED)
    if _extremes(canvas)[1] <= _DARK:
        traits.add(DARK)
    return FittedImage(np.array(canvas), (left, top, width, height), shape, frozenset(traits))


def _black_and_white(image: Image.Image, traits: set[str]) -> Image.Image:
    """An image of 0 and 1 only, as masks are saved, with 1 as white; any other as it is."""
    if _extremes(image) != (0, 1):
        return image
    traits.add(BINARY)
    return image.point(lambda value: 255 * value)


def _extremes(image: Image.Image) -> tuple[int, int]:
    """The lowest and the highest value of an RGB image."""
    bands: Any = image.getextrema()
    return min(low for low, _ in bands), max(high for _, high in bands)
