"""Archives unpacked below the cache, bounded in names, numbers and bytes: tar, and zips of DICOM or NIfTI."""

import hashlib
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock, Timeout

from kd.datasets.base import Skipped
from kd.datasets.image_folder.names import is_hidden, printable
from kd.datasets.limits import LIMITS
from kd.errors import Stopped, UsageError
from kd.paths import Paths
from kd.store.row_files import folder_size

PREFIX = "unpacked-"
TAR = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_FORGOTTEN = 86400.0  # seconds after which what was unpacked only to be looked at makes room for the next
_PACKED = (".zip", ".7z", ".rar", *TAR)


def is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TAR)


def unpacked(path: Path, paths: Paths, should_stop: Callable[[], bool] = lambda: False) -> tuple[Path, list[Skipped]]:
    """The folder that an archive is unpacked to, once, and entries that were left out: links, devices, names that lead
    out, archives within. Raises UsageError for a bomb or a damaged archive, and leaves nothing then."""
    status = path.stat()
    key = hashlib.blake2b(f"{path}|{status.st_size}|{status.st_mtime_ns}".encode(), digest_size=8).hexdigest()
    place = paths.cache / f"{PREFIX}{key}"
    paths.cache.mkdir(parents=True, exist_ok=True)
    remove_unpacked(paths, _FORGOTTEN)
    with _lock(place):
        return place, _unpack(path, place, LIMITS.free + LIMITS.ratio * status.st_size, should_stop)


def _unpack(path: Path, place: Path, most: int, should_stop: Callable[[], bool]) -> list[Skipped]:
    """Entries that were left out; the others lie in the folder afterwards."""
    part = place.with_name(f"{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    folder = None if place.exists() else part
    left: list[Skipped] = []
    try:
        for number, (name, size, opened, fault) in enumerate(_entries(path)):
            most -= size
            if number > LIMITS.entries:
                raise UsageError(f"{path.name} has more than {LIMITS.entries} entries.")
            if most < 0:
                raise UsageError(f"{path.name} would unpack to over {LIMITS.ratio} times its size: so do bombs. If you "
                                 "trust it, unpack it yourself and give the folder.")
            if should_stop():
                raise Stopped
            if problem := fault or _problem(name):
                left.append(Skipped(printable(name), problem))
            elif folder is not None:
                _write(folder / _clean(name), opened, size)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            folder.rename(place)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError) as error:
        raise UsageError(f"{path.name} cannot be unpacked ({error or type(error).__name__}): make it again, or give "
                         "its folder.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return left


Entry = tuple[str, int, Callable[[], IO[bytes] | None], str]


def _entries(path: Path) -> Iterator[Entry]:
    """Name, unpacked size, opener and fault of every file."""
    if not is_tar(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    locked = "it is locked by a password" if entry.flag_bits & 1 else ""
                    link = "it is a link" if entry.external_attr >> 28 == 0o12 else ""
                    yield entry.filename, entry.file_size, _opener(archive, entry), locked or link
        return
    with tarfile.open(path) as tape:
        for member in tape:
            if not member.isdir():
                fault = "" if member.isreg() else "it is a link or no regular file"
                yield member.name, member.size if member.isreg() else 0, _from_tar(tape, member), fault


def _opener(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], IO[bytes] | None]:
    return lambda: archive.open(entry)


def _from_tar(tape: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], IO[bytes] | None]:
    return lambda: tape.extractfile(member)


def _problem(name: str) -> str:
    clean = name.replace("\\", "/")
    pieces = PurePosixPath(clean).parts
    if not pieces or clean.startswith("/") or ".." in pieces or ":" in pieces[0] or "\0" in name:
        return "its name leads out of the archive"
    if any(len(os.fsencode(piece)) > 250 for piece in pieces) or len(pieces) > 40:
        return "its name is too long"
    if any(map(is_hidden, pieces)):
        return "it is a hidden file"
    return "it is an archive within the archive" if clean.lower().endswith(_PACKED) else ""


def _clean(name: str) -> str:
    return "/".join(PurePosixPath(name.replace("\\", "/")).parts)


def _write(place: Path, opened: Callable[[], IO[bytes] | None], size: int) -> None:
    """One file, of at most the size that its entry says."""
    place.parent.mkdir(parents=True, exist_ok=True)
    source = opened()
    if source is None:
        return
    with source, place.open("xb") as file:
        left = size
        while left > 0 and (block := source.read(min(left, 2**20))):
            file.write(block)
            left -= len(block)


@contextmanager
def kept(place: Path | None) -> Iterator[None]:
    """While the block runs, the folder that an archive was unpacked to is not cleared away. Raises UsageError where it
    was already."""
    if place is None:
        yield
        return
    with _lock(place):
        if not place.is_dir():
            raise UsageError("What was unpacked of the archive was cleared away meanwhile: import it again.")
        yield


def remove_unpacked(paths: Paths, age: float = 0) -> int:
    """Remove what was unpacked and nothing reads now; the bytes removed. age: seconds since it was unpacked."""
    removed = 0
    for place in _places(paths):
        if time.time() - place.stat().st_mtime >= age:
            with suppress(Timeout), _lock(place).acquire(timeout=0):
                removed += folder_size(place)
                shutil.rmtree(place, ignore_errors=True)
    return removed


def unpacked_bytes(paths: Paths) -> int:
    """Bytes on disk of what was unpacked."""
    return sum(map(folder_size, _places(paths)))


def _places(paths: Paths) -> list[Path]:
    return [place for place in sorted(paths.cache.glob(f"{PREFIX}*")) if place.is_dir() and place.suffix != ".part"]


def _lock(place: Path) -> FileLock:
    return FileLock(place.with_name(f"{place.name}.lock"), thread_local=False)
