"""Tables of labels: which column names the images, which the class, the patient and the part.

Every cell is text: `NA` stays a label and patient `001` is not 1.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from kd.datasets.image_folder import names
from kd.datasets.limits import LIMITS
from kd.errors import UsageError

FILE = ("file", "filename", "file_name", "path", "filepath", "file_path", "image", "images", "image_id", "imageid",
        "image_name", "image_path", "img", "img_id", "img_name", "id", "isic_id", "id_code", "name")
LABEL = ("label", "labels", "class", "classes", "class_name", "dx", "diagnosis", "target", "category", "finding",
         "finding_labels", "pathology", "level", "grade", "y")
PATIENT = ("patient", "patient_id", "patientid", "subject", "subject_id", "subjectid", "person", "person_id", "case",
           "case_id", "group", "lesion_id")
PART = ("split", "part", "subset", "set", "fold", "partition", "usage")
_NUMBERS = frozenset(("0", "1", "0.0", "1.0"))
_MOST_CLASSES = 200


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what. labels: one, or one for each class of a one-hot table."""

    file: str
    labels: tuple[str, ...]
    patient: str | None = None
    part: str | None = None

    @property
    def one_hot(self) -> bool:
        return len(self.labels) > 1


@dataclass(frozen=True)
class Labelled:
    """What a table says of one image. part: train, val, test or None."""

    label: str
    patient: str | None
    part: str | None


@dataclass(frozen=True)
class Table:
    """A table as text: its header and its rows, each with every column."""

    name: str
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


def read_table(content: bytes, name: str) -> Table:
    """A CSV or TSV file, with commas, semicolons or tabs. Raises UsageError when it is no such table."""
    if len(content) > LIMITS.table:
        raise UsageError(f"{name} has {len(content) / 2**20:.0f} MB, more than {LIMITS.table // 2**20}: too much for a "
                         "table of labels.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text: save it again as UTF-8.") from error
    lines = text.splitlines()
    first = lines[0] if lines else ""
    mark = max(",;\t", key=first.count)
    try:
        found = list(csv.reader(lines, delimiter=mark, strict=True))
    except csv.Error as error:
        raise UsageError(f"{name} is not a table ({error}).") from error
    header = tuple(cell.strip() for cell in found[0]) if found else ()
    if len(set(header)) != len(header) or not header:
        raise UsageError(f"{name} must begin with a line of different column names, not {first[:80]!r}.")
    if len(found) > LIMITS.rows:
        raise UsageError(f"{name} has {len(found)} lines, more than {LIMITS.rows}.")
    rows = tuple(dict(zip(header, [cell.strip() for cell in row] + [""] * (len(header) - len(row)), strict=False))
                 for row in found[1:] if any(map(str.strip, row)))
    return Table(name, header, rows)


def columns_of(table: Table, is_file: Callable[[str], bool]) -> Columns | None:
    """Which columns name the files and the classes; None where they cannot be told. is_file: whether a cell names an
    image that is there."""
    file = _file_column(table, is_file)
    if file is None:
        return None
    rest = [column for column in table.header if column != file]
    patient, part = _named(rest, PATIENT), _named(rest, PART)
    rest = [column for column in rest if column not in (patient, part)]
    label = _named(rest, LABEL)
    if label is not None:
        return Columns(file, (label,), patient, part)
    numbers = [column for column in rest if {row[column] for row in table.rows} <= _NUMBERS]
    if len(numbers) > 1:
        return Columns(file, tuple(numbers), patient, part)
    few = [column for column in rest if 2 <= len({row[column] for row in table.rows}) <= min(_MOST_CLASSES,
                                                                                             len(table.rows) // 2)]
    return Columns(file, (few[0],), patient, part) if len(few) == 1 and len(rest) == 1 else None


def _file_column(table: Table, is_file: Callable[[str], bool]) -> str | None:
    """The column most of whose cells name an image."""
    some = table.rows[:: max(1, len(table.rows) // 200)]
    shares = {column: sum(is_file(row[column]) for row in some) / max(1, len(some)) for column in table.header}
    ordered = sorted(table.header, key=lambda column: (-shares[column], _rank(column, FILE)))
    return ordered[0] if ordered and shares[ordered[0]] > 0.5 else None


def _named(columns: Sequence[str], known: Sequence[str]) -> str | None:
    ordered = sorted((column for column in columns if _plain(column) in known), key=lambda one: _rank(one, known))
    return ordered[0] if ordered else None


def _plain(column: str) -> str:
    return re.sub(r"[\s.-]+", "_", column.strip().lower())


def _rank(column: str, known: Sequence[str]) -> int:
    return known.index(_plain(column)) if _plain(column) in known else len(known)


def _require_one_hot(table: Table, columns: Sequence[str]) -> None:
    several = [row for row in table.rows if sum(float(row[column]) for column in columns) > 1]
    if several:
        raise UsageError(f"{table.name} gives {len(several)} of {len(table.rows)} images several labels "
                         f"({', '.join(columns[:4])} …); only sets with one class per image can be learned here.")


def label_of(row: dict[str, str], columns: Columns) -> str:
    """The class of a row; empty where it has none."""
    if not columns.one_hot:
        return row[columns.labels[0]]
    return next((column for column in columns.labels if float(row[column]) == 1), "")


def labelled(table: Table, columns: Columns, paths: Iterable[str]) -> tuple[dict[str, Labelled], tuple[str, ...]]:
    """What the table says of each image in `paths`, by path, and warnings on lines and images without a partner.

    Raises UsageError when one image has two classes or two patients.
    """
    if columns.one_hot:
        _require_one_hot(table, columns.labels)
    finder = FileFinder(paths)
    found: dict[str, Labelled] = {}
    lost = 0
    for row in table.rows:
        path, label = finder.find(row[columns.file]), label_of(row, columns)
        if path is None or not label:
            lost += 1
            continue
        patient = row[columns.patient] or None if columns.patient else None
        said = Labelled(label, patient, names.part_of(row[columns.part]) if columns.part else None)
        if path in found and found[path] != said:
            raise UsageError(f"{table.name} says of {path} both {_say(found[path])} and {_say(said)}: leave one line.")
        found[path] = said
    warnings = (f"{lost} lines of {table.name} name no image here, or no class, and were ignored.",) if lost else ()
    return found, warnings


def _say(one: Labelled) -> str:
    return one.label + (f" (patient {one.patient})" if one.patient else "") + (f" ({one.part})" if one.part else "")


class FileFinder:
    """Images by what a table calls them: a path below the root, a bare name, or either without its ending."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.known: dict[str, set[str]] = defaultdict(set)
        for path in paths:
            pure = PurePosixPath(names.composed(path))
            for called in (str(pure), str(pure.with_suffix("")), pure.name, pure.stem):
                self.known[called].add(path)

    def find(self, cell: str) -> str | None:
        """The one image that a cell names; None for none or several."""
        called = names.composed(cell.replace("\\", "/").removeprefix("./").strip())
        for name in (called, PurePosixPath(called).name):
            if len(found := self.known.get(name, ())) == 1:
                return next(iter(found))
        return None
