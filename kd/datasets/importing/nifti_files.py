"""NIfTI volumes as slices: by plane in canonical orientation, with masks beside them as evidence and, if need be,
labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.datasets.base import SampleFiles, Skipped
from kd.datasets.decode import UnreadableImage
from kd.datasets.importing.png import packed_png, png
from kd.datasets.limits import LIMITS
from kd.errors import UsageError

ENDINGS = (".nii", ".nii.gz")
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
_LOW, _HIGH = 0.5, 99.5  # percentiles of a volume that are black and white
_LEAST = 0.02  # share of a slice's pixels above black: thinner ones, at a volume's ends, show nothing


@dataclass(frozen=True)
class Slice:
    """One slice of a volume, not read. number: along the plane's axis, from the feet, the back or the left."""

    volume: Path
    mask: Path | None
    number: int
    name: str
    drawn: bool


def is_nifti(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def stem_of(name: str) -> str:
    """A file's name without `.nii` or `.nii.gz`."""
    low = name.lower()
    return next((name[:-len(ending)] for ending in sorted(ENDINGS, key=len, reverse=True) if low.endswith(ending)),
    name)


def _opened(path: Path) -> Any:
    """A volume in canonical orientation (left to right, back to front, feet to head), not read. Raises
    UnreadableImage."""
    import nibabel

    try:
        image: Any = nibabel.load(path)
        shape = image.shape
        if len(shape) == 4 and shape[3] == 1:
            image = image.slicer[..., 0]
        if len(image.shape) != 3:
            raise UnreadableImage(f"it has {len(shape)} axes {shape}: one volume a file is read")
        if int(np.prod(image.shape)) > LIMITS.voxels or max(image.shape) > 4096 or 0 in image.shape:
            raise UnreadableImage(f"its header says {'x'.join(map(str, image.shape))} voxels, more than can be read")
        if image.header.get_data_dtype().names or image.header.get_data_dtype().kind not in "uif":
            raise UnreadableImage(f"its values are {image.header.get_data_dtype()}, not numbers")
        return nibabel.as_closest_canonical(image)
    except UnreadableImage:
        raise
    except Exception as error:  # broken bytes make the reader raise anything at all
        raise UnreadableImage(f"it is damaged ({str(error)[:120] or type(error).__name__})") from error


def _values(image: Any, labels: bool = False) -> NDArray[Any]:
    """All values of a volume; labels as whole numbers, rounded, since a header's scaling may leave 0.9999."""
    try:
        found = np.asanyarray(image.dataobj, dtype=np.float32)
    except Exception as error:  # a truncated or damaged file
        raise UnreadableImage(f"it is damaged ({str(error)[:120] or type(error).__name__})") from error
    found = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
    return np.rint(found).astype(np.int32) if labels else found


def plan_volume(volume: Path, mask: Path | None, name: str, plane: str, every: int) -> list[Slice]:
    """The slices of a volume that show something. Raises UnreadableImage, and UsageError for an unknown plane."""
    if plane not in PLANES:
        raise UsageError(f"There is no plane {plane!r}: choose axial, coronal or sagittal.")
    image = _opened(volume)
    axis = PLANES[plane]
    values = np.moveaxis(_values(image), axis, 0)
    low = np.percentile(values[:: max(1, len(values) // 32)], _LOW)
    shares = np.array([(one > low + 0.1 * max(float(values.max()) - low, 1e-9)).mean() for one in values])
    drawn = _drawn(mask, image.shape, axis) if mask is not None else np.zeros(len(values), bool)
    return [Slice(volume, mask, number, f"{name}-{number:04d}", bool(drawn[number]))
            for number in range(0, len(values), every) if shares[number] >= _LEAST or drawn[number]]


def _drawn(mask: Path, shape: tuple[int, ...], axis: int) -> NDArray[np.bool_]:
    """Which slices of a mask are drawn on. Raises UnreadableImage unless it has the volume's shape."""
    image = _opened(mask)
    if image.shape != shape:
        raise UnreadableImage(f"its mask has the shape {image.shape}, not {shape}")
    return np.asarray(np.moveaxis(_values(image, labels=True), axis, 0).reshape(shape[axis], -1).any(axis=1))


def read_slices(slices: Sequence[Slice], plane: str) -> Iterator[SampleFiles | Skipped]:
    """Each slice as a PNG, upright as a radiologist sees it (front up, or head up), with its mask; volumes one at a
    time."""
    held: tuple[Path, NDArray[Any], NDArray[Any] | None, float, float] | None = None
    for one in slices:
        try:
            if held is None or held[0] != one.volume:
                held = None  # before the next is read, so that memory holds one volume
                held = _loaded(one, plane)
            yield _slice(one, held)
        except UnreadableImage as bad:
            yield Skipped(one.name, str(bad))


def _loaded(one: Slice, plane: str) -> tuple[Path, NDArray[Any], NDArray[Any] | None, float, float]:
    values = np.moveaxis(_values(_opened(one.volume)), PLANES[plane], 0)
    mask = None if one.mask is None else np.moveaxis(_values(_opened(one.mask), labels=True), PLANES[plane], 0)
    low, high = np.percentile(values[:: max(1, len(values) // 32)], (_LOW, _HIGH))
    return one.volume, values, mask, float(low), float(high)


def _slice(one: Slice, held: tuple[Path, NDArray[Any], NDArray[Any] | None, float, float]) -> SampleFiles:
    _, values, mask, low, high = held
    grey = np.clip((values[one.number] - low) / max(high - low, 1e-9), 0, 1)
    image = png(_upright(np.rint(grey * 255).astype(np.uint8)))
    if mask is None:
        return SampleFiles(image, ".png")
    inside = np.where(mask[one.number] > 0, 255, 0).astype(np.uint8)
    return SampleFiles(image, ".png", packed_png(_upright(inside)), ".png")


def _upright(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rows from top to bottom, the patient's right on the left, as scans are looked at; two canonical axes come in."""
    return np.ascontiguousarray(values.T[::-1, ::-1])
