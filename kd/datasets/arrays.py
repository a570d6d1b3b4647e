"""Data sets given as arrays, kept as one .npz below the data folder, so that a run can open them again at any time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kd.datasets.medmnist import CLASS_NAMES, PARTS
from kd.errors import UsageError, unknown
from kd.paths import Paths
from kd.store.files import atomic_write


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images and labels in memory as a data set; checked when made.

    images: uint8 [N, H, W] (grey) or [N, H, W, 3] (RGB). labels: class numbers or class names [N]. groups: whose image
    each is [N] (a patient's id), so that one patient's images stay in one split. classes: the names of classes 0, 1, …;
    without them, labels that are names are sorted, and numbers become "class 3". split: train, val or test of each
    image [N]; a missing test (20 % of train) and val (15 %) are cut from train, per class and whole groups at a time.
    name: what the data set is called on disk and on pages. Raises UsageError.
    """

    images: NDArray[np.uint8]
    labels: ArrayLike
    groups: Sequence[Any] | NDArray[Any] | None = None
    classes: Sequence[str] | None = None
    split: Sequence[str] | NDArray[Any] | None = None
    name: str = "arrays"

    def __post_init__(self) -> None:
        images = np.asarray(self.images)
        if images.dtype != np.uint8:
            raise UsageError(f"images must be uint8 from 0 to 255, not {images.dtype}. Convert them: of values in 0..1 "
                             "take (255 * images).round().astype('uint8').")
        if images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
            raise UsageError("images must have the shape (N, H, W) or (N, H, W, 3), not "
                             f"{images.shape}. Colours come last.")
        object.__setattr__(self, "images", images)
        labels, classes = _numbered(np.asarray(self.labels), self.classes)
        for field, value in (("labels", labels), ("classes", classes), ("groups", _texts(self.groups)),
                             ("split", _texts(self.split))):
            object.__setattr__(self, field, value)
            if field != "classes" and value is not None and len(value) != len(images):
                raise UsageError(f"There are {len(images)} images but {len(value)} {field}. Give one for each image.")
        for part in set() if self.split is None else set(np.asarray(self.split).tolist()):
            if part not in PARTS:
                raise unknown("split", part, PARTS)

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def of(cls, data: Any, name: str = "arrays") -> Self:
        """The data set of a pair (images, labels), of a torch `Dataset` of (image, label) pairs, or of a mapping of
        train, val and test to one of these.

        A torch data set is read into memory whole. Its images may be PIL images, arrays or tensors, all of one size;
        floats must lie in 0..1. Its `classes` are taken where it has some. Raises UsageError.
        """
        if isinstance(data, Mapping):
            return cls._joined(data, name)
        if isinstance(data, tuple) and len(data) == 2:
            return cls(*data, name=name)
        if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
            raise UsageError(f"{type(data).__name__} is not a data set. Give a name or path, a pair (images, labels), "
                             "kd.Arrays, or a torch Dataset that has a length.")
        pairs = [_pair(data[index]) for index in range(len(data))]
        sizes = sorted({image.shape for image, _ in pairs})
        if len(sizes) != 1:
            raise UsageError(f"The images of {type(data).__name__} must all be of one size, not {sizes[:3]}. Resize "
                             "them in the data set's transform, or give the path of its folder.")
        return cls(np.stack([image for image, _ in pairs]), np.asarray([label for _, label in pairs]),
                   classes=getattr(data, "classes", None), name=name)

    @classmethod
    def _joined(cls, parts: Mapping[str, Any], name: str) -> Self:
        found = {part: each if isinstance(each, Arrays) else cls.of(each) for part, each in parts.items()}
        if "train" not in found or len({(each.images.shape[1:], tuple(each.classes or ())) for each in found.values()}
                                       ) != 1:
            raise UsageError("A mapping of splits needs train, and the same image size and classes in every split.")
        return cls(np.concatenate([each.images for each in found.values()]),
                   np.concatenate([np.asarray(each.labels) for each in found.values()]),
                   classes=next(iter(found.values())).classes,
                   split=[part for part, each in found.items() for _ in range(len(each))], name=name)

    def digest(self) -> str:
        """Of all that it holds but the name."""
        found = blake2b(digest_size=5)
        for value in (self.images, self.labels, self.groups, self.split, self.classes):
            array = np.ascontiguousarray("" if value is None else value)
            found.update(f"{array.dtype.str}{array.shape}".encode())
            found.update(array.data if array.dtype.kind != "U" else array.tobytes())
        return found.hexdigest()

    def save(self, paths: Paths) -> str:
        """Write it below `paths.data`, once, and return what to open it by. The same arrays have the same file."""
        path = paths.data / f"{self.name}-{self.digest()}.npz"
        if not path.exists():
            with atomic_write(path) as part, part.open("wb") as file:
                np.savez(file, **self._members())
        return str(path)

    def _members(self) -> dict[str, Any]:
        split = np.full(len(self), "train") if self.split is None else np.asarray(self.split)
        found: dict[str, Any] = {} if self.classes is None else {CLASS_NAMES: np.asarray(self.classes)}
        for part in dict.fromkeys(["train", *split.tolist()]):
            rows = split == part
            found |= {f"{part}_images": self.images[rows], f"{part}_labels": np.asarray(self.labels)[rows]}
            if self.groups is not None:
                found[f"{part}_groups"] = np.asarray(self.groups)[rows]
        return found


def _numbered(labels: NDArray[Any], classes: Sequence[str] | None) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Labels as numbers [N], and the names of the classes where there are some."""
    names = None if classes is None else tuple(map(str, classes))
    if labels.ndim != 1:
        raise UsageError(f"labels must be one class for each image, of shape (N,), not {labels.shape}.")
    if labels.dtype.kind in "US":
        texts = labels.astype(str)
        names = tuple(np.unique(texts).tolist()) if names is None else names
        for text in texts:
            if text not in names:
                raise unknown("class", text, names)
        return np.array([names.index(text) for text in texts.tolist()], np.int64), names
    if labels.dtype.kind not in "uib":
        raise UsageError(f"labels must be whole numbers or names, not {labels.dtype}.")
    if names is not None and labels.size and not 0 <= labels.min() <= labels.max() < len(names):
        raise UsageError(f"labels go from {labels.min()} to {labels.max()}, but {len(names)} classes are named: "
                         f"numbers must be 0 to {len(names) - 1}.")
    return labels.astype(np.int64), names


def _texts(values: Sequence[Any] | NDArray[Any] | None) -> NDArray[np.str_] | None:
    return None if values is None else np.asarray([str(value) for value in values])


def _pair(item: Any) -> tuple[NDArray[np.uint8], Any]:
    """One (image, label) of a torch data set: RGB uint8 [H, W, 3], and the label as a plain value."""
    image, label = item[0], item[1]
    if hasattr(image, "convert"):
        return np.asarray(image.convert("RGB")), label
    values = np.asarray(image)
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3):
        values = values.transpose(1, 2, 0)
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise UsageError("Images of floats must lie in 0..1. Leave out Normalize in the data set's transform: "
                             "models scale for themselves.")
        values = np.rint(values * 255).astype(np.uint8)
    grey = values.ndim == 2 or values.shape[2] == 1
    values = np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2) if grey else values
    return values, label.item() if hasattr(label, "item") else label
