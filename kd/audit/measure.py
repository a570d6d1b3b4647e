"""One pass over a data set's images: per image a few kilobytes that all further checks are computed from."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.audit.file_facts import FileFacts, file_facts
from kd.audit.marks import marks
from kd.datasets import Dataset, FileReader
from kd.datasets.decode import box_of
from kd.datasets.image_folder.patients import patients_in_names
from kd.datasets.image_folder.source import workers
from kd.progress import ShareCallback

NEIGHBOUR, PIXELS = 32, 24  # pixels a side of the small copies: for the nearest neighbour, for the pixel classifier
HASH = 16  # bits a side of the perceptual hash
BATCH = 64
FACTS = ("width", "height", "aspect ratio", "bytes", "bytes per pixel", "channels", "JPEG coarseness",
         "mean brightness", "border brightness", "corner brightness", "spread of the corners")


@dataclass(frozen=True, eq=False)
class Measurements:
    """What one pass leaves of N images, those of train first, then val, then test.

    parts, groups: split and patient of each (None where patients are not known). named: whether the patients are those
    that the files' names give, and not stated ones. shapes: int64 [N, 2], width and height
    of each file in pixels, 0 where there is none. digests: of the pixels. hashes,
    mirrored: uint64 [N, 4], perceptual hash (ImageHash's phash of 16 × 16) of the image and of its mirror image. grey:
    uint8 [N, 32, 32]. colour: uint8 [N, 24, 24, 3]. facts: float64 [N, 11], see FACTS. spread: standard deviation of
    the grey levels [N], 0..128. marks: see `kd.audit.marks`.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    parts: tuple[str, ...]
    groups: tuple[str, ...] | None
    shapes: NDArray[np.int64]
    digests: tuple[bytes, ...]
    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    facts: NDArray[np.float64]
    spread: NDArray[np.float64]
    marks: tuple[frozenset[str], ...]
    named: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, part: str) -> NDArray[np.int64]:
        """Indices of a split's images."""
        return np.flatnonzero(np.asarray(self.parts) == part)

    @property
    def brightness(self) -> NDArray[np.float64]:
        """Mean grey level [N], 0..255."""
        return self.facts[:, FACTS.index("mean brightness")]


_ARRAYS: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
    "shapes": ((2,), np.int64), "hashes": ((HASH * HASH // 64,), np.uint64),
    "mirrored": ((HASH * HASH // 64,), np.uint64), "grey": ((NEIGHBOUR, NEIGHBOUR), np.uint8),
    "colour": ((PIXELS, PIXELS, 3), np.uint8), "facts": ((len(FACTS),), np.float64), "spread": ((), np.float64)}
"""Shape per image and kind of the arrays of Measurements, which are filled image by image."""
_One = tuple[dict[str, Any], bytes, frozenset[str]]
"""One image's values of these arrays, its digest and its marks."""


def measure(data: Dataset, files: FileReader | None, progress: ShareCallback) -> Measurements:
    """Measure every image of an opened data set. files: reads what is on disk, where images are files."""
    names = [name for split in data.splits.values() for name in split.names]
    arrays = {name: np.empty((len(names), *shape), kind) for name, (shape, kind) in _ARRAYS.items()}
    digests, marked = list[bytes](), list[frozenset[str]]()
    for one in _each(data, files, names):
        for name, value in one[0].items():
            arrays[name][len(digests)] = value
        digests.append(one[1])
        marked.append(one[2])
        progress(len(digests) / len(names))
    splits = data.splits
    groups, named = _patients(data, names)
    return Measurements(
        tuple(names), np.concatenate([split.labels for split in splits.values()]),
        tuple(part for part, split in splits.items() for _ in range(len(split))), groups,
        digests=tuple(digests), marks=tuple(marked), named=named, **arrays)


def _patients(data: Dataset, names: Sequence[str]) -> tuple[tuple[str, ...] | None, bool]:
    """The patient of each image, and whether it comes from the files' names. Of these each class has its own: where two
    classes are of two sources, 17 of one is not 17 of the other."""
    if data.train.groups is not None:
        return tuple(group for split in data.splits.values() for group in split.groups or ()), False
    found = patients_in_names(names)
    if found is None:
        return None, False
    labels = [data.classes[label] for split in data.splits.values() for label in split.labels.tolist()]
    return tuple(f"{label}/{patient}" if patient else name
                 for patient, name, label in zip(found, names, labels, strict=True)), True


def _each(data: Dataset, files: FileReader | None, names: Sequence[str]) -> Iterator[_One]:
    facts = map(file_facts, files(names) if files else repeat(None))
    with ThreadPoolExecutor(workers()) as pool:
        for images in _batches(data):
            yield from pool.map(_measure, images, [next(facts) for _ in images])


def _batches(data: Dataset) -> Iterator[NDArray[np.uint8]]:
    for split in data.splits.values():
        for start in range(0, len(split), BATCH):
            yield split.images[start:start + BATCH]


def _measure(image: NDArray[np.uint8], file: FileFacts) -> _One:
    own = np.ascontiguousarray(without_bars(image, (file.width, file.height)))
    shown = Image.fromarray(own)
    grey = shown.convert("L")
    values = np.asarray(grey)
    small = np.asarray(grey.resize((NEIGHBOUR, NEIGHBOUR), Image.Resampling.BOX))
    colour = np.asarray(shown.resize((PIXELS, PIXELS), Image.Resampling.BOX))
    digest = blake2b(own.data, digest_size=12, person=repr(own.shape).encode()[:16]).digest()
    mirrored = perceptual_hash(grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    return {"shapes": (file.width, file.height), "hashes": perceptual_hash(grey), "mirrored": mirrored, "grey": small,
            "colour": colour, "facts": _facts(values, file), "spread": float(values.std())}, digest, marks(own)


def without_bars(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The image without the bars that fit it into a square; whole where its shape, width and height, is not known (0).
    """
    if not shape[0]:
        return image
    left, top, width, height = box_of(shape, len(image))
    return image[top:top + height, left:left + width]


def perceptual_hash(image: Image.Image) -> NDArray[np.uint64]:
    """ImageHash's phash of 16 × 16 as four words of 64 bits."""
    import imagehash  # here, because it takes a while to load

    return np.packbits(imagehash.phash(image, hash_size=HASH).hash.ravel()).view(np.uint64)


def _facts(grey: NDArray[np.uint8], file: FileFacts) -> tuple[float, ...]:
    """See FACTS. grey: levels [H, W]."""
    height, width = grey.shape
    side = max(1, min(height, width) // 16)
    corners = [float(part.mean()) for rows in (grey[:side], grey[-side:]) for part in (rows[:, :side], rows[:, -side:])]
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    across, down = (file.width, file.height) if file.width else (width, height)
    return (across, down, across / down, file.size, file.size / (across * down), file.channels, file.coarseness,
            float(grey.mean()), float(border.mean()), float(np.mean(corners)), float(np.std(corners)))
