"""MedMNIST files (Yang et al., Scientific Data 2023): arrays of small images in one .npz, read row by row."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from kd.datasets import decode, splits
from kd.datasets.base import DatasetInfo, ReadReport, Sample, Skipped, Source, require_trainable
from kd.datasets.hashing import combine, digest_file
from kd.datasets.image_folder.metadata import title_of
from kd.datasets.limits import LIMITS
from kd.errors import UsageError
from kd.paths import Paths

PARTS = ("train", "val", "test")
CLASS_NAMES = "class_names"
_ORGANS = ("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
           "lung-right", "pancreas", "spleen")
# Label numbers as the MedMNIST authors publish them (medmnist/info.py, version 2).
CLASSES: dict[str, tuple[str, ...]] = {
    "pathmnist": ("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
                  "cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    "dermamnist": ("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma",
                   "benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi",
                   "vascular lesions"),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"),
    "breastmnist": ("malignant", "normal or benign"),
    "bloodmnist": ("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte",
                   "neutrophil", "platelet"),
    "tissuemnist": ("collecting duct, connecting tubule", "distal convoluted tubule", "glomerular endothelial cells",
                    "interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments",
                    "thick ascending limb"),
    "organamnist": _ORGANS, "organcmnist": _ORGANS, "organsmnist": _ORGANS,
}
# The heart and the liver have a side, so a mirrored chest or belly is not an image of the same kind.
_NO_FLIP = ("pneumoniamnist", "organamnist", "organcmnist", "organsmnist")


def open_medmnist(path: Path, paths: Paths) -> Source:
    """The source of a MedMNIST .npz: `<part>_images` [N, H, W] or [N, H, W, 3] and `<part>_labels` [N] or [N, 1].

    A missing val or test is cut from train. Beyond MedMNIST there may be `class_names` [K] and, in `<part>_groups` [N],
    whose image each is. Raises UsageError for anything else, also for several labels an image.
    """
    known = next((name for name in CLASSES if path.stem.lower().split("_")[0] == name), "")
    labels = _labels(path)
    named, groups = _texts(path, labels)
    classes, numbers = _named(named, labels, path.name) if named else _classes(known, labels, path.name)
    names = [f"{part}/{row:06d}" for part in labels for row in range(len(labels[part]))]
    given = [part for part in labels for _ in range(len(labels[part]))]
    flat = [number for part in labels for number in numbers[part]]
    parts, notes = splits.complete(names, flat, given, groups)
    counts = {part: [0] * len(classes) for part in PARTS}
    for part, number in zip(parts, flat, strict=True):
        counts[part][number] += 1
    require_trainable(path.name, classes, counts)
    _require_images(path, {part: len(rows) for part, rows in labels.items()})
    digest = partial(medmnist_digest, path, paths)
    info = DatasetInfo(title_of(path.stem), flip=known not in _NO_FLIP)
    plan = list(zip(names, flat, parts, groups or repeat(None), strict=False))
    return Source(path.stem, str(path), info, classes, digest(), len(names), False, groups is not None,
                  lambda size, known: _samples(path, list(labels), plan, size), digest,
                  ReadReport(notes=notes, warnings=splits.straddling(groups, parts)),
                  partial(_originals, path), partial(_side, path))


def medmnist_digest(path: Path, paths: Paths) -> str:
    """Digest of the file's bytes and of its name, which decides the classes' names."""
    return combine({"set": digest_file(path, paths.cache / "digests"), "name": path.stem.lower().split("_")[0]})


def _labels(path: Path) -> dict[str, NDArray[np.int64]]:
    """Label numbers of each part in the file, train first."""
    found: dict[str, NDArray[np.int64]] = {}
    with _archive(path) as archive:
        members = set(archive.namelist())
        for part in PARTS:
            pair = {f"{part}_images.npy", f"{part}_labels.npy"}
            if pair <= members:
                found[part] = _column(_load(archive, f"{part}_labels.npy", path.name), part, path.name)
            elif pair & members:
                raise UsageError(f"{path.name} lacks {(pair - members).pop()[:-4]}: take it from its source again.")
    if "train" not in found:
        raise UsageError(f"{path.name} is not laid out as MedMNIST: it needs the arrays train_images and train_labels "
                         "(val_ and test_ are cut from them where missing).")
    return found


def _texts(path: Path, labels: dict[str, NDArray[np.int64]]) -> tuple[tuple[str, ...], list[str] | None]:
    """Names of the classes and the group of each image, where the file has them."""
    with _archive(path) as archive:
        held = set(archive.namelist())
        names = _load(archive, f"{CLASS_NAMES}.npy", path.name, "U") if f"{CLASS_NAMES}.npy" in held else np.array([])
        given = [part for part in labels if f"{part}_groups.npy" in held]
        found = {part: _load(archive, f"{part}_groups.npy", path.name, "Uui").astype(str) for part in given}
    for part, rows in labels.items():
        if given and (part not in found or found[part].shape != rows.shape):
            raise UsageError(f"{path.name}: {part}_groups must have one entry for each of its {len(rows)} images.")
    return tuple(names.tolist()), [group for part in labels for group in found[part].tolist()] if given else None


def _column(values: NDArray[np.generic], part: str, where: str) -> NDArray[np.int64]:
    if values.ndim == 2 and values.shape[1] > 1:
        raise UsageError(f"{where} has {values.shape[1]} labels for each image; only sets with one class per image "
                         "can be learned here.")
    if values.dtype.kind not in "uib" or values.ndim not in (1, 2):
        raise UsageError(f"{where}: {part}_labels must be whole numbers of shape (N,) or (N, 1), "
                         f"not {values.dtype} {values.shape}.")
    return values.reshape(len(values), -1)[:, 0].astype(np.int64) if values.size else np.zeros(0, np.int64)


def _classes(known: str, labels: dict[str, NDArray[np.int64]],
             where: str) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Class names and the labels as indices into them."""
    present = np.unique(np.concatenate(list(labels.values())))
    names = CLASSES.get(known, ())
    if known and present.size and not 0 <= present[0] <= present[-1] < len(names):
        raise UsageError(f"{where} has the labels {present[0]} to {present[-1]}, but {known} has the classes 0 to "
                         f"{len(names) - 1}: rename the file if it is another set.")
    if not known:
        names = tuple(f"class {number}" for number in present)
        return names, {part: np.searchsorted(present, rows).tolist() for part, rows in labels.items()}
    return names, {part: rows.tolist() for part, rows in labels.items()}


def _named(names: tuple[str, ...], labels: dict[str, NDArray[np.int64]],
           where: str) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """As `_classes`, for a file that names its classes itself."""
    present = np.unique(np.concatenate(list(labels.values())))
    if present.size and not 0 <= present[0] <= present[-1] < len(names):
        raise UsageError(f"{where} has the labels {present[0]} to {present[-1]}, but names the classes 0 to "
                         f"{len(names) - 1} in {CLASS_NAMES}.")
    return names, {part: rows.tolist() for part, rows in labels.items()}


def _require_images(path: Path, lengths: dict[str, int]) -> None:
    """Look at the heads of the image arrays only."""
    with _archive(path) as archive:
        for part, length in lengths.items():
            with archive.open(f"{part}_images.npy") as file:
                head = _head(file, f"{part}_images", path.name)
            image = head.shape[1:]
            if len(image) not in (2, 3) or image[2:] not in ((), (1,), (3,)) or 0 in image:
                raise UsageError(f"{path.name}: {part}_images must be flat images (N, H, W) or (N, H, W, 3), "
                                 f"not {head.shape}.")
            if head.shape[0] != length:
                raise UsageError(f"{path.name} has {head.shape[0]} {part}_images but {length} {part}_labels.")
            if image[0] * image[1] > LIMITS.pixels:
                raise UsageError(f"{path.name}: its images of {image[0]}x{image[1]} are too large.")


def _samples(path: Path, given: Sequence[str], plan: Sequence[tuple[str, int, str, str | None]],
             size: int) -> Iterator[Sample | Skipped]:
    rows = iter(plan)
    with _archive(path) as archive:
        for part in given:
            # The array comes first: zip() advances its first argument first, and would lose a row of a second one.
            for values in _rows(archive, f"{part}_images.npy", path.name):
                name, label, into, group = next(rows)
                try:
                    image = _fitted(values, size)
                except decode.UnreadableImage as bad:
                    yield Skipped(name, str(bad))
                else:
                    yield Sample(name, label, into, image.pixels, group=group, traits=image.traits)


def _originals(path: Path, names: Sequence[str], most: int) -> list[NDArray[np.uint8] | None]:
    """See `kd.datasets.base.Originals`: in the order of the file, since a compressed one is read from its start."""
    found: dict[str, NDArray[np.uint8] | None] = {}
    with _archive(path) as archive:
        for part in PARTS:
            wanted = sorted(name for name in names if name.startswith(f"{part}/"))
            if wanted:
                numbers = [int(name.partition("/")[2]) for name in wanted]
                rows = _chosen_rows(archive, f"{part}_images.npy", path.name, numbers)
                found |= {name: _original(values, most) for name, values in zip(wanted, rows, strict=True)}
    return [found.get(name) for name in names]


def _original(values: NDArray[np.generic], most: int) -> NDArray[np.uint8] | None:
    try:
        return _fitted(values, min(most, max(values.shape[:2]))).pixels
    except decode.UnreadableImage:
        return None


def _fitted(values: NDArray[np.generic], size: int) -> decode.FittedImage:
    return decode.fit_array(values[..., 0] if values.shape[2:] == (1,) else values, size)


def _side(path: Path) -> int:
    """Longer side of the training images, which are all of one size."""
    with _archive(path) as archive, archive.open("train_images.npy") as file:
        return max(_head(file, "train_images", path.name).shape[1:3])


@dataclass(frozen=True)
class _Head:
    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype


def _head(file: IO[bytes], name: str, where: str, kinds: str = "uifb") -> _Head:
    """The head of an .npy stream; afterwards the stream stands at the first value. kinds: of numpy types that are
    expected. Raises UsageError."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        head = _Head(*read(file))
    except Exception as error:  # numpy's parser of broken heads raises ValueError, SyntaxError, EOFError and more
        raise UsageError(f"{where}: the array {name} cannot be read ({error}).") from error
    if head.dtype.hasobject or head.dtype.kind not in kinds:
        what = "texts" if "U" in kinds else "numbers"
        raise UsageError(f"{where}: the array {name} holds {head.dtype}, not {what}; such files are not opened.")
    return head


def _rows(archive: zipfile.ZipFile, member: str, where: str) -> Iterator[NDArray[np.generic]]:
    """One image after another, so that a file larger than memory can be read."""
    with archive.open(member) as file:
        head = _head(file, member, where)
        if head.columns_first:
            yield from _load(archive, member, where)
            return
        step = head.dtype.itemsize * math.prod(head.shape[1:])
        for _ in range(head.shape[0]):
            content = _read(file, step, member, where)
            yield np.frombuffer(content, head.dtype).reshape(head.shape[1:])


def _chosen_rows(archive: zipfile.ZipFile, member: str, where: str,
                 numbers: Sequence[int]) -> Iterator[NDArray[np.generic]]:
    """The images of these rows, in ascending order."""
    with archive.open(member) as file:
        head = _head(file, member, where)
        if head.columns_first:
            yield from _load(archive, member, where)[list(numbers)]
            return
        start, step = file.tell(), head.dtype.itemsize * math.prod(head.shape[1:])
        for number in numbers:
            file.seek(start + number * step)
            yield np.frombuffer(_read(file, step, member, where), head.dtype).reshape(head.shape[1:])


def _load(archive: zipfile.ZipFile, member: str, where: str, kinds: str = "uifb") -> NDArray[np.generic]:
    """A whole array."""
    with archive.open(member) as file:
        head = _head(file, member[:-4], where, kinds)
        content = _read(file, head.dtype.itemsize * math.prod(head.shape), member, where)
    return np.frombuffer(content, head.dtype).reshape(head.shape, order="F" if head.columns_first else "C")


def _read(file: IO[bytes], count: int, member: str, where: str) -> bytes:
    try:
        content = file.read(count)
    except Exception as error:  # zlib.error, BadZipFile, EOFError: the file is damaged
        raise UsageError(f"{where} is damaged in {member[:-4]} ({error}): take it from its source again.") from error
    if len(content) != count:
        raise UsageError(f"{where} ends in the middle of {member[:-4]}: take the file from its source again.")
    return content


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # BadZipFile for most, struct.error and ValueError for hostile directories
        raise UsageError(f"{path.name} is no readable .npz ({error}): take the file from its source again.") from error
    with archive:
        yield archive
