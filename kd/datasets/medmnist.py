"""MedMNIST files and others laid out like them: arrays of images in one .npz, read row by row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from kd.datasets import decode, npz_arrays, splits
from kd.datasets.base import DatasetInfo, Listed, ReadReport, Sample, Skipped, Source, require_trainable
from kd.datasets.hashing import combine, digest_file
from kd.datasets.image_folder.metadata import title_of
from kd.datasets.medmnist_facts import MULTI_LABEL, SETS, known_by_content, known_by_name
from kd.datasets.npz_layout import (
    CLASS_NAMES,
    PARTS,
    VOLUME,
    ImageForm,
    Labels,
    Members,
    form_of,
    labels_of,
    members_of,
    texts_of,
)
from kd.errors import UsageError
from kd.paths import Paths

__all__ = ["CLASS_NAMES", "PARTS", "known_set", "medmnist_digest", "open_medmnist"]


@dataclass(frozen=True)
class _Image:
    """One image to read: its name, the row it lies in, the slice of the row's volume, and what it is."""

    name: str
    row: int
    slice: int
    label: int
    part: str
    group: str | None


def open_medmnist(path: Path, paths: Paths) -> Source:
    """The source of an .npz: `<part>_images` [N, H, W] or [N, H, W, 3], or volumes [N, D, H, W], and `<part>_labels`.

    A published MedMNIST set is known by its numbers of images, whatever the file is called; a cut of one by its name. A
    missing val or test is cut from train. There may be `class_names` [K] and, in `<part>_groups` [N], whose image each
    is. Raises UsageError for anything else, also for several labels an image.
    """
    with npz_arrays.opened(path) as archive:
        members = members_of(archive, path.name)
        known, how = known_set(path)
        _require_single_label(known, path.name)
        labels = labels_of(archive, members, path.name)
        named, groups = texts_of(archive, labels, path.name)
        form = _form(archive, members, labels, path.name)
    classes, numbers, known = _classes(known, how, named, labels, path.name)
    names = [f"{part}/{row:06d}" for part, size in labels.sizes.items() for row in range(size)]
    given = [part for part, size in labels.sizes.items() for _ in range(size)]
    groups = names if groups is None and form.kind == VOLUME else groups
    parts, notes = splits.complete(names, numbers, given, groups)
    plan = _plan(names, numbers, parts, groups, labels, form)
    counts = {part: [0] * len(classes) for part in PARTS}
    for image in (one for rows in plan.values() for one in rows):
        counts[image.part][image.label] += 1
    splits.require_patients(path.name, groups, counts)
    require_trainable(path.name, classes, counts)
    digest = partial(medmnist_digest, path, paths)
    info = DatasetInfo(title_of(path.stem), flip=SETS[known].flip if known else True)
    said = (f"Read as {known}, which it is by {how}.",) if known else ()
    return Source(path.stem, str(path), info, classes, digest(), sum(map(len, plan.values())), False,
                  groups is not None, lambda size, _: _samples(path, members, plan, form, size), digest,
                  ReadReport((), (*said, *labels.notes, *form.notes, *notes), splits.straddling(groups, parts)),
                  partial(_originals, path, members, plan, form), lambda: form.side,
                  listing=lambda: [Listed(image.name, classes[image.label], part, image.group)
                                   for part, images in plan.items() for image in images])


def medmnist_digest(path: Path, paths: Paths) -> str:
    """Digest of the file's bytes and of the set it is known as, which decides the classes' names."""
    known, _ = known_set(path)
    return combine({"set": digest_file(path, paths.cache / "digests"),
                    "name": known or path.stem.lower().split("_")[0]})


def known_set(path: Path) -> tuple[str, str]:
    """The MedMNIST set that a file holds and by what it is known, its content or its name; '' and '' for another."""
    with npz_arrays.opened(path) as archive:
        members, sizes = members_of(archive, path.name), {}
        for part, own in members.items():
            with npz_arrays.member_of(archive, f"{own.images}.npy", path.name) as file:
                sizes[part] = npz_arrays.head(file, own.images, path.name).shape[:1]
    if found := known_by_content({part: size[0] for part, size in sizes.items() if size}):
        return found, "its numbers of images"
    return (found, "its name") if (found := known_by_name(path.stem)) else ("", "")


def _require_single_label(known: str, where: str) -> None:
    if known and SETS[known].task == MULTI_LABEL:
        one = SETS[known]
        some = ", ".join(one.classes[:3])
        raise UsageError(f"{where} is {known}, with {len(one.classes)} labels for each image ({some} …), of which any "
                         "number may hold; only sets with one class per image can be learned here.")


def _classes(known: str, how: str, named: tuple[str, ...], labels: Labels,
             where: str) -> tuple[tuple[str, ...], list[int], str]:
    """Class names, the labels of all images as indices into them, and the known set if its names fit."""
    values = np.concatenate(list(labels.values.values()))
    if labels.are_names:
        classes, numbers = np.unique(values, return_inverse=True)
        return tuple(map(str, classes)), numbers.tolist(), ""
    present = np.unique(values)
    low, high = (int(present[0]), int(present[-1])) if present.size else (0, 0)
    if named:
        if not 0 <= low <= high < len(named):
            raise UsageError(f"{where} has the labels {low} to {high}, but names the classes 0 to {len(named) - 1} in "
                             f"{CLASS_NAMES}.")
        return named, values.tolist(), known
    if known and 0 <= low <= high < len(SETS[known].classes):  # a cut of a set may lack a class
        held = tuple(SETS[known].classes[number] for number in present)
        return held, np.searchsorted(present, values).tolist(), known
    if known and Path(where).stem.lower().split("_")[0] == known:
        raise UsageError(f"{where} has the labels {low} to {high}, but {known} has the classes 0 to "
                         f"{len(SETS[known].classes) - 1}: rename the file if it is another set.")
    return tuple(f"class {number}" for number in present), np.searchsorted(present, values).tolist(), ""


def _form(archive: ZipFile, members: Mapping[str, Members], labels: Labels, where: str) -> ImageForm:
    """The form of the images; looks at the heads of the arrays only."""
    forms = {}
    for part, own in members.items():
        with npz_arrays.member_of(archive, f"{own.images}.npy", where) as file:
            head = npz_arrays.head(file, own.images, where)
        forms[part] = form_of(head.shape[1:], own.images, where)
        if head.shape[0] != labels.sizes[part]:
            raise UsageError(f"{where} has {head.shape[0]} {own.images} but {labels.sizes[part]} {own.labels}.")
    kinds = {form.kind for form in forms.values()}
    if len(kinds) > 1:
        raise UsageError(f"{where}: images of one part are {' and of another '.join(sorted(kinds))}.")
    return forms["train"]


def _plan(names: Sequence[str], numbers: Sequence[int], parts: Sequence[str], groups: Sequence[str] | None,
          labels: Labels, form: ImageForm) -> dict[str, list[_Image]]:
    """The images of each array in the file's order; several for each volume."""
    plan: dict[str, list[_Image]] = {part: [] for part in labels.values}
    given = [(part, row) for part, size in labels.sizes.items() for row in range(size)]
    for index, (part, row) in enumerate(given):
        for number in form.slices if form.kind == VOLUME else (0,):
            name = f"{names[index]}/{number:03d}" if form.kind == VOLUME else names[index]
            group = None if groups is None else groups[index]
            plan[part].append(_Image(name, row, number, numbers[index], parts[index], group))
    return plan


def _samples(path: Path, members: Mapping[str, Members], plan: Mapping[str, list[_Image]], form: ImageForm,
             size: int) -> Iterator[Sample | Skipped]:
    with npz_arrays.opened(path) as archive:
        for part, own in members.items():
            images = iter(plan[part])
            per_row = len(form.slices) if form.kind == VOLUME else 1
            for values in npz_arrays.rows(archive, f"{own.images}.npy", path.name):
                for image in (next(images) for _ in range(per_row)):
                    yield _sample(image, values, form, size)


def _sample(image: _Image, values: NDArray[np.generic], form: ImageForm, size: int) -> Sample | Skipped:
    try:
        fitted = decode.fit_array(form.image(values, image.slice), size)
    except decode.UnreadableImage as bad:
        return Skipped(image.name, str(bad))
    return Sample(image.name, image.label, image.part, fitted.pixels, group=image.group, traits=fitted.traits)


def _originals(path: Path, members: Mapping[str, Members], plan: Mapping[str, list[_Image]], form: ImageForm,
               names: Sequence[str], most: int) -> list[NDArray[np.uint8] | None]:
    """See `kd.datasets.base.Originals`: in the order of the file, since a compressed one is read from its start."""
    found: dict[str, NDArray[np.uint8] | None] = {}
    wanted = set(names)
    with npz_arrays.opened(path) as archive:
        for part, own in members.items():
            images = [image for image in plan[part] if image.name in wanted]
            rows = sorted({image.row for image in images})
            read = dict(zip(rows, npz_arrays.chosen_rows(archive, f"{own.images}.npy", path.name, rows), strict=True))
            found |= {image.name: _original(form.image(read[image.row], image.slice), most) for image in images}
    return [found.get(name) for name in names]


def _original(values: NDArray[np.generic], most: int) -> NDArray[np.uint8] | None:
    try:
        return decode.fit_array(values, min(most, max(values.shape[:2]))).pixels
    except decode.UnreadableImage:
        return None
