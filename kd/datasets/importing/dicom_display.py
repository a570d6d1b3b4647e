"""Stored values of DICOM as an image to look at: rescaled frame by frame, windowed, and white where it is meant.

The policy, where readers disagree: MONOCHROME1 is turned over, after windowing; rescale and window are those of each
frame, which multi-frame files keep per frame; a palette of 16 bits keeps its upper eight; without a window in the file
the image's own darkest value is black and its brightest white, without the padding.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.datasets.decode import UnreadableImage
from kd.datasets.importing.dicom_pixels import Frames, decoded_colour
from kd.errors import UsageError

if TYPE_CHECKING:
    from pydicom import Dataset

WINDOWS = {"file": None, "own": None, "lung": (-600.0, 1500.0), "bone": (400.0, 1800.0), "brain": (40.0, 80.0),
           "soft tissue": (40.0, 400.0), "abdomen": (40.0, 350.0), "mediastinum": (50.0, 350.0)}


@dataclass(frozen=True)
class Window:
    """How grey values become brightness: the file's own window, the image's own range, or a centre and a width."""

    name: str = "file"
    centre: float = 0.0
    width: float = 0.0

    @classmethod
    def of(cls, text: str) -> "Window":
        """From `file`, `own`, a named window (`lung`) or `centre,width`. Raises UsageError."""
        name = text.strip().lower() or "file"
        if name in ("file", "own"):
            return cls(name)
        fixed = WINDOWS.get(name)
        try:
            centre, width = fixed or tuple(map(float, name.split(",")))
        except ValueError as error:
            raise UsageError(f"{text!r} is no window: give centre,width (as 40,400) or one of {', '.join(WINDOWS)}."
                             ) from error
        if not width > 0 or not np.isfinite((centre, width)).all():
            raise UsageError(f"A window's width must be above 0, not {width}.")
        return cls(name, centre, width)


def shown(data: "Dataset", found: Frames, values: NDArray[Any], number: int, window: Window) -> NDArray[np.uint8]:
    """One frame as uint8 [H, W] or RGB [H, W, 3]. Raises UnreadableImage."""
    if found.photometric.startswith("PALETTE"):
        return _palette(data, values)
    if found.samples >= 3:
        return _colour(found, values[..., :3])
    turned = found.photometric == "MONOCHROME1" or str(data.get("PresentationLUTShape", "")) == "INVERSE"
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 and _has_window(data, number, window):
        # Each of the few values that 16 bits can have is looked up, which takes a fraction of working on every pixel.
        lowest = values.min()
        levels = np.arange(int(lowest), int(values.max()) + 1)
        # Unsigned differences are right where signed ones would not fit; none needs clipping, which spares a check.
        steps = np.subtract(values, lowest).view(f"u{values.dtype.itemsize}")
        return np.asarray(_bright(data, levels, number, window, turned).take(steps, mode="clip"))
    return _bright(data, values, number, window, turned)


def _bright(data: "Dataset", values: NDArray[Any], number: int, window: Window, turned: bool) -> NDArray[np.uint8]:
    bright = _windowed(data, values, rescaled(data, values, number), number, window)
    return np.asarray(np.rint((1 - bright if turned else bright) * 255), np.uint8)


def _has_window(data: "Dataset", number: int, window: Window) -> bool:
    """Whether brightness follows from each value alone, not from the image's own range."""
    voi = _functional(data, number, "FrameVOILUTSequence") or data
    given = bool(voi.get("VOILUTSequence")) or (_first(voi.get("WindowWidth")) or 0) >= 1
    return bool(window.width) or (window.name == "file" and given)


def _functional(data: "Dataset", number: int, sequence: str) -> Any:
    """A group of an enhanced multi-frame file, of this frame or shared by all; None where there is none."""
    per_frame, shared = data.get("PerFrameFunctionalGroupsSequence"), data.get("SharedFunctionalGroupsSequence")
    for groups in ((per_frame[number],) if per_frame and number < len(per_frame) else (), (shared or ())[:1]):
        for group in groups:
            if group.get(sequence):
                return group[sequence].value[0]
    return None


def rescaled(data: "Dataset", values: NDArray[Any], number: int) -> NDArray[np.float64]:
    """Stored grey values in the unit of their modality (of CT, Hounsfield units), as the frame's own group says."""
    own = _functional(data, number, "PixelValueTransformationSequence") or data
    numbers = values.astype(np.float64)
    if data.get("ModalityLUTSequence"):
        return _looked_up(data.ModalityLUTSequence[0], values).astype(np.float64)
    slope, intercept = float(own.get("RescaleSlope", 1) or 1), float(own.get("RescaleIntercept", 0) or 0)
    return numbers if (slope, intercept) == (1.0, 0.0) else numbers * slope + intercept


def _looked_up(item: Any, values: NDArray[Any]) -> NDArray[Any]:
    """Values through a look-up table: entries, first value that it maps, and bits of an entry."""
    entries, first, bits = (int(one) for one in item.LUTDescriptor)
    entries = entries or 65536
    table = item.LUTData
    found = np.frombuffer(table, "<u2" if bits > 8 or len(table) >= 2 * entries else "<u1") if isinstance(
        table, bytes) else np.asarray(table)
    return np.asarray(found)[np.clip(values.astype(np.int64) - first, 0, min(entries, len(found)) - 1)]


def _windowed(data: "Dataset", stored: NDArray[Any], grey: NDArray[np.float64], number: int,
              window: Window) -> NDArray[np.float64]:
    """Brightness 0..1."""
    if window.width:
        return _linear(grey, window.centre, window.width)
    voi = _functional(data, number, "FrameVOILUTSequence") or data
    if window.name == "file" and voi.get("VOILUTSequence"):
        table = voi.VOILUTSequence[0]
        looked = _looked_up(table, grey.round()).astype(np.float64)
        return np.clip(looked / max(2 ** int(table.LUTDescriptor[2]) - 1, 1), 0, 1)
    centre, width = _first(voi.get("WindowCenter")), _first(voi.get("WindowWidth"))
    if window.name == "file" and centre is not None and width is not None and width >= 1:
        function = str(voi.get("VOILUTFunction", "LINEAR") or "LINEAR")
        if function == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (grey - centre) / width, -700, 700)))
        if function == "LINEAR_EXACT":
            return np.clip((grey - centre) / width + 0.5, 0, 1)
        return _linear(grey, centre, width)
    return _own_range(data, stored, grey)


def _linear(grey: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    """The standard's LINEAR function (PS3.3 C.11.2.1.2.1), whose centre lies half a value lower."""
    return np.clip((grey - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5, 0, 1)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _own_range(data: "Dataset", stored: NDArray[Any], grey: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = np.isfinite(grey)
    padding = data.get("PixelPaddingValue")
    if padding is not None and (stored != int(padding)).any():
        kept &= stored != int(padding)
    if not kept.any():
        raise UnreadableImage("it holds no finite number")
    low, high = float(grey[kept].min()), float(grey[kept].max())
    return np.clip((np.where(np.isfinite(grey), grey, low) - low) / max(high - low, 1e-300), 0, 1)


def _palette(data: "Dataset", values: NDArray[Any]) -> NDArray[np.uint8]:
    channels = []
    for colour in ("Red", "Green", "Blue"):
        entries, first, bits = (int(one) for one in data[f"{colour}PaletteColorLookupTableDescriptor"].value)
        entries = entries or 65536
        table = data[f"{colour}PaletteColorLookupTableData"].value
        wide = len(table) >= 2 * entries
        found = np.frombuffer(table, "<u2" if wide else "<u1")[:entries]
        index = np.clip(values.astype(np.int64) - first, 0, len(found) - 1)
        channels.append((found[index] >> 8 if wide and bits == 16 else found[index]).astype(np.uint8))
    return np.stack(channels, -1)


def _colour(found: Frames, values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype.itemsize > 1:
        values = (values.astype(np.float64) / (2**found.stored - 1) * 255).round().astype(np.uint8)
    if not found.photometric.startswith("YBR") or decoded_colour(found):
        return np.asarray(values, np.uint8)
    luma, blue, red = (values[..., number].astype(np.float32) for number in range(3))
    blue, red = blue - 128, red - 128
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], -1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
