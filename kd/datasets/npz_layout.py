"""What the arrays of an .npz file are: images and labels of each part, class names, patients, the form of an image."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kd.datasets import npz_arrays
from kd.datasets.deep_images import over_black
from kd.datasets.limits import LIMITS
from kd.errors import UsageError

PARTS = ("train", "val", "test")
CLASS_NAMES = "class_names"
_IMAGES, _LABELS = ("{}_images", "x_{}", "X_{}", "{}_x"), ("{}_labels", "y_{}", "Y_{}", "{}_y")
_WHOLE = (("images", "labels"), ("x", "y"), ("X", "y"))
GREY, COLOUR, ALPHA, FIRST, VOLUME = "grey", "colour", "alpha", "channels first", "volume"


@dataclass(frozen=True)
class Members:
    """The arrays of one part, by their names in the file without `.npy`."""

    images: str
    labels: str


def members_of(archive: zipfile.ZipFile, where: str) -> dict[str, Members]:
    """The arrays of each part, train first. Raises UsageError that says what the file holds instead."""
    held = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    found: dict[str, Members] = {}
    for part in PARTS:
        for images, labels in zip(_IMAGES, _LABELS, strict=True):
            pair = images.format(part), labels.format(part)
            if held.issuperset(pair):
                found[part] = Members(*pair)
            elif held & set(pair) and images == _IMAGES[0]:
                raise UsageError(f"{where} lacks {(set(pair) - held).pop()}: take it from its source again.")
    for pair in _WHOLE:
        if not found and held.issuperset(pair):
            found["train"] = Members(*pair)
    if "train" not in found:
        raise UsageError(f"{where} is not laid out as MedMNIST: it needs the arrays train_images and train_labels "
                         f"(val_ and test_ are cut from them where missing), but holds {_seen(archive, held, where)}.")
    return found


def _seen(archive: zipfile.ZipFile, held: set[str], where: str) -> str:
    """The first arrays of a file, with their shapes."""
    said = []
    for name in sorted(held)[:4]:
        try:
            with npz_arrays.member_of(archive, f"{name}.npy", where) as file:
                head = npz_arrays.head(file, name, where, "uifbUSOcM")
            said.append(f"{name} {head.dtype} {head.shape}")
        except (UsageError, OSError):
            said.append(name)
    return ", ".join(said) + (" …" if len(held) > 4 else "") if said else "no array"


@dataclass(frozen=True)
class Labels:
    """Label numbers or names of each part [N], and what had to be understood of them."""

    values: Mapping[str, NDArray[np.generic]]
    notes: tuple[str, ...] = ()

    @property
    def are_names(self) -> bool:
        return next(iter(self.values.values())).dtype.kind == "U"

    @property
    def sizes(self) -> dict[str, int]:
        return {part: len(rows) for part, rows in self.values.items()}


def labels_of(archive: zipfile.ZipFile, members: Mapping[str, Members], where: str) -> Labels:
    """The labels of each part: numbers [N] or [N, 1], whole numbers as floats, names, or one-hot rows [N, K].

    Raises UsageError for several labels an image and anything else.
    """
    found, notes = {}, list[str]()
    for part, own in members.items():
        values = npz_arrays.load(archive, f"{own.labels}.npy", where, "uifbU")
        if values.ndim == 2 and values.shape[1] > 1:
            values = _one_hot(values, where)
            notes = ["The labels are one-hot rows; the column of the 1 is the class."]
        found[part] = _column(values, own.labels, where)
    kinds = {values.dtype.kind for values in found.values()}
    if len(kinds) > 1:
        raise UsageError(f"{where}: labels are names in one part and numbers in another.")
    return Labels(found, tuple(notes))


def _one_hot(values: NDArray[np.generic], where: str) -> NDArray[np.int64]:
    numbers = values.astype(np.float64) if values.dtype.kind != "U" else np.full(values.shape, np.nan)
    sums = numbers.sum(axis=1)
    if not np.isin(numbers, (0, 1)).all() or (sums != 1).any():
        several = int((sums != 1).sum())
        raise UsageError(f"{where} has {values.shape[1]} labels for each image, and {several} of {len(values)} images "
                         "have none or several of them; only sets with one class per image can be learned here.")
    return np.asarray(numbers.argmax(axis=1), np.int64)


def _column(values: NDArray[np.generic], name: str, where: str) -> NDArray[np.generic]:
    whole = values.dtype.kind in "uibU" or (values.dtype.kind == "f" and bool(np.isfinite(values).all())
                                            and bool((values == np.rint(values.astype(np.float64))).all()))
    if values.ndim not in (1, 2) or not whole:
        raise UsageError(f"{where}: {name} must be whole numbers or names of shape (N,) or (N, 1), "
                         f"not {values.dtype} {values.shape}.")
    column = values.reshape(len(values), -1)[:, 0] if values.size else np.zeros(0, np.int64)
    return column if column.dtype.kind == "U" else column.astype(np.int64)


def texts_of(archive: zipfile.ZipFile, labels: Labels, where: str) -> tuple[tuple[str, ...], list[str] | None]:
    """Names of the classes and the group of each image, where the file has them."""
    held = set(archive.namelist())
    names = npz_arrays.load(archive, f"{CLASS_NAMES}.npy", where, "U") if f"{CLASS_NAMES}.npy" in held else np.array([])
    given = [part for part in labels.values if f"{part}_groups.npy" in held]
    found = {part: npz_arrays.load(archive, f"{part}_groups.npy", where, "Uui").astype(str) for part in given}
    for part, rows in labels.values.items():
        if given and (part not in found or found[part].shape != rows.shape):
            raise UsageError(f"{where}: {part}_groups must have one entry for each of its {len(rows)} images.")
    groups = [group for part in labels.values for group in found[part].tolist()] if given else None
    return tuple(names.tolist()), groups


@dataclass(frozen=True)
class ImageForm:
    """How the values of one row are an image, or several slices of a volume. side: longer side in pixels."""

    kind: str
    shape: tuple[int, ...]

    @property
    def side(self) -> int:
        return max(self.image(np.zeros(self.shape, np.uint8), self.slices[0]).shape[:2])

    @property
    def slices(self) -> range:
        """Slices that are used of a volume, along its first axis: the middle half, since its ends show little."""
        depth = self._depth
        return range(depth // 4, depth - depth // 4)

    @property
    def _depth(self) -> int:
        return (self.shape[1] if self.shape[0] == 1 else self.shape[0]) if self.kind == VOLUME else 1

    def image(self, values: NDArray[np.generic], number: int) -> NDArray[np.generic]:
        """One image, [H, W] or [H, W, 3], of a row's values; number: of the slice."""
        if self.kind == VOLUME:
            values = values.reshape(self._depth, *self.shape[-2:] if self.shape[0] == 1 else self.shape[1:])[number]
        if self.kind == FIRST:
            values = np.moveaxis(values, 0, -1)
        if values.ndim == 3 and values.shape[2] == 4:
            values, _ = over_black(values, has_alpha=True)
        return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values

    @property
    def notes(self) -> tuple[str, ...]:
        if self.kind == FIRST:
            return (f"Images are stored with their {self.shape[0]} channels first.",)
        if self.kind == VOLUME:
            return (f"Each row is a volume of {self._depth} slices: the {len(self.slices)} in the middle are images of "
                    "its class, and stay in one part.",)
        return ()


def form_of(shape: tuple[int, ...], name: str, where: str) -> ImageForm:
    """The form of the images of an array, from the shape of one row. Raises UsageError."""
    if 0 in shape or len(shape) < 2 or len(shape) > 4:
        raise UsageError(f"{where}: {name} must be flat images (N, H, W) or (N, H, W, 3), or volumes (N, D, H, W), not "
                         f"rows of {shape}.")
    if int(np.prod(shape)) > LIMITS.voxels or max(shape[0] * shape[1], shape[-1] * shape[-2]) > LIMITS.pixels:
        raise UsageError(f"{where}: its images of {'x'.join(map(str, shape))} are too large.")
    if len(shape) == 2:
        return ImageForm(GREY, shape)
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return ImageForm(ALPHA if shape[2] == 4 else COLOUR, shape)
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return ImageForm(FIRST, shape)
    if len(shape) == 3 or shape[3] in (1, 3) or shape[0] == 1:
        return ImageForm(VOLUME, shape)
    raise UsageError(f"{where}: {name} has rows of {shape}, which are neither images (H, W), (H, W, 3) nor volumes "
                     "(D, H, W).")
