"""Class folders, wherever they lie, as a source: parts, patients, masks, and one image after another."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.datasets import decode, splits
from kd.datasets.base import KnownSamples, Listed, ReadReport, Sample, SampleFiles, Skipped, Source, require_trainable
from kd.datasets.hashing import combine, is_unreadable
from kd.datasets.image_folder import layout
from kd.datasets.image_folder.layout import ImageFile, Tree
from kd.datasets.image_folder.metadata import parse_groups, parse_info
from kd.datasets.image_folder.names import composed
from kd.errors import UsageError

_MOST_WORKERS = 16  # bounds memory and open files on large machines
_ASKED = 9  # images whose heads tell how large the set's images are
_AHEAD = 64  # images decoded ahead of the writer: what memory holds, whatever the set's length
Reader = Callable[[str], bytes | Path]


@dataclass(frozen=True)
class PlannedImage:
    """An image with its split, patient and masks, not decoded yet. content: digest of its files, see `Sample`."""

    entry: ImageFile
    part: str
    group: str | None
    masks: tuple[str, ...]
    content: str = ""


def class_folders(name: str, reference: str, tree: Tree, mask_tree: Tree | None, fingerprint: str,
                  digest: Callable[[], str]) -> Source:
    """The source of a tree of class folders, with the tree of its masks where they do not lie inside it.

    fingerprint: of the files listed in the trees. digest: computes it anew. Raises UsageError.
    """
    found = layout.parse(tree, name)
    sidecar = _sidecars(tree, found.root)
    paths = [entry.path for entry in found.entries]
    labels = [entry.label for entry in found.entries]
    content, inside = sidecar.get("groups.csv", (None, ""))
    groups, group_warnings = parse_groups(content, paths, name, inside)
    if groups is None and any(entry.group for entry in found.entries):
        groups = [entry.group for entry in found.entries]
    parts, notes = splits.complete(paths, labels, [entry.part for entry in found.entries], groups)
    counts = {part: [0] * len(found.classes) for part in ("train", "val", "test")}
    for entry, part in zip(found.entries, parts, strict=True):
        counts[part][entry.label] += 1
    splits.require_patients(name, groups, counts)
    require_trainable(name, found.classes, counts)
    masks, prefix = (tree, found.masks) if found.masks else (mask_tree, None)
    matched = _match(masks, prefix, found.entries) if masks else {}
    drawn: dict[str, tuple[str, ...]] = {one: (mask,) for one, mask in matched.items()}
    unmatched = _unmatched(masks, prefix, matched)
    if not matched and found.inner.of:
        masks, drawn, unmatched = tree, {**found.inner.of}, ()
    plan = sorted((PlannedImage(entry, part, group, own := drawn.get(entry.name, ()), _content(entry, own, tree, masks))
                   for entry, part, group in zip(found.entries, parts, groups or [None] * len(paths), strict=True)),
                  key=lambda item: (item.part, item.entry.label, item.entry.path))
    warnings = (*found.warnings, *group_warnings, *splits.straddling(groups, parts), *unmatched)
    report = ReadReport(tuple((bad.name, bad.reason) for bad in tree.refused),
                        (*_ignored(tree), *found.notes, *notes), warnings)
    info = parse_info(sidecar.get("dataset.json", (None, ""))[0], name)
    return Source(name, reference, info, found.classes, fingerprint, len(plan), bool(drawn), groups is not None,
                  lambda size, known: _samples(plan, tree, masks, size, known), digest, report,
                  partial(_originals, tree, {layout.printable(item.entry.path): item.entry.name for item in plan}),
                  partial(_side, tree, [item.entry.name for item in plan]), partial(_files, plan, tree, masks),
                  partial(_listing, plan, found.classes))


def _listing(plan: Sequence[PlannedImage], classes: Sequence[str]) -> list[Listed]:
    """Every image, with the part that its folder or table gives."""
    return [Listed(layout.printable(item.entry.path), classes[item.entry.label], item.entry.part, item.group)
            for item in plan]


def unlabelled_images(name: str, reference: str, tree: Tree, fingerprint: str, digest: Callable[[], str]) -> Source:
    """The source of all images of a tree, at any depth, without regard to classes; folders of masks are left out.

    They are all of one class, in the training part. fingerprint, digest: as for `class_folders`. Raises UsageError
    where there is no image.
    """
    paths = [path for path in tree.images if not any(part.endswith(layout.MASKS) for part in path.split("/")[:-1])]
    if not paths:
        raise UsageError(f"{name} holds no image. Give a folder of images, or a zip of one; they may lie in folders "
                         "within it.")
    groups, warnings = parse_groups(_sidecars(tree, "").get("groups.csv", (None, ""))[0], paths, name)
    entries = [ImageFile(path, path, 0, "train") for path in paths]
    plan = [PlannedImage(entry, "train", group, (), _content(entry, (), tree, None))
            for entry, group in zip(entries, groups or [None] * len(paths), strict=True)]
    report = ReadReport(tuple((bad.name, bad.reason) for bad in tree.refused), _ignored(tree), warnings)
    return Source(name, reference, parse_info(None, name), ("unlabelled",), fingerprint, len(plan), False,
                  groups is not None, lambda size, known: _samples(plan, tree, None, size, known), digest, report)


def unlabelled_reference(path: Path) -> str:
    """What unlabelled images are cached under: not what the same folder is as a set with classes."""
    return f"{path} without labels"


def unlabelled_digest(digest: str) -> str:
    """Fingerprint of unlabelled images, of the digest of their folder."""
    return combine({"unlabelled": digest})


def _sidecars(tree: Tree, root: str) -> dict[str, tuple[bytes, str]]:
    """Content of the sidecar files in the set's root or in a folder around it, by name, with the root's path from
    there."""
    found = {}
    around = ["/".join(root.split("/")[:count]) for count in range(root.count("/"), -1, -1)]
    prefixes = [f"{above}/" if above else "" for above in around]
    with tree.opened() as read:
        for name in layout.SIDECARS:
            near = [prefix for prefix in prefixes if prefix + name in tree.sidecars]
            if near:
                content = read(near[0] + name)
                found[name] = content.read_bytes() if isinstance(content, Path) else content, root[len(near[0]):]
    return found


def _match(masks: Tree, prefix: str | None, entries: Sequence[ImageFile]) -> dict[str, str]:
    """The mask of each image that has one: the same path below the root and stem, whatever its extension."""
    prefixes = [prefix] if prefix is not None else ["", *sorted({f"{folder}/" for folder in masks.folders
                                                                 if "/" not in folder})]
    best: dict[str, str] = {}
    for start in prefixes:
        stems = {_stem(mask[len(start):]): mask for mask in reversed(masks.images) if mask.startswith(start)}
        found = {entry.name: stems[_stem(entry.path)] for entry in entries if _stem(entry.path) in stems}
        best = max(best, found, key=len)
    return best


def _stem(path: str) -> str:
    return composed(path.rpartition(".")[0])


def _ignored(tree: Tree) -> tuple[str, ...]:
    return (f"{tree.ignored} hidden files and files that are no images were ignored.",) if tree.ignored else ()


def _unmatched(masks: Tree | None, prefix: str | None, matched: dict[str, str]) -> tuple[str, ...]:
    """The warning on masks that have no image."""
    files = [name for name in masks.images if name.startswith(prefix or "")] if masks else []
    unused = len(files) - len(set(matched.values()))
    text = f"{unused} masks of {len(files)} belong to no image: path and stem must be the same."
    return (text,) if unused > 0 else ()


def _content(entry: ImageFile, own: Sequence[str], tree: Tree, masks: Tree | None) -> str:
    """Digest of an image's file and of its masks'; empty where they were not hashed by themselves or are unreadable."""
    digests = [tree.digests.get(entry.name, "")]
    digests += [masks.digests.get(mask, "") for mask in own] if masks is not None else []
    return "+".join(digests) if all(digests) and not any(map(is_unreadable, digests)) else ""


def workers() -> int:
    """Threads to decode with: decoding leaves the interpreter's lock, so each keeps a core busy that may be used."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, _MOST_WORKERS))


def _samples(plan: Sequence[PlannedImage], tree: Tree, masks: Tree | None, size: int,
             known: KnownSamples) -> Iterator[Sample | Skipped]:
    """Every image in order, a bounded number decoded ahead."""
    inside = masks.opened() if masks is not None and masks is not tree else nullcontext(None)
    with tree.opened() as read, inside as other, ThreadPoolExecutor(workers()) as pool:
        items = iter(plan)
        load = partial(_load, read=read, read_mask=other or read, size=size, known=known)
        ahead = deque(pool.submit(load, item) for item in islice(items, _AHEAD))
        try:
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(load, item) for item in islice(items, 1))
        finally:
            for future in ahead:
                future.cancel()


def _originals(tree: Tree, files: Mapping[str, str], names: Sequence[str],
               most: int) -> list[NDArray[np.uint8] | None]:
    """See `kd.datasets.base.Originals`. files: names in the tree by sample name."""
    with tree.opened() as read:
        return [_original(files.get(name), read, most) for name in names]


def _original(file: str | None, read: Reader, most: int) -> NDArray[np.uint8] | None:
    try:
        return None if file is None else decode.read_original(read(file), most)
    except decode.UnreadableImage:
        return None


def _files(plan: Sequence[PlannedImage], tree: Tree, masks: Tree | None,
           names: Sequence[str]) -> Iterator[SampleFiles | None]:
    """See `kd.datasets.base.FileReader`."""
    planned = {layout.printable(item.entry.path): item for item in plan}
    inside = masks.opened() if masks is not None and masks is not tree else nullcontext(None)
    with tree.opened() as read, inside as other:
        for name in names:
            item = planned.get(name)
            image = None if item is None else _bytes(item.entry.name, read)
            if item is None or image is None:
                yield None
            else:
                mask, ending = _mask_file(item.masks, other or read)
                yield SampleFiles(image, _ending(item.entry.name), mask, ending)


def _mask_file(names: Sequence[str], read: Reader) -> tuple[bytes | None, str]:
    """The file of an image's mask and its ending; several are joined in one."""
    contents = [found for name in names if (found := _bytes(name, read))]
    if len(contents) < 2:
        return (contents[0], _ending(names[0])) if contents else (None, "")
    try:
        return decode.joined_masks(contents), ".png"
    except decode.UnreadableImage:
        return contents[0], _ending(names[0])


def _bytes(name: str, read: Reader) -> bytes | None:
    try:
        found = read(name)
        return found.read_bytes() if isinstance(found, Path) else found
    except (decode.UnreadableImage, OSError):
        return None


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _side(tree: Tree, files: Sequence[str]) -> int:
    """Median longer side of a few images, spread over the set; 0 where none of them can be read."""
    found = []
    with tree.opened() as read:
        for file in files[:: max(1, len(files) // _ASKED)][:_ASKED]:
            with suppress(decode.UnreadableImage):
                found.append(max(decode.dimensions(read(file))))
    return sorted(found)[len(found) // 2] if found else 0


def _load(item: PlannedImage, read: Reader, read_mask: Reader, size: int, known: KnownSamples) -> Sample | Skipped:
    name = layout.printable(item.entry.path)
    if item.content and (before := known(item.content)):
        return replace(before, name=name, label=item.entry.label, split=item.part, group=item.group)
    mask, problem = None, ""
    try:
        image = decode.read(read(item.entry.name), size)
    except decode.UnreadableImage as bad:
        return Skipped(name, str(bad))
    for one in item.masks:
        try:
            drawn = decode.read_mask(read_mask(one), image)
        except decode.UnreadableImage as bad:
            problem = str(bad)
        else:
            mask = drawn if mask is None else np.maximum(mask, drawn)
    return Sample(name, item.entry.label, item.part, image.pixels, mask, item.group, image.traits, problem,
                  item.content)
