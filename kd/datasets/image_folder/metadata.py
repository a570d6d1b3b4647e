"""The two optional files in a set's root: `groups.csv` (patients) and `dataset.json` (title, source, caveats …)."""

import csv
import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from kd.datasets.base import DatasetInfo
from kd.datasets.image_folder.names import composed
from kd.errors import UsageError


def title_of(name: str) -> str:
    """A folder's name as a title: `brain_tumor` is `Brain tumor`."""
    words = name.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:] or "Data set"


def parse_info(content: bytes | None, name: str) -> DatasetInfo:
    """DatasetInfo of a `dataset.json` (title, source, licence, caveats, flip), with defaults for what it leaves out.

    Raises UsageError when the file is there and wrong: guessed facts would be worse.
    """
    if content is None:
        return DatasetInfo(title_of(name))
    try:
        values = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"dataset.json of {name} is not JSON ({error}): mend it or remove it.") from error
    if not isinstance(values, dict):
        raise UsageError(f"dataset.json of {name} must hold one object {{…}}: mend it or remove it.")
    texts = {key: values[key] for key in ("title", "source", "licence") if key in values}
    caveats = values.get("caveats", [])
    caveats = [caveats] if isinstance(caveats, str) else caveats
    flip = values.get("flip", True)
    for key, right in (*((key, isinstance(text, str)) for key, text in texts.items()), ("flip", isinstance(flip, bool)),
                       ("caveats", isinstance(caveats, list) and all(isinstance(line, str) for line in caveats))):
        if not right:
            raise UsageError(f"dataset.json of {name}: {key} has the wrong type. title, source and licence are texts, "
                             "caveats a list of texts, flip true or false.")
    return DatasetInfo(**{"title": title_of(name), **texts}, caveats=tuple(caveats), flip=flip)


def parse_groups(content: bytes | None, paths: Sequence[str], name: str,
                 inside: str = "") -> tuple[list[str | None] | None, tuple[str, ...]]:
    """The patient of each image in `paths` [N] after a `groups.csv` with columns file and group, and warnings.

    A file is named by its path below the root, or by its bare name where only one image has it; an image that
    is not named gets None. inside: the root's path from the folder of the file, which lies around the root or in it.
    Without the file (None): no groups. Raises UsageError when the file cannot be used.
    """
    if content is None:
        return None, ()
    rows = _rows(content, name)
    bare: dict[str, list[str]] = {}
    for path in paths:
        bare.setdefault(PurePosixPath(composed(path)).name, []).append(path)
    known, lost = {composed(path): path for path in paths}, 0
    patient_of: dict[str, str] = {}
    for written, group in rows:
        file = composed(written).removeprefix(composed(inside))
        near = [known[file]] if file in known else bare.get(file, [])
        if len(near) == 1 and patient_of.setdefault(near[0], group) != group:
            raise UsageError(f"groups.csv of {name} puts {near[0]} under two patients, {patient_of[near[0]]} and "
                             f"{group}: leave one of them.")
        lost += len(near) != 1
    if not patient_of:
        raise UsageError(f"groups.csv of {name} names none of its {len(paths)} images: "
                         f"write paths like {paths[0]!r}.")
    warnings = []
    if lost:
        warnings.append(f"{lost} lines of groups.csv name no image here, or more than one, and were ignored.")
    if len(patient_of) < len(paths):
        missing = len(paths) - len(patient_of)
        warnings.append(f"{missing} images are not in groups.csv: each counts as a patient of its own.")
    return [patient_of.get(path) for path in paths], tuple(warnings)


def _rows(content: bytes, name: str) -> list[tuple[str, str]]:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"groups.csv of {name} is not UTF-8 text: save it again as UTF-8.") from error
    header = lines[0] if lines else ""
    table = csv.DictReader(lines, delimiter=";" if header.count(";") > header.count(",") else ",")
    try:
        table.fieldnames = [column.strip().lower() for column in table.fieldnames or []]
        rows = list(table)
    except csv.Error as error:
        raise UsageError(f"groups.csv of {name} is not a table ({error}).") from error
    if not {"file", "group"} <= set(table.fieldnames):
        raise UsageError(f"groups.csv of {name} must have the columns file and group, not {header!r}.")
    found = [((row["file"] or "").strip().replace("\\", "/"), (row["group"] or "").strip()) for row in rows]
    return [(file.removeprefix("./"), group) for file, group in found if file and group]
