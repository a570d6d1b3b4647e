"""Stored values of the frames of a DICOM file, frame by frame, with the size checked before anything is decoded.

Compressed frames are decoded by imagecodecs, which reads all JPEG kinds up to 16 bits and RLE and is many times faster
than what pydicom calls by default; what it refuses is tried with GDCM. Lossy JPEG differs by decoder, so `decoders`
belongs with whatever is stored of the pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.datasets.decode import UnreadableImage
from kd.datasets.limits import LIMITS

if TYPE_CHECKING:
    from pydicom import Dataset

RLE = "1.2.840.10008.1.2.5"
_JPEG8 = ("1.2.840.10008.1.2.4.50",)
_JPEG = "1.2.840.10008.1.2.4.51"
_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_LOSSY = (*_JPEG8, _JPEG, "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203")
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")


@dataclass(frozen=True)
class Frames:
    """What the header of a file says of its frames, checked. kind: f float, i signed, u unsigned."""

    rows: int
    columns: int
    samples: int
    count: int
    allocated: int
    stored: int
    kind: str
    photometric: str
    planar: int
    syntax: str

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"<{self.kind}{max(1, self.allocated // 8)}")

    @property
    def lossy(self) -> bool:
        """Whether decoders may differ by a few grey levels."""
        return self.syntax in _LOSSY

    @property
    def subsampled(self) -> bool:
        return self.photometric == "YBR_FULL_422" and self.samples == 3


def decoders() -> str:
    """The decoders and their versions, for the history of what they decoded."""
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("pydicom", "imagecodecs", "python-gdcm"))


def frames_of(data: "Dataset", file_size: int) -> Frames:
    """What the header says of the frames. Raises UnreadableImage where it cannot be, before anything is decoded.

    file_size: bytes of the file as `read_dataset` gives them, which uncompressed pixels cannot exceed.
    """
    if "Rows" not in data or "Columns" not in data:
        raise UnreadableImage("it has no image (a report, plan or structure set)")
    try:
        found = _frames(data)
    except Exception as error:  # a header may hold text where a number belongs
        raise UnreadableImage(f"its header is damaged ({error or type(error).__name__})") from error
    _require_possible(found, file_size)
    return found


def _frames(data: "Dataset") -> Frames:
    rows, columns = int(data.Rows or 0), int(data.Columns or 0)
    samples, count = int(data.get("SamplesPerPixel", 1) or 1), int(data.get("NumberOfFrames", 1) or 1)
    allocated = int(data.get("BitsAllocated", 8) or 8)
    kind = "f" if "FloatPixelData" in data or "DoubleFloatPixelData" in data else (
        "i" if int(data.get("PixelRepresentation", 0) or 0) else "u")
    return Frames(rows, columns, samples, count, allocated, int(data.get("BitsStored", allocated) or allocated), kind,
                   str(data.get("PhotometricInterpretation", "MONOCHROME2")),
                   int(data.get("PlanarConfiguration", 0) or 0), str(data.file_meta.TransferSyntaxUID))


def _require_possible(found: Frames, file_size: int) -> None:
    if found.rows < 1 or found.columns < 1 or found.samples not in (1, 3, 4) or found.count < 1:
        raise UnreadableImage(f"its header says {found.rows}x{found.columns} pixels of {found.samples} samples in "
                              f"{found.count} frames")
    if found.rows * found.columns > LIMITS.pixels:
        raise UnreadableImage(f"it has {found.columns}x{found.rows} pixels, more than {LIMITS.pixels // 10**6} million")
    if found.count > LIMITS.frames:
        raise UnreadableImage(f"it has {found.count} frames, more than {LIMITS.frames}")
    if found.allocated not in (1, 8, 16, 32, 64) or not 1 <= found.stored <= found.allocated:
        raise UnreadableImage(f"its header says {found.stored} bits in {found.allocated}")
    if not _compressed(found.syntax) and _bytes(found) * found.count > file_size + 1024:
        raise UnreadableImage(f"its header says {found.count} frames of {found.columns}x{found.rows}, more than the "
                              "file holds")


def _bytes(found: Frames) -> int:
    """Bytes of one uncompressed frame; of single bits, rounded down over all frames."""
    values = found.rows * found.columns * (2 if found.subsampled else found.samples)
    return values // 8 if found.allocated == 1 else values * (found.allocated // 8)


def _compressed(syntax: str) -> bool:
    return syntax == RLE or syntax.startswith("1.2.840.10008.1.2.4.")


def stored_values(data: "Dataset", found: Frames, wanted: range | list[int] | None = None) -> Iterator[NDArray[Any]]:
    """The stored values of each frame (or of those wanted, ascending): [H, W] or [H, W, 3], only the bits that are
    stored.

    Colours are still those of the photometric interpretation, but YBR of JPEG is RGB already (`decoded_colour`).
    Raises UnreadableImage.
    """
    numbers = range(found.count) if wanted is None else wanted
    try:
        if _compressed(found.syntax):
            yield from _decoded(data, found, set(numbers))
        else:
            for number in numbers:
                yield _native(data, found, number)
    except UnreadableImage:
        raise
    except StopIteration as error:
        raise UnreadableImage(f"it holds fewer frames than the {found.count} its header says") from error
    except Exception as error:  # broken bytes make decoders raise anything at all
        raise UnreadableImage(f"its pixels are damaged ({error or type(error).__name__})") from error


def _native(data: "Dataset", found: Frames, number: int) -> NDArray[Any]:
    name = next((name for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in data), None)
    if name is None:
        raise UnreadableImage("it has no pixels")
    content = data[name].value
    if found.allocated == 1:
        return _bits(content, found, number)
    step = _bytes(found)
    chunk = content[number * step:(number + 1) * step]
    if len(chunk) < step:
        raise UnreadableImage(f"it ends within frame {number + 1} of {found.count}")
    kind = found.dtype if found.kind != "f" else np.dtype("<f4" if name == "FloatPixelData" else "<f8")
    big = data.original_encoding[1] is False if hasattr(data, "original_encoding") else False
    if big and found.allocated == 8 and data[name].VR == "OW":  # bytes lie in words, which are turned over
        padded = content[number * step // 2 * 2:((number + 1) * step + 1) // 2 * 2]
        chunk = np.frombuffer(padded, "<u2").byteswap().tobytes()[number * step % 2:][:step]
    values = np.frombuffer(chunk, kind.newbyteorder(">") if big and found.allocated > 8 else kind)
    if found.subsampled:
        return _expanded(values, found)
    return _shaped(values, found)


def _bits(content: bytes, found: Frames, number: int) -> NDArray[np.uint8]:
    size = found.rows * found.columns
    start = number * size
    packed = np.frombuffer(content[start // 8:(start + size + 7) // 8 + 1], np.uint8)
    return np.unpackbits(packed, bitorder="little")[start % 8:start % 8 + size].reshape(found.rows, found.columns)


def _expanded(values: NDArray[Any], found: Frames) -> NDArray[Any]:
    """YBR_FULL_422 as Y1 Y2 Cb Cr for each two pixels, with a colour for each pixel."""
    pairs = values.reshape(found.rows, found.columns // 2, 4)
    out = np.empty((found.rows, found.columns, 3), values.dtype)
    out[:, ::2, 0], out[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    out[..., 1], out[..., 2] = np.repeat(pairs[..., 2], 2, axis=1), np.repeat(pairs[..., 3], 2, axis=1)
    return out


def _shaped(values: NDArray[Any], found: Frames) -> NDArray[Any]:
    if found.samples == 1:
        return _masked(values.reshape(found.rows, found.columns), found)
    if found.planar:
        return np.moveaxis(values.reshape(found.samples, found.rows, found.columns), 0, -1)
    return values.reshape(found.rows, found.columns, found.samples)


def _masked(values: NDArray[Any], found: Frames) -> NDArray[Any]:
    """Only the bits that are stored: the others may hold an overlay."""
    if found.kind == "f" or found.stored == found.allocated:
        return values
    if found.kind == "u":
        return values & values.dtype.type(2**found.stored - 1)
    shift = found.allocated - found.stored
    return np.right_shift(np.left_shift(values, shift), shift)


def _decoded(data: "Dataset", found: Frames, wanted: set[int]) -> Iterator[NDArray[Any]]:
    from pydicom.encaps import generate_frames

    offsets = (data.get("ExtendedOffsetTable"), data.get("ExtendedOffsetTableLengths"))
    given = (offsets[0], offsets[1]) if all(offsets) else None
    seen = -1
    for seen, frame in enumerate(generate_frames(data.PixelData, number_of_frames=found.count, extended_offsets=given)):
        if seen in wanted:
            yield _frame(data, found, frame, seen)
        if seen >= max(wanted):
            return
    raise UnreadableImage(f"it holds {seen + 1} frames, fewer than the {found.count} its header says")


def _frame(data: "Dataset", found: Frames, content: bytes, number: int) -> NDArray[Any]:
    try:
        values = _by_imagecodecs(content, found)
    except Exception:  # a kind, or a flaw, that imagecodecs refuses
        values = _by_gdcm(data, found, number)
    if values.shape[:2] != (found.rows, found.columns):
        raise UnreadableImage(f"a frame is {values.shape[1]}x{values.shape[0]}, not {found.columns}x{found.rows} as "
                              "its header says")
    return values


def _by_imagecodecs(content: bytes, found: Frames) -> NDArray[Any]:
    import imagecodecs as codecs

    if found.syntax == RLE:
        flat = np.asarray(codecs.dicomrle_decode(content, found.dtype)).reshape(-1)
        size = found.rows * found.columns
        planes = flat.view(found.dtype)[:size * found.samples]
        shaped = planes.reshape(found.samples, found.rows, found.columns)
        return _masked(shaped[0], found) if found.samples == 1 else np.moveaxis(shaped, 0, -1)
    if found.syntax in _JPEG8:
        values = codecs.jpeg8_decode(content, **_colour_space(content, found))
    elif found.syntax in (*_LOSSLESS, _JPEG):
        values = codecs.jpeg_decode(content, **(_colour_space(content, found) if found.syntax == _JPEG else {}))
    elif found.syntax in _JPEG_LS:
        values = codecs.jpegls_decode(content)
    elif found.syntax in _JPEG_2000:
        values = codecs.jpeg2k_decode(content)
    elif found.syntax in _HTJ2K:
        values = codecs.htj2k_decode(content)
    else:
        raise ValueError(found.syntax)
    return _signed(np.asarray(values), found)


def _signed(values: NDArray[Any], found: Frames) -> NDArray[Any]:
    """Values of a decoder that knows no sign, with that of the header."""
    if found.kind == "i" and values.dtype.kind == "u":
        return _masked(values.astype(f"<u{found.allocated // 8}").view(found.dtype), found)
    return values


def _colour_space(content: bytes, found: Frames) -> dict[str, Any]:
    """What tells the decoder that RGB was stored as RGB; without a mark in the file it would take it for YCbCr."""
    marked = b"\xff\xee\x00\x0eAdobe" in content[:4096] or b"JFIF" in content[:64]
    if found.samples == 3 and found.photometric == "RGB" and not marked:
        return {"colorspace": "RGB", "outcolorspace": "RGB"}
    return {}


def _by_gdcm(data: "Dataset", found: Frames, number: int) -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    try:
        return np.asarray(pixel_array(data, index=number, decoding_plugin="gdcm", raw=False))
    except Exception as error:
        raise UnreadableImage(f"its compressed pixels cannot be decoded ({str(error)[:120]})") from error


def decoded_colour(found: Frames) -> bool:
    """Whether colours are RGB once decoded, whatever the header calls them: JPEG and JPEG 2000 decoders convert."""
    return found.syntax.startswith("1.2.840.10008.1.2.4.") and found.syntax not in _JPEG_LS
