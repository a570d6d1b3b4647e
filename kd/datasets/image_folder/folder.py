"""Class folders on this machine."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

from kd.datasets.base import Skipped, Source
from kd.datasets.hashing import combine, digest_files
from kd.datasets.image_folder import layout, names
from kd.datasets.image_folder.layout import Tree
from kd.datasets.image_folder.source import class_folders, unlabelled_digest, unlabelled_images, unlabelled_reference
from kd.datasets.limits import LIMITS
from kd.datasets.places import is_system, require_place
from kd.errors import UsageError
from kd.paths import Paths


def open_folder(path: Path, paths: Paths) -> Source:
    """The source of a folder, with the masks in `<name>_masks/` beside it. Raises UsageError."""
    tree, masks = _trees(path, paths)
    return class_folders(path.name, str(path), tree, masks, _digest(tree, masks), partial(folder_digest, path, paths))


def open_unlabelled_folder(path: Path, paths: Paths) -> Source:
    """The source of the images below a folder, without classes. Raises UsageError."""
    tree = _hashed(path, paths)
    return unlabelled_images(path.name, unlabelled_reference(path), tree, unlabelled_digest(combine(tree.digests)),
                             lambda: unlabelled_digest(combine(_hashed(path, paths).digests)))


def folder_digest(path: Path, paths: Paths) -> str:
    """Digest of what a folder's images, sidecar files and masks are called and contain; nothing is decoded."""
    return _digest(*_trees(path, paths))


def masks_beside(path: Path) -> Path:
    """Where the masks of a folder would lie."""
    return path.parent / f"{path.name}{layout.MASKS}"


def scan(root: Path) -> Tree:
    """What lies below a folder; links are followed, but never in a circle, nor into the system's own folders. Raises
    UsageError if it cannot be listed, or goes on beyond the limits."""
    require_place(root)
    found = _Listing(root)
    try:
        _walk(root, "", (), found)
    except OSError as error:
        raise UsageError(f"The folder {layout.printable(str(root))} cannot be read ({error.strerror}).") from error
    return Tree(tuple(sorted(found.images)), tuple(sorted(found.folders)), tuple(sorted(found.sidecars)),
                found.ignored, tuple(found.refused), lambda: nullcontext(lambda name: root / name),
                tables=tuple(sorted(found.tables)), endings=found.endings)


@dataclass
class _Listing:
    """started, seen: when the listing began, and the entries so far."""

    root: Path
    started: float = field(default_factory=time.monotonic)
    seen: int = 0
    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    refused: list[Skipped] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    ignored: int = 0


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...], found: _Listing) -> None:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        items = sorted(_counted(entries, len(above), found), key=lambda item: item.name)
    for item in items:
        name = prefix + item.name
        if layout.is_hidden(item.name):
            found.ignored += not _is_folder(item)
        elif _is_folder(item):
            found.folders.append(name)
            if item.is_symlink() and is_system(Path(os.path.realpath(item.path))):
                found.refused.append(Skipped(layout.printable(name), "the link leads into the system's own folders"))
                continue
            _refusing(partial(_walk, Path(item.path), f"{name}/", (*above, here), found), name, found)
        elif item.name in layout.OWN:
            found.sidecars += [name] if item.name in layout.SIDECARS else []
        elif layout.is_image(item.name) or (not names.has_ending(item.name) and _is_image(item)):
            _image(item, name, found)
        else:
            _other(item, name, found)


def _counted(entries: Iterable[os.DirEntry[str]], depth: int, found: _Listing) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, while the listing is within its limits."""
    for entry in entries:
        found.seen += 1
        over = (f"more than {LIMITS.entries:,} files" if found.seen > LIMITS.entries else
                f"folders inside of folders, more than {LIMITS.depth} deep" if depth > LIMITS.depth else
                f"more files than can be listed in {LIMITS.seconds:g} seconds"
                if time.monotonic() - found.started > LIMITS.seconds else "")
        if over:
            raise UsageError(f"{layout.printable(str(found.root))} holds {over}. Give the folder of the images.")
        yield entry


def _is_folder(item: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link to itself is neither."""
    try:
        return item.is_dir()
    except OSError:
        return False


def _other(item: os.DirEntry[str], name: str, found: _Listing) -> None:
    ending = os.path.splitext(item.name)[1].lower()
    if ending in (".csv", ".tsv") and _is_file(item):
        found.tables.append(name)
    found.endings[ending or "without an ending"] += 1
    found.ignored += 1


def _is_file(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_file()
    except OSError:  # a link to itself
        return False


def _is_image(item: os.DirEntry[str]) -> bool:
    """Whether a file without an ending begins as an image does."""
    try:
        if not item.is_file():
            return False
        with open(item.path, "rb") as file:
            return names.is_image_content(file.read(12))
    except OSError:
        return False


def _refusing(walk: Callable[[], None], name: str, found: _Listing) -> None:
    """Handler that lists a folder which cannot be read among the refused files."""
    try:
        walk()
    except OSError as error:
        found.refused.append(Skipped(layout.printable(name), f"the folder cannot be read ({error.strerror})"))


def _image(item: os.DirEntry[str], name: str, found: _Listing) -> None:
    try:
        regular = item.is_file()  # known from the listing, so hashing alone stats each file
        if not regular:
            item.stat()  # a link to nothing raises here
    except OSError as error:
        found.refused.append(Skipped(layout.printable(name), f"the file cannot be opened ({error.strerror})"))
        return
    if regular:
        found.images.append(name)
    else:  # reading a pipe or a device could wait for ever
        found.refused.append(Skipped(layout.printable(name), "it is not a regular file"))


def _trees(path: Path, paths: Paths) -> tuple[Tree, Tree | None]:
    """What lies in a set's folder, and in that of its masks if there is one, with digests."""
    beside = masks_beside(path)
    return _hashed(path, paths), _hashed(beside, paths) if beside.is_dir() else None


def _hashed(root: Path, paths: Paths) -> Tree:
    tree = scan(root)
    if table := layout.label_table(tree):
        tree = replace(tree, sidecars=(*tree.sidecars, table))
    key = blake2b(os.fsencode(root), digest_size=12).hexdigest()
    files = {name: f"{root}/{name}" for name in (*tree.images, *tree.sidecars)}
    return replace(tree, digests=digest_files(files, paths.cache / "digests" / f"{key}.json"))


def _digest(tree: Tree, masks: Tree | None) -> str:
    parts = {"set": tree, **({} if masks is None else {"masks": masks})}
    found = {name: combine({**{f"{folder}/": "folder" for folder in part.folders}, **part.digests})
             for name, part in parts.items()}
    reading = layout.reading(tree)
    return combine({**found, **({"reading": reading} if reading else {})})
