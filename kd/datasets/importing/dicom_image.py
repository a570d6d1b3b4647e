"""One frame of a DICOM file as an image, read as an import reads it, with the header that its maps must refer to."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd import datasets
from kd.datasets import decode
from kd.datasets.importing import dicom_files
from kd.datasets.importing.dicom_display import Window, shown
from kd.datasets.importing.dicom_parsing import read_dataset
from kd.datasets.importing.dicom_pixels import frames_of, stored_values
from kd.datasets.importing.png import png
from kd.datasets.named_sets import history_of
from kd.errors import UsageError
from kd.paths import Paths

if TYPE_CHECKING:
    from pydicom import Dataset

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True, eq=False)
class DicomImage:
    """One frame of a DICOM file.

    header: the whole header, names and private tags too, without the pixels; never written as it is. frame: its number,
    from 1. frames: how many the file has. pixels: uint8 [H, W] or [H, W, 3], windowed.
    """

    header: "Dataset"
    frame: int
    frames: int
    pixels: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def png(self) -> bytes:
        """The image as an import would write it."""
        return png(self.pixels)

    def box(self, size: int) -> tuple[int, int, int, int]:
        """Where it lies in a working copy of this side: left, top, width, height."""
        return decode.box_of((self.shape[1], self.shape[0]), size)


def is_dicom(source: bytes | Path) -> bool:
    """Whether a file is a DICOM file, by its mark or its ending."""
    if isinstance(source, bytes):
        return source[128:132] == b"DICM"
    return dicom_files.is_dicom(source)


def read_dicom(source: bytes | Path, frame: int = 1, window: str = "file") -> DicomImage:
    """A frame of a DICOM file, counted from 1. window: as `Window.of` takes it. Raises UsageError."""
    chosen = Window.of(window)
    try:
        with dicom_files.quiet():
            return _read(source, frame, chosen)
    except decode.UnreadableImage as bad:
        name = f"The DICOM file {source.name!r}" if isinstance(source, Path) else "This DICOM file"
        raise UsageError(f"{name} cannot be used: {bad}.") from bad


def _read(source: bytes | Path, frame: int, window: Window) -> DicomImage:
    data, size = _parsed(source)
    found = frames_of(data, size)
    if not 1 <= frame <= found.count:
        raise decode.UnreadableImage(f"it has no frame {frame}, but {found.count}, numbered from 1")
    try:
        [values] = stored_values(data, found, [frame - 1])
        pixels = shown(data, found, values, frame - 1, window)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:  # a header may hold anything
        raise decode.UnreadableImage(f"its header is damaged ({error or type(error).__name__})") from error
    for name in _PIXELS:
        if name in data:
            del data[name]
    return DicomImage(data, frame, found.count, pixels)


def _parsed(source: bytes | Path) -> tuple[Any, int]:
    if isinstance(source, Path) and not source.is_file():
        raise decode.UnreadableImage("there is no such file")
    try:
        return read_dataset(source)
    except OSError as error:
        raise decode.UnreadableImage(f"the file cannot be opened ({error.strerror})") from error


def window_of(reference: str, paths: Paths) -> str | None:
    """The window that a data set's DICOM files were imported with, so that further images are shown to its models
    alike; None for a set that came from elsewhere."""
    with suppress(UsageError):
        for step in reversed(history_of(Path(datasets.resolve(reference, paths)))):
            if step.get("source") == "dicom":
                return str(step.get("window", "file"))
    return None
