"""Data sets: one call opens any of them, whatever it is made of."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.datasets import cache, phantoms
from kd.datasets.base import (
    DataRef,
    Dataset,
    DatasetInfo,
    FileReader,
    KnownSamples,
    Originals,
    ReadReport,
    Sample,
    Skipped,
    Source,
    Split,
    missing_classes,
    require_trainable,
)
from kd.datasets.image_folder.folder import folder_digest, open_folder
from kd.datasets.image_folder.layout import MASKS, is_hidden
from kd.datasets.image_folder.metadata import title_of
from kd.datasets.image_folder.zip_archive import archive_digest, open_archive
from kd.datasets.medmnist import medmnist_digest, open_medmnist
from kd.datasets.places import require_place
from kd.datasets.splits import take_fraction
from kd.errors import UsageError
from kd.paths import Paths, default_paths
from kd.progress import ProgressCallback, no_progress

__all__ = ["DataRef", "Dataset", "DatasetEntry", "DatasetInfo", "Originals", "ReadReport", "Split", "available",
           "files", "fingerprint", "found_again", "images_taken", "inspect", "is_drawn", "locate", "open_dataset",
           "originals", "resolve", "take_fraction"]

FOLDER, ZIP, NPZ, PHANTOM = "folder", "zip", "npz", "phantom"
_ENDINGS = {".zip": ZIP, ".npz": NPZ}
_OPEN: dict[str, Callable[[Path, Paths], Source]] = {FOLDER: open_folder, ZIP: open_archive, NPZ: open_medmnist}
_DIGEST: dict[str, Callable[[Path, Paths], str]] = {FOLDER: folder_digest, ZIP: archive_digest, NPZ: medmnist_digest}


@dataclass(frozen=True)
class DatasetEntry:
    """A data set that could be opened. reference: what to open it by. kind: phantom, folder, zip or npz."""

    reference: str
    title: str
    kind: str


def open_dataset(reference: str, size: int, paths: Paths | None = None, progress: ProgressCallback | None = None,
                 fingerprint: str = "") -> Dataset:
    """A data set at a working size (pixels), decoded on first use and memory-mapped from then on.

    reference: a phantom's name (with options), a folder, a .zip or a MedMNIST .npz; see `resolve`. progress:
    called with the phase and its share done, 0..1. fingerprint: see `found_again`. Raises UsageError when the set
    cannot be found or trained on.
    """
    paths = paths or default_paths()
    reference = found_again(reference, fingerprint, paths)
    dataset = cache.open_cached(_source(resolve(reference, paths), paths), size, paths, progress or no_progress)
    counts = {part: split.counts(len(dataset.classes)) for part, split in dataset.splits.items()}
    skipped = [Skipped(name, reason) for name, reason in dataset.report.skipped]
    require_trainable(dataset.name, dataset.classes, counts, skipped)
    warnings = (*dataset.report.warnings, *missing_classes(dataset.classes, counts))
    return replace(dataset, report=replace(dataset.report, warnings=warnings))


def inspect(reference: str, paths: Paths | None = None) -> DataRef:
    """The data set that a reference names now: its files are listed and hashed, none is decoded. Raises UsageError.

    Listing takes about a second for every 20,000 files, so call this once and hand the result down.
    """
    paths = paths or default_paths()
    source = _source(resolve(reference, paths), paths)
    return DataRef(source.reference, source.fingerprint, source.classes, source.total, source.side())


def originals(data: Dataset, paths: Paths | None = None) -> Originals:
    """A reader of an opened data set's images at their own resolution, for showing them; models are given the working
    copies.

    It gives None for every image where there are no others than the working copies: for a set that is drawn at the size
    asked for, or that has changed on disk since it was opened. Listing the files takes as long as `inspect`.
    """
    try:
        source = _source(data.reference, paths or default_paths())
    except UsageError:
        return _no_originals
    return source.originals if source.originals and source.fingerprint == data.fingerprint else _no_originals


def files(data: Dataset, paths: Paths | None = None) -> FileReader | None:
    """A reader of the files behind an opened data set's images; None where they are no files of their own (drawn, or
    rows of an array), and where the set has changed on disk since it was opened. Listing the files takes as long as
    `inspect`."""
    try:
        source = _source(data.reference, paths or default_paths())
    except UsageError:
        return None
    return source.files if source.fingerprint == data.fingerprint else None


def _no_originals(names: Sequence[str], _most: int) -> list[NDArray[np.uint8] | None]:
    return [None] * len(names)


def images_taken(fingerprint: str, size: int, fraction: float, counts: Sequence[int], paths: Paths) -> int:
    """How many training images a share of them takes. counts: training images per class.

    Without the decoded set the count is an estimate per class: keeping patients whole may make it some more or fewer.
    """
    if fraction == 1.0:
        return sum(counts)
    part = cache.decoded(fingerprint, size, paths)
    if part is None:
        return sum(max(int(fraction * count + 0.5), min(count, 1)) for count in counts)
    return len(take_fraction(part, fraction, len(counts)))


def resolve(reference: str, paths: Paths | None = None) -> str:
    """The canonical reference: a phantom with its options in order, or an absolute path.

    A path is looked for from the working directory first, then below `paths.data`, there also with .zip or .npz added.
    Raises UsageError when there is nothing of that name.
    """
    paths, text = paths or default_paths(), reference.strip()
    if is_drawn(text):
        return phantoms.canonical(text)
    if path := locate(text, paths):
        require_place(Path(path))
        return path
    raise _missing(text, paths)


def locate(text: str, paths: Paths) -> str:
    """Absolute path of a file or folder by its path, from the working directory or below `paths.data`; empty where
    there is none."""
    near = [os.path.expanduser(text)]
    if text and not os.path.isabs(near[0]):
        near += [str(paths.data / text) + ending for ending in ("", *_ENDINGS)]
    return next((os.path.abspath(path) for path in near if text and os.path.exists(path)), "")


def found_again(reference: str, fingerprint: str, paths: Paths) -> str:
    """A set's reference, as a run has stored it with the set's fingerprint; where nothing lies there any more, as after
    the whole folder was moved or copied to another machine, that of the set below `paths.data` with this content.

    Sets of the same name are looked at first, since the others must be hashed.
    """
    if not fingerprint or is_drawn(reference) or locate(reference.strip(), paths):
        return reference
    name = Path(reference.replace("\\", "/")).name
    known = [entry.reference for entry in available(paths) if entry.kind != PHANTOM]
    return next((other for other in sorted(known, key=lambda one: Path(one).name != name)
                 if _content(other, paths) == fingerprint), reference)


def _content(reference: str, paths: Paths) -> str:
    try:
        return fingerprint(reference, paths)
    except UsageError:  # another set that cannot be read is not the one
        return ""


def fingerprint(reference: str, paths: Paths | None = None) -> str:
    """Digest of a set's content, independent of size and place; nothing is decoded. Raises UsageError."""
    paths = paths or default_paths()
    reference = resolve(reference, paths)
    if is_drawn(reference):
        return phantoms.fingerprint(reference)
    path = Path(reference)
    return _DIGEST[_kind(path)](path, paths)


def available(paths: Paths | None = None) -> list[DatasetEntry]:
    """What can be opened by name: the phantoms, then what lies in `paths.data`. Nothing is decoded or checked."""
    paths = paths or default_paths()
    found = [DatasetEntry(name, phantoms.PHANTOMS[name].info.title, PHANTOM) for name in phantoms.PHANTOMS]
    return found + [DatasetEntry(str(path), title_of(path.stem if path.is_file() else path.name), _kind(path))
                    for path in _candidates(paths.data.absolute())]


def _candidates(folder: Path) -> list[Path]:
    """Sets in a folder, by name; of a folder without class folders, the .npz files inside."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        of_masks = path.stem.endswith(MASKS) and _has_set(path)
        if is_hidden(path.name) or of_masks:
            continue
        if path.is_dir():
            found += [path] if _subfolders(path) else _arrays(path)
        elif path.suffix.lower() in _ENDINGS:
            found.append(path)
    return found


def _has_set(masks: Path) -> bool:
    return masks.with_name(masks.stem.removesuffix(MASKS) + (masks.suffix if masks.is_file() else "")).exists()


def _subfolders(path: Path) -> list[Path]:
    return [inner for inner in path.iterdir() if inner.is_dir() and not is_hidden(inner.name)]


def _arrays(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.suffix.lower() == ".npz")


def is_drawn(reference: str) -> bool:
    """Whether a reference is that of a phantom, whose images are drawn at the size asked for."""
    return reference.partition(":")[0].strip() in phantoms.PHANTOMS


def _kind(path: Path) -> str:
    if path.is_dir():
        if not _subfolders(path) and (arrays := _arrays(path)):
            raise UsageError(f"{path} holds array files, not class folders: give one of them, as {arrays[0].name}.")
        return FOLDER
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(f"{path} is not a data set: give a folder of class folders, a .zip of one, or a MedMNIST "
                         ".npz.")
    return _ENDINGS[path.suffix.lower()]


def _missing(text: str, paths: Paths) -> UsageError:
    names = [*phantoms.PHANTOMS, *(path.name for path in _candidates(paths.data))]
    near = get_close_matches(text, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(f"There is no data set {text!r}.{hint} Give the path of a folder, a .zip or an .npz, or one of: "
                      f"{', '.join(names)}.")


def _source(reference: str, paths: Paths) -> Source:
    if is_drawn(reference):
        return _phantom_source(reference)
    path = Path(reference)
    return _OPEN[_kind(path)](path, paths)


def _phantom_source(reference: str) -> Source:
    name, options = phantoms.parse_reference(reference)
    phantom = phantoms.PHANTOMS[name]

    def samples(size: int, known: KnownSamples) -> Iterator[Sample]:
        for drawn in phantoms.draw_set(name, options, size):
            yield Sample(drawn.name, drawn.label, drawn.split, drawn.image, drawn.evidence, drawn.group)

    def digest() -> str:
        return phantoms.fingerprint(reference)

    return Source(name, reference, phantom.info, phantom.classes, digest(), options.count, has_evidence=True,
                  has_groups=phantom.views > 1, samples=samples, digest=digest)
