"""Data sets decoded once: uint8 images at the working size in files that are memory-mapped, never loaded.

`<cache>/<fingerprint>-<size>-v<VERSION>/` holds `<part>.images`, `<part>.masks` (bare bytes) and `manifest.json`. It is
written under another name and renamed when whole, so what has the right name can be used; one process builds, others
wait for it at a file lock.
"""

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kd.datasets.base import Dataset, ReadReport, Sample, Skipped, Source, Split
from kd.datasets.decode import TRAITS
from kd.errors import UsageError
from kd.places import Places
from kd.progress import ProgressCallback, no_progress

VERSION = 1
PARTS = ("train", "val", "test")


def open_cached(source: Source, size: int, places: Places, progress: ProgressCallback | None = None) -> Dataset:
    """The data set at one size, decoded now or before. Raises UsageError when the disk is full or not writable."""
    say = progress or no_progress
    folder = places.cache / f"{source.fingerprint}-{size}-v{VERSION}"
    manifest = _whole(folder, size)
    if manifest is None:
        with _disk_errors(places.cache):
            places.cache.mkdir(parents=True, exist_ok=True)
            remove_stale_builds(places)
            say("Waiting for the decoder", 0.0)
            with FileLock(_lock(folder), thread_local=False):
                manifest = _whole(folder, size) or _build(source, size, folder, say)
    return _dataset(source, size, folder, manifest)


def decoded(fingerprint: str, size: int, places: Places) -> Split | None:
    """The training part of a set that was decoded before; None where it never was, or the cache has been emptied."""
    folder = places.cache / f"{fingerprint}-{size}-v{VERSION}"
    manifest = _whole(folder, size)
    return None if manifest is None else _split(folder, "train", size, manifest)


def remove_stale_builds(places: Places) -> list[str]:
    """Remove what killed builds left behind, unless somebody builds it now. Returns the names removed."""
    removed = []
    for part in sorted(places.cache.glob("*.part")):
        lock = FileLock(_lock(part.with_suffix("")), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            shutil.rmtree(part, ignore_errors=True)
            removed.append(part.name)
        finally:
            lock.release()
    return removed


@dataclass
class _Part:
    """What the manifest says of one part; grows as images come."""

    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    has_evidence: list[bool] = field(default_factory=list)


@dataclass
class _Tally:
    """Everything that is counted while images are read."""

    parts: dict[str, _Part] = field(default_factory=lambda: {part: _Part() for part in PARTS})
    skipped: list[tuple[str, str]] = field(default_factory=list)
    traits: Counter[str] = field(default_factory=Counter)
    bad_masks: list[tuple[str, str]] = field(default_factory=list)

    def manifest(self, masked: bool, grouped: bool) -> dict[str, Any]:
        total = sum(len(part.names) for part in self.parts.values())
        notes = [f"{count} of {total} images are {TRAITS[trait]}." for trait, count in sorted(self.traits.items())]
        warnings = [f"{len(self.bad_masks)} masks could not be used (first {name}: {reason})."
                    for name, reason in self.bad_masks[:1]]
        return {"version": VERSION, "masked": masked, "grouped": grouped, "notes": notes, "warnings": warnings,
                "skipped": self.skipped, "parts": {name: asdict(part) for name, part in self.parts.items()}}


def _build(source: Source, size: int, folder: Path, say: ProgressCallback) -> dict[str, Any]:
    """Decode everything into a folder of another name, then rename it. The lock is held."""
    part = folder.with_name(f"{folder.name}.part")
    _require_room(source, size, folder.parent)
    for leftover in (part, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir()
    try:
        tally = _write_images(source, size, part, say)
        if source.digest() != source.fingerprint:
            raise UsageError(f"{source.name} was changed while it was read: try again when its files are settled.")
        manifest = tally.manifest(source.has_evidence, source.has_groups)
        with (part / "manifest.json").open("w") as file:
            json.dump(manifest, file)
            _settle(file)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    say("Reading images", 1.0)
    return manifest


def _write_images(source: Source, size: int, part: Path, say: ProgressCallback) -> _Tally:
    tally = _Tally()
    blank = np.zeros((size, size), np.uint8)
    with ExitStack() as stack:
        images = {name: stack.enter_context((part / f"{name}.images").open("wb")) for name in PARTS}
        masks = {name: stack.enter_context((part / f"{name}.masks").open("wb"))
                 for name in (PARTS if source.has_evidence else ())}
        for number, sample in enumerate(source.samples(size)):
            if number % 32 == 0:
                say("Reading images", number / max(source.total, 1))
            if isinstance(sample, Skipped):
                tally.skipped.append((sample.name, sample.reason))
                continue
            images[sample.split].write(np.ascontiguousarray(sample.image).data)
            if masks:
                mask = blank if sample.evidence is None else sample.evidence
                masks[sample.split].write(np.ascontiguousarray(mask).data)
            _count(tally, sample)
        for file in (*images.values(), *masks.values()):
            _settle(file)
    return tally


def _count(tally: _Tally, sample: Sample) -> None:
    part = tally.parts[sample.split]
    part.names.append(sample.name)
    part.labels.append(int(sample.label))
    # Whoever is not named in groups.csv is a patient of their own, and must not become one with the other nameless.
    part.groups.append(f"only {sample.name}" if sample.group is None else sample.group)
    part.has_evidence.append(sample.evidence is not None)
    tally.traits.update(sample.traits)
    if sample.evidence_problem:
        tally.bad_masks.append((sample.name, sample.evidence_problem))


def _settle(file: IO[Any]) -> None:
    """Bytes on disk before the rename that vouches for them, so that not even a power cut leaves a hollow cache."""
    file.flush()
    os.fsync(file.fileno())


def _whole(folder: Path, size: int) -> dict[str, Any] | None:
    """The manifest of a complete cache, or None when there is none or its files have another length."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        for name in PARTS:
            count = len(manifest["parts"][name]["labels"])
            kinds = {"images": 3, "masks": 1} if manifest["masked"] else {"images": 3}
            for kind, channels in kinds.items():
                if (folder / f"{name}.{kind}").stat().st_size != count * size * size * channels:
                    return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest


def _dataset(source: Source, size: int, folder: Path, manifest: dict[str, Any]) -> Dataset:
    report = ReadReport((*source.report.skipped, *((name, reason) for name, reason in manifest["skipped"])),
                    (*source.report.notes, *manifest["notes"]), (*source.report.warnings, *manifest["warnings"]))
    train, val, test = (_split(folder, name, size, manifest) for name in PARTS)
    return Dataset(source.reference, source.name, source.info, source.classes, size, source.fingerprint,
                   train, val, test, report)


def _split(folder: Path, name: str, size: int, manifest: dict[str, Any]) -> Split:
    part = manifest["parts"][name]
    count, masked = len(part["labels"]), manifest["masked"]
    return Split(images=_mapped(folder / f"{name}.images", (count, size, size, 3)),
                 labels=np.array(part["labels"], np.int64), names=tuple(part["names"]),
                 evidence=_mapped(folder / f"{name}.masks", (count, size, size)) if masked else None,
                 has_evidence=np.array(part["has_evidence"], np.bool_) if masked else None,
                 groups=tuple(part["groups"]) if manifest["grouped"] else None)


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A read-only memory map; nothing can be mapped of a part without images."""
    return np.memmap(path, np.uint8, "r", shape=shape) if shape[0] else np.zeros(shape, np.uint8)


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _require_room(source: Source, size: int, cache: Path) -> None:
    """Raise UsageError before hours of work for a disk that cannot hold the result."""
    needed = source.total * size * size * (4 if source.has_evidence else 3)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise UsageError(f"{source.name} needs {needed / 2**30:.1f} GB decoded at {size} pixels, but only "
                         f"{free / 2**30:.1f} GB are free at {cache}: make room, or choose a smaller image size.")


@contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(f"The disk of {cache} is full: make room there (the folder itself may be emptied when "
                             "nothing runs), or choose a smaller image size.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UsageError(f"Decoded images cannot be written to {cache} ({error.strerror}): make it writable, or "
                             "choose another root.") from error
        raise
