"""Masks that lie among the images of a tree: told by their names, confirmed by what a few of them hold."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from kd.datasets import decode
from kd.datasets.image_folder import names

if TYPE_CHECKING:
    from kd.datasets.image_folder.layout import Tree

_ASKED = 5  # masks that are opened to see whether they are some
Pieces = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class InnerMasks:
    """Masks among the images: files that are masks, those of each image (by name in the tree), notes and warnings."""

    files: frozenset[str] = frozenset()
    of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def find_masks(images: Pieces, tree: "Tree") -> InnerMasks:
    """The masks among images: in folders called masks, or beside their image as `x_mask.png`. images: the pieces of
    each image's path below the set's root, by its name in the tree."""
    in_folders = {name for name, pieces in images.items() if any(map(names.is_mask_folder, pieces[:-1]))}
    beside = _beside({name: pieces for name, pieces in images.items() if name not in in_folders})
    files: set[str] = set()
    warnings: list[str] = []
    for found in (in_folders, set(beside)):
        if found and _hold_masks(sorted(found), tree):
            files |= found
        elif found:
            first = "/".join(images[min(found)])
            warnings.append(f"{len(found)} files are called masks but hold images (first {first}): they count as "
                            "images.")
    if not files:
        return InnerMasks(warnings=tuple(warnings))
    of = _paired({name: images[name] for name in files}, {name: images[name] for name in images if name not in files})
    used = {mask for masks in of.values() for mask in masks}
    if unused := len(files - used):
        warnings.append(f"{unused} masks of {len(files)} belong to no image: path and stem must be the same.")
    notes = (f"{len(files)} files are masks, not images: they show the evidence of {len(of)} images.",)
    return InnerMasks(frozenset(files), of, notes, tuple(warnings))


def _beside(images: Pieces) -> dict[str, str]:
    """The image of each file whose name is that of another in the same folder with `mask` added."""
    bases = {name: base for name, pieces in images.items() if (base := names.masked_stem(_stem(pieces)))}
    if not bases:
        return {}
    stems = {_key(pieces): name for name, pieces in images.items()}
    found = {}
    for name, base in bases.items():
        image = stems.get((*map(names.composed, images[name][:-1]), names.composed(base)))
        if image is not None and image != name:
            found[name] = image
    return {mask: image for mask, image in found.items() if image not in found}


def _paired(masks: Pieces, images: Pieces) -> dict[str, tuple[str, ...]]:
    """The masks of each image that has some: of the same path without the folders of masks and images, or, where that
    is nobody's, of a stem that only one image has."""
    by_path: dict[tuple[str, ...], list[str]] = defaultdict(list)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name, pieces in images.items():
        by_path[_place(pieces)].append(name)
        by_stem[_place(pieces)[-1]].append(name)
    found: dict[str, list[str]] = defaultdict(list)
    for mask in sorted(masks):
        *folders, stem = _place(masks[mask])
        bases = [stem] + ([names.composed(base)] if (base := names.masked_stem(stem)) else [])
        owners = next((owners for base in bases for owners in (by_path.get((*folders, base), []),
                                                               by_stem.get(base, [])) if len(owners) == 1), [])
        for owner in owners:
            found[owner].append(mask)
    return {name: tuple(masks) for name, masks in found.items()}


def _place(pieces: Sequence[str]) -> tuple[str, ...]:
    """The folders that say something, and the stem."""
    kept = [names.composed(piece) for piece in pieces[:-1]
            if not names.is_neutral(piece) and not names.is_mask_folder(piece)]
    return (*kept, names.composed(_stem(pieces)))


def _key(pieces: Sequence[str]) -> tuple[str, ...]:
    return (*map(names.composed, pieces[:-1]), names.composed(_stem(pieces)))


def _stem(pieces: Sequence[str]) -> str:
    return pieces[-1].rpartition(".")[0] or pieces[-1]


def _hold_masks(files: Sequence[str], tree: "Tree") -> bool:
    """Whether most of a few files hold masks; what cannot be opened says nothing, and then the names decide."""
    with tree.opened() as read:
        answers = []
        for name in files[:: max(1, len(files) // _ASKED)][:_ASKED]:
            try:
                answers.append(looks_like_mask(read(name)))
            except Exception:  # whatever broken bytes lead to
                continue
    return not answers or 2 * sum(answers) > len(answers)


def looks_like_mask(source: bytes | Path) -> bool:
    """Whether an image is of few grey values, or nearly all its pixels are black or as bright as its brightest."""
    decode.dimensions(source)  # raises for one that is too large to be opened
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
        image.draft("L", (256, 256))
        values = np.asarray(image if image.mode in ("L", "I", "F", "I;16", "1") else image.convert("RGB"))
    values = values.max(axis=2) if values.ndim == 3 else values
    if len(np.unique(values)) <= 32:
        return True
    top = max(float(values.max()), 1.0)
    return bool(((values < 0.12 * top) | (values > 0.88 * top)).mean() > 0.95)
