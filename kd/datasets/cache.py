"""The cache of decoded data sets: each decoded once per size and content, bounded in size, cleared on demand.

`<cache>/<fingerprint>-<size>-v<FORMAT>/` is one decoded set (`kd.datasets.decoded_files`). One process decodes, others
wait for it at a file lock. Beyond the quota the least recently used go, and a set whose files have changed takes the
decoded copy of its former content with it; what any process has open stays.
"""

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from kd.datasets.base import Dataset, ReadReport, Sample, Source, Split
from kd.datasets.decoded_files import (
    FORMAT,
    MANIFEST,
    VERSION,
    Decoded,
    last_used,
    open_decoded,
    unused,
    write_manifest,
    writing,
)
from kd.errors import UsageError
from kd.paths import Paths
from kd.progress import ProgressCallback, no_progress
from kd.store.quota import quota_of
from kd.store.row_files import folder_size

__all__ = ["VERSION", "CachedSet", "Cleared", "cached_bytes", "cached_sets", "clear", "decoded", "is_decoded",
           "open_cached", "quota", "remove_stale_builds"]

QUOTA = 20.0  # GB: at 224 pixels some 130,000 images
_NAME = re.compile(r"(?P<fingerprint>[\w.]+)-(?P<size>\d+)-v(?P<format>\d+)")


@dataclass(frozen=True)
class CachedSet:
    """A decoded set in the cache. bytes: on disk. used: when it was last opened, a time stamp. reference: of the data
    set that it was decoded from. created: when; 0 where the folder is damaged."""

    folder: Path
    bytes: int
    used: float
    reference: str
    fingerprint: str
    created: float


@dataclass(frozen=True)
class Cleared:
    """Bytes removed from the cache, and bytes that stay because they are in use."""

    removed: int
    in_use: int


def quota() -> int:
    """Bytes that decoded sets may take under one root (KD_LENS_DECODED_CACHE_GB, default 20); 0: none stays that is not
    in use.

    Raises UsageError unless the variable is a number from 0 up.
    """
    return quota_of("KD_LENS_DECODED_CACHE_GB", QUOTA)


def open_cached(source: Source, size: int, paths: Paths, progress: ProgressCallback = no_progress) -> Dataset:
    """The data set at one size, decoded now or before. Raises UsageError when the disk is full or not writable."""
    folder = _folder(paths, source.fingerprint, size)
    found = open_decoded(folder, size)
    if found is None:
        with _disk_errors(paths.cache):
            paths.cache.mkdir(parents=True, exist_ok=True)
            progress("Waiting for the decoder", 0.0)
            with FileLock(_lock(folder), thread_local=False):
                found = open_decoded(folder, size) or _build(source, size, folder, paths, progress)
            remove_stale_builds(paths)
    return _dataset(source, size, found)


def decoded(fingerprint: str, size: int, paths: Paths) -> Split | None:
    """The training split of a set that was decoded before; None where it never was, or has been cleared."""
    found = open_decoded(_folder(paths, fingerprint, size), size)
    return None if found is None else found.splits["train"]


def is_decoded(fingerprint: str, size: int, paths: Paths) -> bool:
    """Whether opening the set at this size decodes nothing."""
    return decoded(fingerprint, size, paths) is not None


def cached_bytes(paths: Paths) -> int:
    """Bytes on disk of all decoded sets."""
    return sum(map(folder_size, _folders(paths)))


def cached_sets(paths: Paths) -> list[CachedSet]:
    """All decoded sets, the least recently used first; also damaged ones, which count as never used."""
    found = [_described(folder) for folder in _folders(paths)]
    return sorted(found, key=lambda one: (one.used, one.folder.name))


def clear(paths: Paths) -> Cleared:
    """Remove every decoded set that no process has open. It is decoded again when it is next opened."""
    remove_stale_builds(paths)
    sizes = [(one.bytes, _remove(one.folder)) for one in cached_sets(paths)]
    return Cleared(sum(size for size, gone in sizes if gone), sum(size for size, gone in sizes if not gone))


def remove_stale_builds(paths: Paths) -> list[str]:
    """Remove what can never be opened again: remains of killed builds, other formats, and sets whose files have changed
    since. What is being built or in use stays. Returns the names removed."""
    parts = [part for part in sorted(paths.cache.glob("*.part")) if _remove_part(part)]
    folders = [*_other_formats(paths), *_outdated(cached_sets(paths))]
    return [path.name for path in (*parts, *filter(_remove, folders))]


def _folder(paths: Paths, fingerprint: str, size: int) -> Path:
    return paths.cache / f"{fingerprint}-{size}-v{FORMAT}"


def _folders(paths: Paths) -> list[Path]:
    return [path for path in paths.cache.glob(f"*-v{FORMAT}") if _NAME.fullmatch(path.name) and path.is_dir()]


def _other_formats(paths: Paths) -> list[Path]:
    return [path for path in paths.cache.glob("*-v*") if (name := _NAME.fullmatch(path.name)) and path.is_dir()
            and int(name["format"]) != FORMAT]


def _described(folder: Path) -> CachedSet:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        facts = str(manifest["reference"]), str(manifest["fingerprint"]), float(manifest["created"])
    except (OSError, ValueError, KeyError, TypeError):
        facts = "", "", 0.0
    return CachedSet(folder, folder_size(folder), last_used(folder), *facts)


def _outdated(found: list[CachedSet]) -> list[Path]:
    """Sets of which there is a later one under the same reference with another content."""
    return [one.folder for one in found
            if any(other.reference == one.reference and other.fingerprint != one.fingerprint
                   and other.created > one.created for other in found if one.reference)]


def _remove_part(part: Path) -> bool:
    """Remove the remains of a killed build; whether nobody builds it now."""
    with _not_building(part.with_suffix("")) as free:
        if free:
            shutil.rmtree(part, ignore_errors=True)
        return free


def _remove(folder: Path) -> bool:
    """Remove a decoded set unless it is in use. First it gets the name of a build that failed, so that a kill between
    leaves nothing that looks complete."""
    with ExitStack() as locks:
        # In this order: a process that waits for the first lock finds the set open to it, not locked by this one.
        if not (locks.enter_context(_not_building(folder)) and locks.enter_context(unused(folder))):
            return False
        part = folder.with_name(f"{folder.name}.part")
        try:
            folder.rename(part)
        except FileNotFoundError:  # another process was faster
            return True
        except OSError:  # Windows: something has it mapped; or another user's
            return False
        shutil.rmtree(part, ignore_errors=True)
        return True


@contextmanager
def _not_building(folder: Path) -> Iterator[bool]:
    """Whether no process decodes into this folder; while the block runs, none can begin."""
    lock = FileLock(_lock(folder), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _build(source: Source, size: int, folder: Path, paths: Paths, progress: ProgressCallback) -> Decoded:
    """Decode everything into a folder of another name, then rename it. The lock is held."""
    part = folder.with_name(f"{folder.name}.part")
    for leftover in (part, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    former = _former(source, size, paths)
    _make_room(source, size, paths)
    part.mkdir()
    try:
        with writing(part, size, source.has_evidence) as writer:
            for number, sample in enumerate(source.samples(size, _rows_of(former))):
                if number % 32 == 0:
                    progress("Reading images", number / max(source.total, 1))
                writer.add(sample)
        if source.digest() != source.fingerprint:
            raise UsageError(f"{source.name} was changed while it was read: try again when its files are settled.")
        write_manifest(part, writer.manifest(source.reference, source.fingerprint, source.has_evidence,
                                             source.has_groups))
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    progress("Reading images", 1.0)
    found = open_decoded(folder, size)
    assert found is not None, "what was just written can be read"
    return found


def _former(source: Source, size: int, paths: Paths) -> Decoded | None:
    """The same data set at the same size with its content of before, where that is still there."""
    alike = [one for one in cached_sets(paths) if one.reference == source.reference
             and one.folder.name.endswith(f"-{size}-v{FORMAT}")]
    return open_decoded(alike[-1].folder, size) if alike else None


def _rows_of(former: Decoded | None) -> Callable[[str], Sample | None]:
    """A look-up of decoded images by the digest of their files; names, labels and splits are those of before."""
    if former is None:
        return lambda content: None
    place = {content: (name, row) for name, part in former.manifest["parts"].items()
             for row, content in enumerate(part["contents"]) if content}

    def find(content: str) -> Sample | None:
        if content not in place:
            return None
        name, row = place[content]
        split, traits = former.splits[name], former.manifest["parts"][name]["traits"][row]
        drawn = None
        if split.evidence is not None and split.has_evidence is not None and split.has_evidence[row]:
            drawn = np.asarray(split.evidence[row])
        return Sample(split.names[row], int(split.labels[row]), name, np.asarray(split.images[row]), drawn,
                      traits=frozenset(traits), content=content)

    return find


def _make_room(source: Source, size: int, paths: Paths) -> None:
    """Remove the least recently used until the new set fits into the quota and onto the disk.

    Raises UsageError before hours of work for a disk that cannot hold the result. The quota refuses nothing: a set
    larger than it is decoded all the same, since nothing can be learned from it otherwise.
    """
    needed = source.total * size * size * (4 if source.has_evidence else 3)
    found, allowed = cached_sets(paths), quota()
    used = sum(one.bytes for one in found)
    for one in found:
        if used + needed <= allowed and needed <= shutil.disk_usage(paths.cache).free:
            return
        if _remove(one.folder):
            used -= one.bytes
    free = shutil.disk_usage(paths.cache).free
    if needed > free:
        raise UsageError(f"{source.name} needs {needed / 2**30:.1f} GB decoded at {size} pixels, but only "
                         f"{free / 2**30:.1f} GB are free at {paths.cache}: make room, or choose a smaller image "
                         "size.")


def _dataset(source: Source, size: int, found: Decoded) -> Dataset:
    manifest = found.manifest
    report = ReadReport((*source.report.skipped, *((name, reason) for name, reason in manifest["skipped"])),
                        (*source.report.notes, *manifest["notes"]), (*source.report.warnings, *manifest["warnings"]))
    return Dataset(source.reference, source.name, source.info, source.classes, size, source.fingerprint,
                   found.splits["train"], found.splits["val"], found.splits["test"], report)


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(f"The disk of {cache} is full: make room there (python -m kd datasets --clear-cache "
                             "empties this cache), or choose a smaller image size.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UsageError(f"Decoded images cannot be written to {cache} ({error.strerror}): make it writable, or "
                             "choose another root.") from error
        raise
