"""Repairs of a data set: split anew, copies and listed images left out, classes merged or renamed.

The result is a new named set below the data folder with its history; the old set stays as it is.
"""

import io
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from kd import datasets
from kd.audit import report
from kd.audit.audit import audit, audit_size
from kd.datasets import Dataset, splits
from kd.datasets.base import Listed, SampleFiles
from kd.datasets.image_folder.patients import patients_in_names
from kd.datasets.limits import LIMITS
from kd.datasets.named_sets import NamedSetWriter, history_of, require_free_name, step, targets
from kd.errors import Stopped, UsageError, unknown
from kd.paths import Paths
from kd.progress import ProgressCallback, no_progress

PATIENTS, COPIES = SPLITS = ("patients", "copies")
# Of a cluster of copies the image in the test stays, so that the test does not change.
_KEPT_FIRST = ("test", "val", "train")
_AT_ONCE = 16


@dataclass(frozen=True)
class Repair:
    """What is to be done, in this order. exclude: names of images to leave out. drop_copies: whether to keep one image
    of each cluster of copies, and none where their labels differ. classes: new names by old ones; two that get one name
    are merged. split: patients or copies, to split anew so that none is in two parts; empty keeps the parts. test, val:
    their shares then. Raises UsageError.
    """

    exclude: tuple[str, ...] = ()
    drop_copies: bool = False
    classes: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    test: float = splits.SHARES["test"]
    val: float = splits.SHARES["val"]

    def __post_init__(self) -> None:
        if self.split and self.split not in SPLITS:
            raise unknown("way to split", self.split, SPLITS)
        if not (self.exclude or self.drop_copies or self.classes or self.split):
            raise UsageError("There is nothing to repair: choose to split anew, to drop copies, to exclude images, or "
                             "to rename classes.")
        if not (self.test > 0 and self.val > 0 and self.test + self.val < 1):
            raise UsageError(f"The shares of test ({self.test:g}) and val ({self.val:g}) must be above 0 and leave "
                             "some for training.")


@dataclass(frozen=True)
class Repaired:
    """Images of the new set and, in the same order, their names in the old one; and what was done, in sentences."""

    images: tuple[Listed, ...]
    done: tuple[str, ...]


def repair(reference: str, name: str, wanted: Repair, paths: Paths, progress: ProgressCallback = no_progress,
           should_stop: Callable[[], bool] = lambda: False) -> tuple[Path, Repaired]:
    """The folder of the repaired set, and what was done. Audits the set first, where that is needed and was not done.

    Stopped, it leaves nothing. Raises UsageError and Stopped.
    """
    require_free_name(name, paths)
    if datasets.is_drawn(datasets.resolve(reference, paths)):
        raise UsageError("A drawn set has nothing to repair: change its options, such as count or shortcut.")
    seen = datasets.inspect(reference, paths)
    data = datasets.open_dataset(reference, audit_size(seen), paths, progress)
    clusters: Sequence[Sequence[str]] = ()
    if wanted.drop_copies or wanted.split:
        found = report.load(data.fingerprint, paths) or audit(reference, paths, progress, should_stop)
        clusters = found.clusters
    planned = plan(data, wanted, clusters)
    return _written(data, name, planned, paths, progress, should_stop), planned


def plan(data: Dataset, wanted: Repair, clusters: Sequence[Sequence[str]]) -> Repaired:
    """What the repaired set holds. clusters: names of images that are copies of one another. Raises UsageError."""
    images = [Listed(name, data.classes[label], part, None if split.groups is None else split.groups[row])
              for part, split in data.splits.items()
              for row, (name, label) in enumerate(zip(split.names, split.labels.tolist(), strict=True))]
    done: list[str] = []
    images = _excluded(images, wanted.exclude, done)
    if wanted.drop_copies:
        images = _without_copies(images, clusters, done)
    images = _renamed(images, wanted.classes, data.classes, done)
    if wanted.split:
        images = _split(images, wanted, clusters, done)
    if len({image.label for image in images}) < 2:
        raise UsageError(f"Only {len({image.label for image in images})} class would be left. Keep at least two.")
    return Repaired(tuple(images), tuple(done))


def _excluded(images: list[Listed], names: Sequence[str], done: list[str]) -> list[Listed]:
    """Without those named by their path in the set, or by their bare name where only one image has it."""
    if not names:
        return images
    bare: dict[str, list[str]] = defaultdict(list)
    for image in images:
        bare[PurePosixPath(image.name).name].append(image.name)
    known, out = {image.name for image in images}, set()
    for name in names:
        near = [name] if name in known else bare.get(name, [])
        if len(near) != 1:
            raise unknown("image", name, sorted(known)) if not near else UsageError(
                f"{len(near)} images are called {name!r}: write the path, as {near[0]!r}.")
        out.add(near[0])
    done.append(f"{len(out)} listed images left out.")
    return [image for image in images if image.name not in out]


def _without_copies(images: list[Listed], clusters: Sequence[Sequence[str]], done: list[str]) -> list[Listed]:
    by_name = {image.name: image for image in images}
    out: set[str] = set()
    against = 0
    for cluster in clusters:
        present = sorted((by_name[name] for name in cluster if name in by_name),
                         key=lambda image: (_KEPT_FIRST.index(image.part or "train"), image.name))
        if len({image.label for image in present}) > 1:
            against += len(present)
            out |= {image.name for image in present}
        else:
            out |= {image.name for image in present[1:]}
    done.append(f"{len(out)} copies left out, of each cluster all but one"
                + (f"; {against} of them because copies had different labels." if against else "."))
    return [image for image in images if image.name not in out]


def _renamed(images: list[Listed], new: Mapping[str, str], classes: Sequence[str], done: list[str]) -> list[Listed]:
    for old, name in new.items():
        if old not in classes:
            raise unknown("class", old, classes)
        if not name.strip():
            raise UsageError(f"The class {old!r} needs a new name.")
    if new:
        done.append("Classes renamed: " + ", ".join(f"{old} is {name.strip()}" for old, name in new.items()) + ".")
    return [replace(image, label=new.get(image.label, image.label).strip()) for image in images]


def _split(images: list[Listed], wanted: Repair, clusters: Sequence[Sequence[str]], done: list[str]) -> list[Listed]:
    """Parts anew: per class, and whole units at a time."""
    images, named = _with_patients(images)
    if wanted.split == PATIENTS and all(image.group is None for image in images):
        raise UsageError("The patients of this set are not known, neither by a table nor by the files' names, so it "
                         "cannot be split by them. Name them in a groups.csv with the columns file and group, or split "
                         "by copies.")
    units = _units(images, clusters)
    labels = sorted({image.label for image in images})
    numbers = [labels.index(image.label) for image in images]
    parts = splits.cut([image.name for image in images], numbers, units, {"test": wanted.test, "val": wanted.val})
    known = f"patients{named} and " if any(image.group is not None for image in images) else ""
    whole = f"{known}clusters of copies"
    done.append(f"Split anew, {100 * wanted.test:g} % test and {100 * wanted.val:g} % val, per class, {whole} whole.")
    return [replace(image, part=part) for image, part in zip(images, parts, strict=True)]


def _with_patients(images: list[Listed]) -> tuple[list[Listed], str]:
    """The images with the patients that their files' names give, where none is stated; and words that say so."""
    found = None if any(image.group is not None for image in images) else patients_in_names(
        [image.name for image in images])
    if not found:
        return images, ""
    return ([replace(image, group=patient) for image, patient in zip(images, found, strict=True)],
            f" (by the files' names, such as {next(filter(None, found))})")


def _units(images: Sequence[Listed], clusters: Sequence[Sequence[str]]) -> list[str | None]:
    """What must stay together: patients, joined where one has a copy of another's image."""
    root: dict[str, str] = {}

    def find(unit: str) -> str:
        while root.setdefault(unit, unit) != unit:
            unit = root[unit]
        return unit

    own = {image.name: f"image {image.name}" if image.group is None else f"patient {image.group}" for image in images}
    for cluster in clusters:
        joined = [own[name] for name in cluster if name in own]
        for unit in joined[1:]:
            root[find(unit)] = find(joined[0])
    return [find(own[image.name]) for image in images]


def _written(data: Dataset, name: str, planned: Repaired, paths: Paths, progress: ProgressCallback,
             should_stop: Callable[[], bool]) -> Path:
    writer = NamedSetWriter(name, paths, secrets.token_hex())  # so that nothing of a killed repair is gone on with
    places = targets(planned.images)
    try:
        _copy(data, planned, places, writer, paths, progress, should_stop)
        entry = step("repair", source=Path(data.reference).name, fingerprint=data.fingerprint,
                     images_before=sum(map(len, data.splits.values())), images=len(places), done=list(planned.done))
        info = replace(data.info, title=name.replace("_", " ").replace("-", " ").capitalize())
        groups = [(place, image.group) for place, image in zip(places, planned.images, strict=True)]
        return writer.finish(groups, info, [*history_of(Path(data.reference)), entry])
    except BaseException:
        writer.discard()
        raise


def _copy(data: Dataset, planned: Repaired, places: Sequence[str], writer: NamedSetWriter, paths: Paths,
          progress: ProgressCallback, should_stop: Callable[[], bool]) -> None:
    names = [image.name for image in planned.images]
    for number, (place, files) in enumerate(zip(places, _files(data, names, paths), strict=True)):
        if should_stop():
            raise Stopped
        progress("Writing images", number / len(places))
        if files is None:
            raise UsageError(f"{names[number]} can no longer be read: the set was changed while it was repaired. "
                             "Repair it again when its files are settled.")
        writer.add(place, files)


def _files(data: Dataset, names: Sequence[str], paths: Paths) -> Iterator[SampleFiles | None]:
    """The files behind images; rows of an array as PNG files."""
    if reader := datasets.files(data, paths):
        yield from reader(names)
        return
    originals = datasets.originals(data, paths)
    for start in range(0, len(names), _AT_ONCE):
        for pixels in originals(names[start:start + _AT_ONCE], LIMITS.pixels):
            yield None if pixels is None else SampleFiles(_png(pixels), ".png")


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
