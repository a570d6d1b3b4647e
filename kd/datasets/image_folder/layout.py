"""What the names of files say: which are images, of which class, in which part, of which patient."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from kd.datasets.base import Skipped
from kd.datasets.decode import EXTENSIONS
from kd.datasets.image_folder import names
from kd.datasets.image_folder.inner_masks import InnerMasks, find_masks
from kd.datasets.image_folder.names import is_hidden, is_image, printable
from kd.datasets.image_folder.patients import patients_of
from kd.datasets.image_folder.repeats import WhichFolder, require_one_edition
from kd.datasets.image_folder.tables import TableLayout, read_label_table
from kd.errors import UsageError

__all__ = ["MASKS", "SIDECARS", "ImageFile", "Layout", "Tree", "WhichFolder", "is_hidden", "is_image", "label_table",
           "parse", "printable", "reading"]

SIDECARS = ("groups.csv", "dataset.json")
OWN = (*SIDECARS, "history.json")  # which the program writes into a set itself
MASKS = "_masks"
Pieces = dict[str, list[str]]


@dataclass(frozen=True)
class Tree:
    """Files below a root, on disk or in a zip, by relative name with forward slashes.

    images, sidecars: files, sorted. folders: every folder, also an empty one. ignored: how many files are hidden or
    no images. refused: files that must not be opened. opened: gives the reader of an image, sidecar or table, which
    raises decode.UnreadableImage. digests: of files' bytes, by name, where each file was hashed by itself. tables:
    files that may be tables of labels. endings: how many files that are not read have which ending.
    """

    images: tuple[str, ...]
    folders: tuple[str, ...]
    sidecars: tuple[str, ...]
    ignored: int
    refused: tuple[Skipped, ...]
    opened: Callable[[], AbstractContextManager[Callable[[str], bytes | Path]]]
    digests: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    endings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageFile:
    """One image: its name in the tree, its path below the set's root, its class, its part where one is given, and its
    patient where a folder or table names one."""

    name: str
    path: str
    label: int
    part: str | None
    group: str | None = None


@dataclass(frozen=True)
class Layout:
    """Class folders as found: `root` and `masks` are prefixes in the tree ('' or ending in '/'; masks may be None).

    inner: masks that lie among the images.
    """

    root: str
    masks: str | None
    classes: tuple[str, ...]
    entries: tuple[ImageFile, ...]
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())
    inner: InnerMasks = field(default_factory=InnerMasks)


def parse(tree: Tree, where: str) -> Layout:
    """The class folders of a tree; `where` names it in errors. Raises UsageError when the layout is not known, and
    WhichFolder when the same classes lie in several folders."""
    seen = _survey(tree)
    if not seen.images:
        raise UsageError(f"{where} holds no image{_instead(tree)}. {_HOW}")
    if seen.table and not seen.table.beside:
        return _from_table(seen, seen.table)
    found = _from_folders(where, seen)
    beside = seen.table.notes if seen.table else ()
    return Layout(seen.root, seen.masks, found.classes, found.entries, (*seen.inner.notes, *found.notes, *beside),
                  (*seen.inner.warnings, *found.warnings), seen.inner)


def label_table(tree: Tree) -> str | None:
    """The table of labels that decides the classes of a tree, by its name in the tree; None where folders do."""
    table = _survey(tree).table if tree.tables else None
    return table.name if table and not table.beside else None


def reading(tree: Tree) -> str:
    """What of a tree's names is read otherwise than its plain class folders say; empty where nothing is.

    It is part of the fingerprint, since another reading of the same files is another data set.
    """
    try:
        seen, found = _survey(tree), parse(tree, "")
    except UsageError:
        return ""
    told = {"masks": bool(seen.inner.files), "table": bool(seen.table and not seen.table.beside),
            "patients": any(entry.group for entry in found.entries),
            "parts": any(entry.part and entry.path.split("/")[0].lower() not in _PLAIN_PARTS
                         for entry in found.entries),
            "accents": any(names.composed(name) != name for name in seen.tops)}
    return "+".join(name for name, seen_so in told.items() if seen_so)


_PLAIN_PARTS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation"))


@dataclass(frozen=True)
class _Survey:
    """What lies in a tree: images and folders below its root without the masks, the folders at the top, and a table of
    labels that names the images."""

    root: str
    masks: str | None
    inner: InnerMasks
    images: Pieces
    folders: Pieces
    tops: list[str]
    table: TableLayout | None


def _survey(tree: Tree) -> _Survey:
    root, masks = _find_root(tree)
    images = _below(tree.images, root, masks)
    inner = find_masks(images, tree)
    images = {name: pieces for name, pieces in images.items() if name not in inner.files}
    folders = _without_masks(_below(tree.folders, root, masks), inner)
    tops = sorted({pieces[0] for pieces in folders.values()})
    table = read_label_table(tree, root, images, names.parts_of(tops)) if images else None
    return _Survey(root, masks, inner, images, folders, tops, table)


def _without_masks(folders: Pieces, inner: InnerMasks) -> Pieces:
    """Folders that hold more than masks."""
    if not inner.files:
        return folders
    return {name: pieces for name, pieces in folders.items() if not any(map(names.is_mask_folder, pieces))}


def _from_table(seen: _Survey, table: TableLayout) -> Layout:
    classes = sorted({row.label for row in table.rows.values()})
    numbers = {name: number for number, name in enumerate(classes)}
    entries = tuple(ImageFile(name, "/".join(pieces), numbers[row.label], row.part, row.patient)
                    for name, pieces in seen.images.items() if (row := table.rows.get("/".join(pieces))))
    left = len(seen.images) - len(entries)
    warnings = (f"{left} images are not in {table.name} and were left out.",) if left else ()
    return Layout(seen.root, seen.masks, tuple(map(printable, classes)), entries, (*seen.inner.notes, *table.notes),
                  (*seen.inner.warnings, *table.warnings, *warnings), seen.inner)


@dataclass(frozen=True)
class _Found:
    classes: tuple[str, ...]
    entries: tuple[ImageFile, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def _from_folders(where: str, seen: _Survey) -> _Found:
    """Classes, parts and patients of class folders."""
    tops, folders, images = seen.tops, seen.folders, dict(seen.images)
    named = names.parts_of(tops)
    _require_known(tops, named, list(folders.values()), where)
    folds = _folds(tops)
    parts = {**named, **folds}
    warnings = require_one_edition(where, tops, parts, images)
    unknown = _unlabelled(parts, images)
    for name in unknown:
        del images[name]
    warnings += _unscored(parts, images, len(unknown))
    depth = 1 if parts else 0
    kept = {name: pieces for name, pieces in images.items()
            if len(pieces) > depth + 1 and (not parts or pieces[0] in parts)}
    classes = sorted({names.composed(pieces[depth]) for pieces in folders.values()
                      if len(pieces) > depth and (not parts or pieces[0] in parts)
                      and not (unknown and _holds_only(pieces, unknown, folders))})
    label = {name: number for number, name in enumerate(classes)}
    patients, patient_notes, patient_warnings = patients_of(
        {name: (pieces[depth], pieces[depth + 1:-1]) for name, pieces in kept.items()})
    entries = tuple(ImageFile(name, "/".join(pieces), label[names.composed(pieces[depth])], parts.get(pieces[0]),
                              patients.get(name)) for name, pieces in kept.items())
    fold_notes = tuple(f"The folders are folds: {top} tests, the others train." for top, part in folds.items()
                       if part == "test")
    return _Found(tuple(map(printable, classes)), entries,
                  (*fold_notes, *patient_notes, *_strays(len(images) - len(entries))), (*warnings, *patient_warnings))


_HOW = ("Known layouts: train/<class>/… and test/<class>/… (val is optional), or one folder per class; "
        "images are " + ", ".join(sorted(extension[1:] for extension in EXTENSIONS)) + ".")
_IMPORTED = {".dcm", ".dicom", ".ima", ".nii", ".gz", ".hdr", ".mha", ".nrrd"}
_PACKED = {".zip", ".tar", ".tgz", ".7z", ".rar"}


def _instead(tree: Tree) -> str:
    """What a tree without images holds, and the way out."""
    if not tree.endings:
        return ""
    most = sorted(tree.endings.items(), key=lambda item: -item[1])[:3]
    text = ", but " + " and ".join(f"{count} files {ending}" for ending, count in most)
    if any(ending in _IMPORTED for ending, _ in most):
        return f"{text}: bring DICOM and NIfTI in with `kd import` or Import on the data page"
    if any(ending in _PACKED for ending, _ in most):
        return f"{text}: unpack them first, or give one of them"
    return f"{text}: give one of the .npz files" if any(ending == ".npz" for ending, _ in most) else text


def _find_root(tree: Tree) -> tuple[str, str | None]:
    """The prefix of the folder that holds the parts or classes, and that of the masks if they lie in the tree.

    A wrapping folder with nothing beside it but its masks, sidecar files and a few stray images is passed through.
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
    """Whether `inner` adds nothing to `root`: few images beside it or directly in it, several folders with images
    below it where there are any, and its name is no part's."""
    if names.part_of(inner[len(root):-1]):
        return False
    beside = sum(name.startswith(root) and "/" not in name[len(root):] for name in tree.images)
    inside = [name[len(inner):] for name in tree.images if name.startswith(inner)]
    direct = sum("/" not in name for name in inside)
    if not any(folder.startswith(inner) for folder in tree.folders):
        return False
    if not beside and not direct:
        return True
    holding = {name.split("/")[0] for name in inside if "/" in name}
    return len(holding) > 1 and 10 * (beside + direct) <= len(inside)


def _below(paths: Iterable[str], root: str, masks: str | None) -> Pieces:
    """The path below `root`, in pieces, of each name that lies there and not among the masks."""
    return {name: name[len(root):].split("/") for name in paths
            if name.startswith(root) and not (masks and f"{name}/".startswith(masks))}


def _require_known(tops: Sequence[str], named: dict[str, str], folders: Iterable[Sequence[str]], where: str) -> None:
    if not tops:
        raise UsageError(f"{where} holds images but no class folders. {_HOW}")
    if {top.lower() for top in tops} in ({"images"}, {"images", "masks"}, {"images", "labels"}):
        raise UsageError(f"{where} holds {' and '.join(tops)}, which say nothing of classes, and no table of labels "
                         f"that names the images. {_HOW}")
    twice = [name for name in set(named.values()) if list(named.values()).count(name) > 1]
    if twice:
        both = " and ".join(top for top in tops if named.get(top) == twice[0])
        raise UsageError(f"{where} has both {both}: join them into one folder {twice[0]}.")
    if named and "train" not in named.values():
        raise UsageError(f"{where} has {', '.join(named)} but no train folder. {_HOW}")
    nested = sorted({parts[0] for parts in folders if len(parts) == 2 and names.part_of(parts[1])})
    if not named and nested:
        some = ", ".join(map(printable, nested[:5]))
        raise WhichFolder(f"{where} holds whole data sets ({some}): choose one of them.", tuple(nested))


def _folds(tops: Sequence[str]) -> dict[str, str]:
    """The part of each folder where all are numbered folds: the last tests, the others train."""
    numbers = {top: number for top in tops if (number := names.fold_of(top)) is not None}
    if len(numbers) < 2 or len(numbers) < len(tops):
        return {}
    last = max(numbers, key=lambda top: numbers[top])
    return {top: "test" if top == last else "train" for top in tops}


def _unlabelled(parts: dict[str, str], images: Pieces) -> set[str]:
    """Images of a part other than train whose only folder is no class of train, as `test/unknown`."""
    held: dict[str, set[str]] = defaultdict(set)
    for pieces in images.values():
        if len(pieces) > 2 and pieces[0] in parts:
            held[parts[pieces[0]]].add(names.composed(pieces[1]))
    alone = {part for part, classes in held.items() if part != "train" and len(classes) == 1
             and len(held["train"]) > 1 and not classes & held["train"]}
    return {name for name, pieces in images.items() if len(pieces) > 2 and parts.get(pieces[0]) in alone}


def _holds_only(pieces: Sequence[str], unknown: set[str], folders: Pieces) -> bool:
    prefixes = {name for name, held in folders.items() if list(held) == list(pieces[:2])}
    return any(one.startswith(f"{prefix}/") for prefix in prefixes for one in unknown)


def _unscored(parts: dict[str, str], images: Pieces, unknown: int) -> list[str]:
    """Warnings on parts whose images lie in no class folder."""
    loose = Counter(pieces[0] for pieces in images.values() if len(pieces) == 2 and pieces[0] in parts)
    classed = {pieces[0] for pieces in images.values() if len(pieces) > 2}
    found = [f"{printable(top)} holds {count} images but no class folders, so they cannot be used."
             for top, count in loose.items() if top not in classed]
    if unknown:
        found.append(f"{unknown} images lie in a folder that is no class of training and were left out as unlabelled.")
    return found


def _strays(count: int) -> tuple[str, ...]:
    return (f"{count} images lie outside the class folders and were ignored.",) if count else ()
