"""A data set that the program itself writes under a name: imported from elsewhere, or repaired from another.

`data/NAME/<part>/<class>/<file>` with `groups.csv`, `dataset.json` and `history.json`, masks in `data/NAME_masks/`. It
is written under a hidden name and renamed when complete, so a set is there whole or not at all; what a killed writer
has left is gone on with.
"""

import csv
import io
import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.datasets.base import DatasetInfo, Listed, SampleFiles
from kd.datasets.image_folder.names import part_of
from kd.errors import UsageError
from kd.paths import Paths
from kd.store.files import write_bytes, write_json
from kd.version import VERSION

HISTORY = "history.json"
PARTS = ("train", "val", "test")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')
_NAME = re.compile(r"\w[\w.-]{0,79}")
_LONGEST = 80


def require_free_name(name: str, paths: Paths) -> None:
    """Raise UsageError unless a new set of this name can be written below `paths.data`."""
    if not _NAME.fullmatch(name) or name.endswith(("_masks", ".")) or part_of(name):
        raise UsageError(f"{name!r} cannot name a data set: use letters, digits, _ and -, at most 80, not ending in "
                         "_masks and not the name of a part.")
    taken = [path for path in (paths.data / name, paths.data / f"{name}_masks", paths.data / f"{name}.zip",
                               paths.data / f"{name}.npz") if path.exists()]
    if taken:
        raise UsageError(f"{taken[0]} is there already: choose another name. Nothing is ever overwritten.")


def safe_name(text: str) -> str:
    """A file or folder name without what file systems or pages take as more than a letter; never empty or hidden."""
    kept = _UNSAFE.sub("_", text.encode("utf-8", "replace").decode()).strip(" .")[:_LONGEST]
    return kept or "unnamed"


def targets(images: Sequence[Listed]) -> list[str]:
    """Where each image is written below the set's folder, without an ending: `train/glioma/17`. Unique also where names
    differ only in case, and the same for the same images. Raises UsageError for classes that differ only in case."""
    folders: dict[str, str] = {}
    for label in sorted({image.label for image in images}):
        folder = safe_name(label)
        if folder.casefold() in folders:
            other = folders[folder.casefold()]
            raise UsageError(f"The classes {other!r} and {label!r} would be one folder: rename one.")
        folders[folder.casefold()] = label
    taken: set[str] = set()
    found = []
    for image in images:
        stem = safe_name(re.sub(r"\.\w{1,5}$", "", image.name.rsplit("/", 1)[-1]))
        base = f"{image.part or 'train'}/{safe_name(image.label)}/{stem}"
        target, count = base, 1
        while target.casefold() in taken:
            count += 1
            target = f"{base}-{count}"
        taken.add(target.casefold())
        found.append(target)
    return found


class NamedSetWriter:
    """Writes a new named set image by image; `finish` makes it appear. One writer a name at a time.

    plan: digest of all that decides what is written; what a stopped writer of another plan has left is removed, so that
    a set never holds images of two. history: what was done, one entry a step; of a repaired set after the entries of
    the set it was made of.
    """

    def __init__(self, name: str, paths: Paths, plan: str = "") -> None:
        require_free_name(name, paths)
        self.name, self.paths = name, paths
        self.part = paths.data / f".{name}.part"
        self.set, self.masks = self.part / "set", self.part / "masks"
        stamp = self.part / "plan"
        if self.part.exists() and (not stamp.is_file() or stamp.read_text() != plan):
            self.discard()
        self.set.mkdir(parents=True, exist_ok=True)
        write_bytes(stamp, plan.encode())

    def written(self) -> set[str]:
        """Targets whose image was written before, by this writer or one that was stopped."""
        return {_target(path.relative_to(self.set)) for path in self.set.glob("*/*/*") if path.name[0] != "."}

    def add(self, target: str, files: SampleFiles) -> None:
        """Write one image and its mask; the image last, since it says that both are there."""
        if files.mask is not None:
            write_bytes(self.masks / f"{target}{files.mask_ending}", files.mask)
        write_bytes(self.set / f"{target}{files.ending}", files.image)

    def finish(self, images: Iterable[tuple[str, str | None]], info: DatasetInfo,
               history: Sequence[Mapping[str, Any]]) -> Path:
        """Write what is beside the images and make the set appear. images: target and patient of each written one."""
        endings = {_target(path.relative_to(self.set)): path.suffix for path in self.set.glob("*/*/*")}
        rows = [(f"{target}{endings[target]}", patient) for target, patient in images if patient and target in endings]
        if rows:
            out = io.StringIO()
            csv.writer(out, lineterminator="\n").writerows([("file", "group"), *rows])
            write_bytes(self.set / "groups.csv", out.getvalue().encode())
        write_json(self.set / "dataset.json", {"title": info.title, "source": info.source, "licence": info.licence,
                                               "caveats": list(info.caveats), "flip": info.flip})
        write_json(self.set / HISTORY, {"history": [*history]})
        place = self.paths.data / self.name
        require_free_name(self.name, self.paths)
        if self.masks.exists():
            self.masks.rename(place.with_name(f"{self.name}_masks"))
        self.set.rename(place)
        shutil.rmtree(self.part, ignore_errors=True)
        return place

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.part, ignore_errors=True)


def _target(path: Path) -> str:
    return path.as_posix().removesuffix(path.suffix)


def step(kind: str, **facts: Any) -> dict[str, Any]:
    """One entry of a set's history: what was done (`import`, `repair`), when and by which version."""
    return {"kind": kind, "kd_lens": VERSION, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **facts}


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The history of a set that the program wrote, oldest step first; empty for any other."""
    try:
        found = json.loads((folder / HISTORY).read_text())["history"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return found if isinstance(found, list) else []
