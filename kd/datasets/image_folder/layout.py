"""What the names of files say: which are images, of which class, in which part."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from kd.datasets.base import Skipped
from kd.datasets.decode import EXTENSIONS
from kd.errors import UsageError

PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test",
         "val": "val", "valid": "val", "validation": "val"}
SIDECARS = ("groups.csv", "dataset.json")
MASKS = "_masks"


@dataclass(frozen=True)
class Tree:
    """Files below a root, on disk or in a zip, by relative name with forward slashes.

    images, sidecars: files, sorted. folders: every folder, also an empty one. ignored: how many files are hidden or
    no images. refused: files that must not be opened. opened: gives the reader of an image or sidecar, which
    raises decode.UnreadableImage. digests: of files' bytes, by name, where each file was hashed by itself.
    """

    images: tuple[str, ...]
    folders: tuple[str, ...]
    sidecars: tuple[str, ...]
    ignored: int
    refused: tuple[Skipped, ...]
    opened: Callable[[], AbstractContextManager[Callable[[str], bytes | Path]]]
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageFile:
    """One image: its name in the tree, its path below the set's root, its class, and its part where one is given."""

    name: str
    path: str
    label: int
    part: str | None


@dataclass(frozen=True)
class Layout:
    """Class folders as found: `root` and `masks` are prefixes in the tree ('' or ending in '/'; masks may be None)."""

    root: str
    masks: str | None
    classes: tuple[str, ...]
    entries: tuple[ImageFile, ...]
    notes: tuple[str, ...] = field(default=())


def is_hidden(name: str) -> bool:
    """Whether a file or folder name is of the kind that systems put there for themselves."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def printable(name: str) -> str:
    """A file name that can be shown and stored: bytes that are no UTF-8 stand as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def parse(tree: Tree, where: str) -> Layout:
    """The class folders of a tree; `where` names it in errors. Raises UsageError when the layout is not known."""
    root, masks = _find_root(tree)
    folders = _below(tree.folders, root, masks)
    images = _below(tree.images, root, masks)
    if not images:
        raise UsageError(f"{where} holds no image. {_HOW}")
    tops = sorted({parts[0] for parts in folders.values()})
    named = {top: PARTS[top.lower()] for top in tops if top.lower() in PARTS}
    _require_known(tops, named, list(folders.values()), where)
    depth = 1 if named else 0
    classes = sorted({parts[depth] for parts in folders.values()
                      if len(parts) > depth and (not named or parts[0] in named)})
    label = {name: number for number, name in enumerate(classes)}
    entries = tuple(ImageFile(name, "/".join(parts), label[parts[depth]], named.get(parts[0]))
                    for name, parts in images.items()
                    if len(parts) > depth + 1 and (not named or parts[0] in named))
    return Layout(root, masks, tuple(map(printable, classes)), entries, _strays(len(images) - len(entries)))


_HOW = ("Known layouts: train/<class>/… and test/<class>/… (val is optional), or one folder per class; "
        "images are " + ", ".join(sorted(extension[1:] for extension in EXTENSIONS)) + ".")


def _find_root(tree: Tree) -> tuple[str, str | None]:
    """The prefix of the folder that holds the parts or classes, and that of the masks if they lie in the tree.

    A wrapping folder with nothing beside it but its masks is passed through.
    """
    root, masks = "", None
    while True:
        tops = {folder[len(root):].split("/")[0] for folder in tree.folders if folder.startswith(root)}
        drawn = [top for top in tops if top.endswith(MASKS)]
        sets = tops.difference(drawn)
        if len(drawn) == 1 and sets:
            masks = f"{root}{drawn[0]}/"
        if len(sets) != 1 or not _only_wraps(tree, root, inner := f"{root}{sets.pop()}/"):
            return root, masks
        root = inner


def _only_wraps(tree: Tree, root: str, inner: str) -> bool:
    """Whether `inner` adds nothing to `root`: no file beside it, none directly in it, and its name is no part's."""
    if inner[len(root):-1].lower() in PARTS:
        return False
    files = (*tree.images, *tree.sidecars)
    beside = any(name.startswith(root) and "/" not in name[len(root):] for name in files)
    direct = any(name.startswith(inner) and "/" not in name[len(inner):] for name in tree.images)
    return not beside and not direct and any(folder.startswith(inner) for folder in tree.folders)


def _below(names: Iterable[str], root: str, masks: str | None) -> dict[str, list[str]]:
    """The path below `root`, in pieces, of each name that lies there and not among the masks."""
    return {name: name[len(root):].split("/") for name in names
            if name.startswith(root) and not (masks and f"{name}/".startswith(masks))}


def _require_known(tops: Sequence[str], named: dict[str, str], folders: Iterable[Sequence[str]], where: str) -> None:
    if not tops:
        raise UsageError(f"{where} holds images but no class folders. {_HOW}")
    if {top.lower() for top in tops} in ({"images", "masks"}, {"images", "labels"}):
        raise UsageError(f"{where} holds {' and '.join(tops)}, which say nothing of classes. {_HOW}")
    twice = [name for name in set(named.values()) if list(named.values()).count(name) > 1]
    if twice:
        both = " and ".join(top for top in tops if named.get(top) == twice[0])
        raise UsageError(f"{where} has both {both}: join them into one folder {twice[0]}.")
    if named and "train" not in named.values():
        raise UsageError(f"{where} has {', '.join(named)} but no train folder. {_HOW}")
    nested = sorted({parts[0] for parts in folders if len(parts) == 2 and parts[1].lower() in PARTS})
    if not named and nested:
        some = ", ".join(map(printable, nested[:5]))
        raise UsageError(f"{where} holds whole data sets ({some}): choose one of them.")


def _strays(count: int) -> tuple[str, ...]:
    return (f"{count} images lie outside the class folders and were ignored.",) if count else ()
