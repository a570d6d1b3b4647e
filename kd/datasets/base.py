"""What a data set is: facts, classes, and three splits of uint8 pictures."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    masks: uint8 [N, S, S], 0 or 255, the evidence; None where the set has none. has_mask: bool [N].
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
