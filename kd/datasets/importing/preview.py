"""What an import would bring in: shown before anything is written."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kd.datasets import splits
from kd.datasets.base import DatasetInfo, Listed, SampleFiles, Skipped
from kd.errors import UsageError

Reader = Callable[[Sequence[int]], Iterator[SampleFiles | Skipped]]
"""Reads images of a preview by their numbers, in that order, one after another."""


@dataclass(frozen=True)
class ImportOptions:
    """What a person may say of a source that its files do not.

    labels: a table of labels (CSV). without: folders to leave out. folder: the one folder of it that is meant. test,
    val: shares of a part that the source does not have, 0..0.5; None for the usual ones. resplit: cut all parts anew,
    whole patients at a time. rename: names of classes; two with one name are merged. window: of DICOM, see `Window.of`.
    plane, every: of NIfTI volumes, which slices.
    """

    labels: str = ""
    without: tuple[str, ...] = ()
    folder: str = ""
    test: float | None = None
    val: float | None = None
    resplit: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    window: str = "file"
    plane: str = "axial"
    every: int = 1

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "ImportOptions":
        """From plain values, as `dataclasses.asdict` and JSON give them."""
        return cls(**{**values, "without": tuple(values.get("without", ()))})

    def __post_init__(self) -> None:
        for name in ("test", "val"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 0.5:
                raise UsageError(f"The share of {name} must be above 0 and at most 0.5, not {share}.")
        if self.every < 1:
            raise UsageError(f"every must be 1 (all slices) or more, not {self.every}.")


@dataclass(frozen=True)
class Preview:
    """What was understood of a source. kind: folder, zip, npz, table, dicom or nifti. images: all that would be
    written, with their parts. masks: how many have one. skipped: files that cannot be used. facts: plain values for the
    history, which name no file and no patient. unpacked: a folder that an archive was unpacked to, of no use
    afterwards."""

    kind: str
    images: tuple[Listed, ...]
    read: Reader
    info: DatasetInfo
    masks: int = 0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    unpacked: Path | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({image.label for image in self.images}))

    @property
    def patients(self) -> int:
        """How many patients are known; 0 where none is."""
        return len({image.group for image in self.images if image.group})

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per part and class."""
        found = Counter((image.part or "train", image.label) for image in self.images)
        return {part: {label: found[part, label] for label in self.classes} for part in ("train", "val", "test")}

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"kind": self.kind, "title": self.info.title, "images": len(self.images),
                "classes": list(self.classes), "counts": self.counts(), "patients": self.patients,
                "masks": self.masks, "notes": list(self.notes), "warnings": list(self.warnings),
                "skipped": [[bad.name, bad.reason] for bad in self.skipped]}


def arranged(preview: Preview, options: ImportOptions) -> Preview:
    """The preview with renamed classes and every image in a part: the source's own parts, and missing ones
    cut by patient.

    Raises UsageError when nothing could be learned from it.
    """
    unknown = sorted(set(options.rename) - set(preview.classes))
    if unknown:
        raise UsageError(f"There is no class {unknown[0]!r} to rename; the classes are {', '.join(preview.classes)}.")
    images = [replace(image, label=options.rename.get(image.label, image.label).strip() or image.label)
              for image in preview.images]
    classes = sorted({image.label for image in images})
    if len(classes) < 2:
        held = f"only the class {classes[0]!r}" if classes else "no class"
        bad = preview.skipped
        lost = f" ({len(bad)} files cannot be used, first {bad[0].name}: {bad[0].reason})" if bad else ""
        raise UsageError(f"There are {len(images)} images of {held}{lost}: at least two classes are needed. Give a "
                         "table of labels, or a folder with one folder for each class.")
    groups = [image.group for image in images] if any(image.group for image in images) else None
    parts, notes = splits.complete([image.name for image in images], [classes.index(image.label) for image in images],
                                   [None if options.resplit else image.part for image in images], groups,
                                   {part: share for part, share in (("test", options.test), ("val", options.val))
                                    if share is not None})
    placed = tuple(replace(image, part=part) for image, part in zip(images, parts, strict=True))
    crossing = splits.straddling(groups, parts)
    return replace(preview, images=placed, notes=(*preview.notes, *notes), warnings=(*preview.warnings, *crossing))
