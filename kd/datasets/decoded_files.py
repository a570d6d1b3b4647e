"""One data set decoded at one size, as files: arrays that are memory-mapped, never loaded, and a manifest.

A folder holds `<part>.images.npy` (uint8 [N, S, S, 3]), where the set has evidence `<part>.evidence.npy` (uint8
[N, S, S]), and `manifest.json`. It is written under another name and renamed when complete.
"""

import errno
import json
import os
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from kd.datasets.base import Sample, Skipped, Split
from kd.datasets.decode import DARK, TRAITS

try:
    import fcntl
except ImportError:  # Windows, where a file that is mapped cannot be deleted anyway
    fcntl = None  # type: ignore[assignment]

VERSION = 2  # of the pixels: raise it when the same file is decoded to others
FORMAT = 3  # of the folder: raise it when its files are laid out otherwise, or VERSION is raised
PARTS = ("train", "val", "test")
MANIFEST = "manifest.json"


@dataclass
class _Part:
    """What the manifest holds of one split; grows as images come."""

    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    has_evidence: list[bool] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    traits: list[list[str]] = field(default_factory=list)


class DecodedWriter:
    """Appends samples to the files of a new folder. Use within `writing`."""

    def __init__(self, folder: Path, size: int, has_evidence: bool, files: ExitStack) -> None:
        self.parts = {name: _Part() for name in PARTS}
        self.skipped: list[tuple[str, str]] = []
        self.bad_evidence: list[tuple[str, str]] = []
        self._blank = np.zeros((size, size), np.uint8)
        self._images = {name: files.enter_context(_rows(folder / f"{name}.images.npy", (size, size, 3)))
                        for name in PARTS}
        self._evidence = {name: files.enter_context(_rows(folder / f"{name}.evidence.npy", (size, size)))
                          for name in (PARTS if has_evidence else ())}

    def add(self, sample: Sample | Skipped) -> None:
        """Write one image, or note why it was left out."""
        if isinstance(sample, Skipped):
            self.skipped.append((sample.name, sample.reason))
            return
        self._images[sample.split].append(sample.image)
        if self._evidence:
            self._evidence[sample.split].append(self._blank if sample.evidence is None else sample.evidence)
        part = self.parts[sample.split]
        part.names.append(sample.name)
        part.labels.append(int(sample.label))
        # An image that is not in groups.csv is a patient of its own, and must not become one with other such images.
        part.groups.append(f"only {sample.name}" if sample.group is None else sample.group)
        part.has_evidence.append(sample.evidence is not None)
        part.contents.append("" if sample.evidence_problem else sample.content)
        part.traits.append(sorted(sample.traits))
        if sample.evidence_problem:
            self.bad_evidence.append((sample.name, sample.evidence_problem))

    def manifest(self, reference: str, fingerprint: str, has_evidence: bool, has_groups: bool) -> dict[str, Any]:
        """All that is not pixels, as plain values."""
        counts = Counter(trait for part in self.parts.values() for traits in part.traits for trait in traits)
        total = sum(len(part.names) for part in self.parts.values())
        notes = [f"{count} of {total} images are {TRAITS[trait]}." for trait, count in sorted(counts.items())
                 if trait != DARK or 2 * count <= total]
        warnings = [f"{len(self.bad_evidence)} masks could not be used (first {name}: {reason})."
                    for name, reason in self.bad_evidence[:1]]
        if 2 * counts[DARK] > total:
            warnings.append(f"{counts[DARK]} of {total} images are {TRAITS[DARK]}. Their files may hold another bit "
                            "depth than they say, or masks instead of images.")
        return {"version": VERSION, "reference": reference, "fingerprint": fingerprint, "created": time.time(),
                "has_evidence": has_evidence, "has_groups": has_groups, "notes": notes, "warnings": warnings,
                "skipped": self.skipped, "parts": {name: asdict(part) for name, part in self.parts.items()}}


@contextmanager
def writing(folder: Path, size: int, has_evidence: bool) -> Iterator[DecodedWriter]:
    """A writer into `folder`, whose arrays are complete and on disk when the block ends without an error."""
    with ExitStack() as files:
        yield DecodedWriter(folder, size, has_evidence, files)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """The last file to be written: it makes the folder complete."""
    with (folder / MANIFEST).open("w") as file:
        json.dump(manifest, file)
        _flush(file)


@dataclass(frozen=True)
class Decoded:
    """A complete folder, open. While any of its arrays lives, `in_use` of its folder is true, in every process."""

    manifest: dict[str, Any]
    splits: dict[str, Split]


def open_decoded(folder: Path, size: int) -> Decoded | None:
    """The decoded set in a folder; None where there is none, it is damaged, or another process removes it now."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            _share(file)
            manifest = json.load(file)
            if manifest["version"] != VERSION:
                return None
            splits = {name: _split(folder, name, size, manifest, file) for name in PARTS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):  # another user's cache may be read-only
        os.utime(folder / MANIFEST)
    return Decoded(manifest, splits)


@contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Whether no process has the decoded set in this folder open; while the block runs, none can open it."""
    with ExitStack() as files:
        try:
            if fcntl:
                file = files.enter_context((folder / MANIFEST).open("r+b"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except FileNotFoundError:  # not complete, so no process can have it open
            free = True
        except OSError as error:  # held, or another user's
            free = error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
        yield free


def last_used(folder: Path) -> float:
    """When it was last opened, as a time stamp; 0 for one that is not complete."""
    try:
        return (folder / MANIFEST).stat().st_mtime
    except OSError:
        return 0.0


def _share(file: IO[bytes]) -> None:
    """Mark the set as in use until this file and all its duplicates are closed. Raises OSError while it is removed."""
    if not fcntl:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:  # some network file systems know no locks: then nothing protects it, and all else works
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def _split(folder: Path, name: str, size: int, manifest: dict[str, Any], file: IO[bytes]) -> Split:
    part = manifest["parts"][name]
    count = len(part["labels"])
    masked = manifest["has_evidence"]
    return Split(images=_mapped(folder / f"{name}.images.npy", (count, size, size, 3), file),
                 labels=np.array(part["labels"], np.int64), names=tuple(part["names"]),
                 evidence=_mapped(folder / f"{name}.evidence.npy", (count, size, size), file) if masked else None,
                 has_evidence=np.array(part["has_evidence"], np.bool_) if masked else None,
                 groups=tuple(part["groups"]) if manifest["has_groups"] else None)


def _mapped(path: Path, shape: tuple[int, ...], file: IO[bytes]) -> NDArray[np.uint8]:
    """A read-only memory map that holds a duplicate of `file`, and so its lock. Raises ValueError when damaged."""
    rows = npy.open_memmap(path, "r")
    if rows.shape != shape or rows.dtype != np.uint8 or path.stat().st_size != rows.offset + rows.nbytes:
        raise ValueError(f"{path.name} is damaged")
    weakref.finalize(rows.base, os.close, os.dup(file.fileno()))
    return rows


class _Rows:
    """A .npy file that grows row by row. Its head has room for any number of rows and is written again at the end."""

    def __init__(self, file: IO[bytes], shape: tuple[int, ...]) -> None:
        self.file, self.shape, self.count = file, shape, 0
        self.head()

    def head(self) -> None:
        self.file.seek(0)
        npy.write_array_header_1_0(self.file, {"descr": "|u1", "fortran_order": False,
                                               "shape": (self.count, *self.shape)})

    def append(self, row: NDArray[np.uint8]) -> None:
        if row.shape != self.shape or row.dtype != np.uint8:
            raise ValueError(f"a row must be uint8 {self.shape}, not {row.dtype} {row.shape}")
        self.file.write(np.ascontiguousarray(row).data)
        self.count += 1


@contextmanager
def _rows(path: Path, shape: tuple[int, ...]) -> Iterator[_Rows]:
    with path.open("wb") as file:
        rows = _Rows(file, shape)
        yield rows
        rows.head()
        _flush(file)


def _flush(file: IO[Any]) -> None:
    """Bytes on disk before the rename that vouches for them, so that not even a power cut leaves a hollow cache."""
    file.flush()
    os.fsync(file.fileno())
