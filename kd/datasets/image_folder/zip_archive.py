"""Class folders in a zip, read in place: nothing is ever extracted."""

import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath

from kd.datasets.base import Skipped, Source
from kd.datasets.decode import UnreadableImage
from kd.datasets.hashing import combine, digest_file
from kd.datasets.image_folder import layout, names
from kd.datasets.image_folder.layout import Tree
from kd.datasets.image_folder.source import class_folders, unlabelled_digest, unlabelled_images, unlabelled_reference
from kd.datasets.limits import LIMITS
from kd.errors import UsageError
from kd.paths import Paths

_ENCRYPTED = 0x1


def open_archive(path: Path, paths: Paths) -> Source:
    """The source of a zip, with masks inside it or in `<name>_masks.zip` beside it. Raises UsageError."""
    beside = masks_beside(path)
    masks = scan(beside) if beside.is_file() else None
    digest = partial(archive_digest, path, paths)
    return class_folders(path.stem, str(path), scan(path), masks, digest(), digest)


def open_unlabelled_archive(path: Path, paths: Paths) -> Source:
    """The source of the images in a zip, without classes. Raises UsageError."""
    def digest() -> str:
        return unlabelled_digest(digest_file(path, paths.cache / "digests"))

    return unlabelled_images(path.stem, unlabelled_reference(path), scan(path), digest(), digest)


def archive_digest(path: Path, paths: Paths) -> str:
    """Digest of the bytes of a zip, of the zip of masks beside it, and of how its names are read. Raises UsageError."""
    beside = masks_beside(path)
    memory = paths.cache / "digests"
    parts = {"set": digest_file(path, memory)}
    if beside.is_file():
        parts["masks"] = digest_file(beside, memory)
    if reading := layout.reading(scan(path)):
        parts["reading"] = reading
    return combine(parts)


def masks_beside(path: Path) -> Path:
    """Where the masks of a zip would lie, if not inside it."""
    return path.with_name(f"{path.stem}{layout.MASKS}.zip")


def scan(path: Path) -> Tree:
    """What is in a zip. Raises UsageError when it is none, is too large, or is a bomb."""
    with _opened(path) as archive:
        entries = archive.infolist()
        _require_bounded(path, entries)
    files: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    refused: list[Skipped] = []
    ignored = 0
    for entry in entries:
        name = entry.filename.replace("\\", "/")
        pieces = PurePosixPath(name).parts
        if not pieces or any(layout.is_hidden(piece) and piece != ".." for piece in pieces):
            ignored += not entry.is_dir()
        elif _escapes(name, pieces):
            refused.append(Skipped(layout.printable(name), "its name leads out of the archive"))
        else:
            clean = "/".join(pieces)
            folders.update(str(above) for above in PurePosixPath(clean).parents if str(above) != ".")
            if name.endswith("/"):
                folders.add(clean)
            else:
                files[clean] = entry
    return _tree(path, files, folders, refused, ignored)


def _tree(path: Path, files: dict[str, zipfile.ZipInfo], folders: set[str], refused: list[Skipped],
          ignored: int) -> Tree:
    images = sorted(name for name, entry in files.items() if layout.is_image(name) or _is_image(path, name, entry))
    sidecars = sorted(name for name in files if PurePosixPath(name).name in layout.SIDECARS)
    others = set(files).difference(images, sidecars)
    endings = Counter(PurePosixPath(name).suffix.lower() or "without an ending" for name in others)
    tables = sorted(name for name in others if name.lower().endswith((".csv", ".tsv")))
    return Tree(tuple(images), tuple(sorted(folders)), tuple(sidecars), ignored + len(others), tuple(refused),
                partial(_reader, path, files), tables=tuple(tables), endings=endings)


def _is_image(path: Path, name: str, entry: zipfile.ZipInfo) -> bool:
    """Whether an entry without an ending begins as an image does."""
    if names.has_ending(PurePosixPath(name).name) or entry.is_dir():
        return False
    with _opened(path) as archive, suppress(Exception), archive.open(entry) as file:
        return names.is_image_content(file.read(12))
    return False


@contextmanager
def _reader(path: Path, files: dict[str, zipfile.ZipInfo]) -> Iterator[Callable[[str], bytes]]:
    with _opened(path) as archive:
        yield lambda name: _read(archive, files[name])


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """One entry's bytes. Raises UnreadableImage."""
    if entry.flag_bits & _ENCRYPTED:
        raise UnreadableImage("it is locked by a password: zip the images again without one")
    if entry.file_size > LIMITS.file:
        raise UnreadableImage(f"it unpacks to {entry.file_size / 2**20:.0f} MB, more than {LIMITS.file / 2**20:.0f}")
    try:
        # zipfile itself stops at the declared size and compares the checksum, so a header that lies is an error.
        return archive.read(entry)
    except Exception as error:  # zlib.error, EOFError, NotImplementedError, BadZipFile: whatever broken bytes lead to
        raise UnreadableImage(f"it is damaged in the zip ({error or type(error).__name__})") from error


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise UsageError(f"The zip {path} cannot be read ({error.strerror}).") from error
    except Exception as error:  # BadZipFile for most; hostile directories also raise struct.error, ValueError and more
        raise UsageError(f"{path.name} is no readable zip ({error}): make it again, or give its folder.") from error
    with archive:
        yield archive


def _require_bounded(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > LIMITS.entries:
        raise UsageError(f"{path.name} has {len(entries)} entries, more than {LIMITS.entries}: "
                         "unpack it and give the folder.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > LIMITS.free + LIMITS.ratio * path.stat().st_size:
        raise UsageError(f"{path.name} would unpack to {unpacked / 2**30:.0f} GB, over {LIMITS.ratio} times its size: "
                         "so do zip bombs. If you trust it, unpack it yourself and give the folder.")


def _escapes(name: str, pieces: tuple[str, ...]) -> bool:
    """Whether a name is absolute, has a drive, or climbs."""
    return name.startswith("/") or ".." in pieces or ":" in pieces[0]
