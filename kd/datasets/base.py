"""What a data set is: facts, classes, and three splits of uint8 pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.errors import UsageError

Counts = Mapping[str, Sequence[int]]  # images per class, by part


@dataclass(frozen=True)
class Facts:
    """What a person should know before believing a score."""

    title: str
    source: str = "a file or folder on this machine"
    licence: str = "not stated"
    caveats: tuple[str, ...] = ()
    flip: bool = True  # whether a mirror image is still a picture of the same kind (false where left is not right)


@dataclass(frozen=True)
class Report:
    """What happened when the pictures were read.

    skipped: (file, reason) of each bad file. notes: sentences on what was done (fitted, split, scaled).
    warnings: sentences on what is wrong and what to do.
    """

    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """One part of a data set; the arrays are memory maps where the set is cached.

    images: uint8 [N, S, S, 3], RGB. labels: int64 [N]. names: N file names or numbers, unique within the set.
    masks: uint8 [N, S, S], 0 or 255, the evidence; None where the set has none. has_mask: bool [N], whether a mask
    came with the picture; such a mask may be all black (there is nothing to see), and a missing one is black too.
    groups: person ids [N] (str), or None where they are not known.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    masks: NDArray[np.uint8] | None = None
    has_mask: NDArray[np.bool_] | None = None
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
    facts: Facts
    classes: tuple[str, ...]
    size: int
    fingerprint: str
    train: Split
    val: Split
    test: Split
    report: Report = field(default_factory=Report)

    @property
    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "val": self.val, "test": self.test}

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON: classes, counts per split, size, caveats and the report."""
        return {"reference": self.reference, "name": self.name, "title": self.facts.title,
                "classes": list(self.classes), "size": self.size,
                "counts": {part: split.counts(len(self.classes)) for part, split in self.splits.items()},
                "caveats": list(self.facts.caveats), "skipped": [list(pair) for pair in self.report.skipped],
                "notes": list(self.report.notes), "warnings": list(self.report.warnings)}


@dataclass(frozen=True)
class Sample:
    """One picture on its way into the cache, already at the working size.

    picture: uint8 [S, S, 3]. mask: uint8 [S, S], 0 or 255, or None. split: train, val or test. group: person id.
    traits: what had to be done to show it; each becomes one counted note of the report (`decode.TRAITS`).
    mask_problem: why the mask that lies beside the picture could not be used.
    """

    name: str
    label: int
    split: str
    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None
    group: str | None = None
    traits: frozenset[str] = frozenset()
    mask_problem: str = ""


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A data set that has been looked at but not decoded: all that the cache needs to decode it once.

    samples: yields every picture at a working size, one by one. total: how many it will yield. masked, grouped:
    whether any picture has a mask or a person. digest: the fingerprint as the files are now, to notice a change
    while they are read. report: what the listing alone told (split, ignored and refused files).
    """

    name: str
    reference: str
    facts: Facts
    classes: tuple[str, ...]
    fingerprint: str
    total: int
    masked: bool
    grouped: bool
    samples: Callable[[int], Iterator[Sample | Skipped]]
    digest: Callable[[], str]
    report: Report = field(default_factory=Report)


def require_trainable(where: str, classes: Sequence[str], counts: Counts, skipped: Sequence[Skipped] = ()) -> None:
    """Raise UsageError, with the way out, when a set cannot be trained on and tested."""
    lost = f" ({len(skipped)} files could not be read, first {skipped[0].name}: {skipped[0].reason})" if skipped else ""
    if len(classes) < 2:
        only = f"only the class {classes[0]!r}" if classes else "no class"
        raise UsageError(f"{where} has {only}: at least two class folders are needed.")
    for number, name in enumerate(classes):
        elsewhere = [part for part in ("test", "val") if counts[part][number]]
        if not counts["train"][number] and elsewhere:
            raise UsageError(f"{where}: {elsewhere[0]} has the class {name!r}, of which training has no picture{lost}. "
                             f"Add some to train, or remove the class from {' and '.join(elsewhere)}.")
        if not counts["train"][number]:
            raise UsageError(f"{where}: the class {name!r} has no picture to train on{lost}. "
                             "Add some, or remove its folder.")
    for part, why in (("val", "to choose the best epoch by"), ("test", "to measure the result on")):
        if not sum(counts[part]):
            raise UsageError(f"{where} has too few pictures: none is left {why}{lost}. "
                             "Add pictures, at least three per class.")


def missing_classes(classes: Sequence[str], counts: Counts) -> tuple[str, ...]:
    """Warnings on classes that a part lacks: allowed, but scores there say nothing of them."""
    means = {"val": "choosing the best epoch cannot take it into account", "test": "the test says nothing about it"}
    return tuple(f"The class {name!r} has no picture in {part}: {meaning}."
                 for part, meaning in means.items()
                 for number, name in enumerate(classes) if not counts[part][number])
