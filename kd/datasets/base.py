"""What a data set is: info, classes, and three splits of uint8 images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.errors import UsageError

UNLABELLED = -1  # label of an image that has none
Counts = Mapping[str, Sequence[int]]  # images per class, by part


@dataclass(frozen=True)
class DatasetInfo:
    """Source, licence and known limitations of a data set."""

    title: str
    source: str = "a file or folder on this machine"
    licence: str = "not stated"
    caveats: tuple[str, ...] = ()
    flip: bool = True  # whether a mirror image is still an image of the same kind (false where left is not right)


@dataclass(frozen=True)
class ReadReport:
    """What happened when the images were read.

    skipped: (file, reason) of each bad file. notes: sentences on what was done (fitted, split, scaled).
    warnings: sentences on what is wrong and what to do.
    """

    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataRef:
    """A data set resolved once: what planning, estimates and forms need to know of it.

    reference: what it is opened by (canonical). fingerprint: digest of its content, independent of the size. classes:
    their names, in the order of the labels. images: how many in all splits together, readable or not. side: longer side
    of a typical image in pixels; 0 for a set that is drawn at the size asked for.
    """

    reference: str
    fingerprint: str
    classes: tuple[str, ...]
    images: int
    side: int = 0


class JoinedImages:
    """Images of two splits one after the other, each still a memory map; read by `kd.datasets.tensors.read_images`."""

    def __init__(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
        self.parts = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])

    def read(self, index: NDArray[np.int64],
             read_part: Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """A copy of these images [len(index), S, S, 3]."""
        found = np.empty((len(index), *self.shape[1:]), np.uint8)
        in_first = index < len(self.parts[0])
        found[in_first] = read_part(self.parts[0], index[in_first])
        found[~in_first] = read_part(self.parts[1], index[~in_first] - len(self.parts[0]))
        return found


@dataclass(frozen=True)
class Split:
    """One part of a data set; the arrays are memory maps where the set is cached.

    images: uint8 [N, S, S, 3], RGB. labels: int64 [N], UNLABELLED where there is none. names: N file names or numbers,
    unique within the set.
    evidence: uint8 [N, S, S], a segmentation of what shows the class, 0 or 255; None where the set has none.
    has_evidence: bool [N], whether a segmentation came with the image; it may be all black (there is nothing to see),
    and a missing one is black too.
    groups: patient ids [N] (str), or None where they are not known.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    evidence: NDArray[np.uint8] | None = None
    has_evidence: NDArray[np.bool_] | None = None
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self, classes: int) -> list[int]:
        """Images per class."""
        return np.bincount(self.labels, minlength=classes).tolist()


@dataclass(frozen=True)
class Dataset:
    """A data set at one working size.

    reference: what the user typed (canonical). fingerprint: digest of content, independent of the size.
    """

    reference: str
    name: str
    info: DatasetInfo
    classes: tuple[str, ...]
    size: int
    fingerprint: str
    train: Split
    val: Split
    test: Split
    report: ReadReport = field(default_factory=ReadReport)

    @property
    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "val": self.val, "test": self.test}

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON: classes, counts per split, size, caveats, flip (see DatasetInfo) and the report."""
        return {"reference": self.reference, "name": self.name, "title": self.info.title,
                "classes": list(self.classes), "size": self.size,
                "counts": {part: split.counts(len(self.classes)) for part, split in self.splits.items()},
                "caveats": list(self.info.caveats), "flip": self.info.flip,
                "skipped": [list(pair) for pair in self.report.skipped],
                "notes": list(self.report.notes), "warnings": list(self.report.warnings)}


@dataclass(frozen=True)
class Sample:
    """One image on its way into the cache, already at the working size.

    image: uint8 [S, S, 3]. evidence: uint8 [S, S], 0 or 255, or None. split: train, val or test. group: patient id.
    traits: what had to be done to show it; each becomes one counted note of the report (`decode.TRAITS`).
    evidence_problem: why the mask that lies beside the image could not be used. content: digest of the files that the
    pixels come from; empty where it is not known.
    """

    name: str
    label: int
    split: str
    image: NDArray[np.uint8]
    evidence: NDArray[np.uint8] | None = None
    group: str | None = None
    traits: frozenset[str] = frozenset()
    evidence_problem: str = ""
    content: str = ""


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read, and why."""

    name: str
    reason: str


KnownSamples = Callable[[str], Sample | None]
"""A look-up of samples decoded before, at the same size, by `Sample.content`; only what comes from the pixels holds."""


Originals = Callable[[Sequence[str], int], list[NDArray[np.uint8] | None]]
"""A reader of images at their own resolution: by `Sample.name`, each uint8 [S, S, 3] fitted into a square of its longer
side as the working copy is fitted into that of the working size, S at most the second argument; None for one that can
no longer be read."""


@dataclass(frozen=True)
class SampleFiles:
    """The files behind one image, as they are on disk: content and ending (`.png`) of the image and of its mask.

    mask: None where there is none, or it cannot be read.
    """

    image: bytes
    ending: str
    mask: bytes | None = None
    mask_ending: str = ""


@dataclass(frozen=True)
class Listed:
    """One image of a set, not read: its name there, its class by name, its part, and its patient where known."""

    name: str
    label: str
    part: str | None
    group: str | None = None


FileReader = Callable[[Sequence[str]], Iterator[SampleFiles | None]]
"""A reader of the files behind images, by `Sample.name`, one after another; None for one that can no longer be read."""


@dataclass(frozen=True)
class Source:
    """A data set whose files have been listed but not decoded: all that the cache needs to decode it once.

    samples: yields every image at a working size, one by one; what is known already need not be decoded again. total:
    how many it will yield. has_evidence, has_groups: whether any image has a segmentation or a patient. digest: the
    fingerprint of the files as they are now, to notice a change while they are read. report: what the listing alone
    shows (split, ignored and refused files). originals: see `Originals`; None for a set that is drawn at any size.
    side: the longer side of a typical image in pixels, read from a few files' heads. files: see `FileReader`; None for
    a set whose images are not files of their own. listing: every image, not read.
    """

    name: str
    reference: str
    info: DatasetInfo
    classes: tuple[str, ...]
    fingerprint: str
    total: int
    has_evidence: bool
    has_groups: bool
    samples: Callable[[int, KnownSamples], Iterator[Sample | Skipped]]
    digest: Callable[[], str]
    report: ReadReport = field(default_factory=ReadReport)
    originals: Originals | None = None
    side: Callable[[], int] = lambda: 0
    files: FileReader | None = None
    listing: Callable[[], list[Listed]] = list


def require_trainable(where: str, classes: Sequence[str], counts: Counts, skipped: Sequence[Skipped] = ()) -> None:
    """Raise UsageError, with the way out, when a set cannot be trained on and tested."""
    lost = f" ({len(skipped)} files could not be read, first {skipped[0].name}: {skipped[0].reason})" if skipped else ""
    if len(classes) < 2:
        only = f"only the class {classes[0]!r}" if classes else "no class"
        raise UsageError(f"{where} has {only}: at least two class folders are needed.")
    for number, name in enumerate(classes):
        elsewhere = [part for part in ("test", "val") if counts[part][number]]
        if not counts["train"][number] and elsewhere:
            alike = [other for other in classes if other != name and other.casefold() == name.casefold()]
            case = f" (training has {alike[0]!r}: names must be equal in case too)" if alike else ""
            raise UsageError(f"{where}: {elsewhere[0]} has the class {name!r}, of which training has no "
                             f"image{case}{lost}. Add some to train, or remove the class from "
                             f"{' and '.join(elsewhere)}.")
        if not counts["train"][number]:
            raise UsageError(f"{where}: the class {name!r} has no image to train on{lost}. "
                             "Add some, or remove its folder.")
    for part, why in (("val", "to choose the best epoch by"), ("test", "to measure the result on")):
        if not sum(counts[part]):
            raise UsageError(f"{where} has too few images: none is left {why}{lost}. "
                             "Add images, at least three per class.")


def missing_classes(classes: Sequence[str], counts: Counts) -> tuple[str, ...]:
    """Warnings on classes that a part lacks: allowed, but scores there say nothing of them."""
    means = {"val": "choosing the best epoch cannot take it into account", "test": "the test says nothing about it"}
    return tuple(f"The class {name!r} has no image in {part}: {meaning}."
                 for part, meaning in means.items()
                 for number, name in enumerate(classes) if not counts[part][number])
