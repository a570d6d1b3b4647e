"""Tables with paths, labels and optionally patients and parts: all faults of one found at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kd.datasets import decode
from kd.datasets.base import DatasetInfo, Listed, SampleFiles, Skipped
from kd.datasets.image_folder import names
from kd.datasets.image_folder.metadata import title_of
from kd.datasets.importing.preview import Preview
from kd.datasets.label_table import FILE, LABEL, Columns, FileFinder, Table, columns_of, label_of, read_table
from kd.datasets.limits import LIMITS
from kd.errors import UsageError

_SHOWN = 8  # faults that an error names


@dataclass(frozen=True)
class Fault:
    """One fault of a table: the line (1 is the header's), the column, what is there and what is wrong with it."""

    line: int
    column: str
    value: str
    what: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.column}: {self.value[:60]!r} {self.what}"


def preview_table(path: Path, without: Sequence[str] = ()) -> Preview:
    """What a table and the images below its folder hold. Raises UsageError with all faults of the table."""
    table = read_table(path.read_bytes(), path.name)
    finder = _Files(path.parent, without)
    columns = columns_of(table, lambda cell: finder.find(cell) is not None) or _by_name(table)
    if columns is None:
        raise UsageError(f"{path.name} must have a column that names images below {path.parent.name}/ (as "
                         f"{', '.join(FILE[:3])}) and one of labels (as {', '.join(LABEL[:3])}); its columns are "
                         f"{', '.join(table.header[:8])}.")
    if faults := faults_of(table, columns, finder):
        more = f" … and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise UsageError(f"{path.name} has {len(faults)} faults: " + "; ".join(map(str, faults[:_SHOWN])) + more + ".")
    images = tuple(Listed(finder.find(row[columns.file]) or "", label_of(row, columns),
                          names.part_of(row[columns.part]) if columns.part else None,
                          row[columns.patient] if columns.patient else None) for row in table.rows)
    told = [f"{what} from {column}" for what, column in (("images", columns.file), ("patients", columns.patient),
                                                         ("parts", columns.part)) if column]
    label = "classes from the one-hot columns" if columns.one_hot else f"classes from {columns.labels[0]}"
    return Preview("table", images, partial(_read, path.parent, images), DatasetInfo(title_of(path.stem)),
                   notes=(f"{path.name}: {', '.join([*told, label])}.",), facts={"lines": len(table.rows)})


class _Files:
    """Images below a folder, by what a table calls them; nothing outside it."""

    def __init__(self, root: Path, without: Sequence[str]) -> None:
        from kd.datasets.image_folder.folder import scan

        tree = scan(root)
        self.names = [name for name in tree.images if not any(name.startswith(f"{one}/") for one in without)]
        self.by_name = FileFinder(self.names)

    def find(self, cell: str) -> str | None:
        return self.by_name.find(cell)


def _by_name(table: Table) -> Columns | None:
    """Columns by their names alone, for a table whose files are not there."""
    plain = {name.strip().lower(): name for name in table.header}
    file = next((plain[name] for name in FILE if name in plain), None)
    label = next((plain[name] for name in LABEL if name in plain), None)
    return Columns(file, (label,)) if file and label and file != label else None


def faults_of(table: Table, columns: Columns, finder: Any) -> list[Fault]:
    """All faults of a table: missing files and labels, two lines for one image, unknown parts, a patient on both sides.

    Checked by pandera, which goes through every column before it says anything. finder: has `find`, which gives the one
    image that a cell names, or None.
    """
    import pandas as pd
    import pandera.pandas as pa

    frame = pd.DataFrame(list(table.rows), columns=list(table.header), dtype=str)
    file = pa.Column(str, [pa.Check(lambda column: column.map(lambda cell: finder.find(cell) is not None),
                                    error="names no image here, or more than one"),
                           pa.Check(lambda column: column.map(finder.find).isna() |
                           ~column.map(finder.find).duplicated(),
                                    error="names an image that an earlier line names")])
    filled = pa.Column(str, pa.Check(lambda column: column.str.len() > 0, error="is empty"))
    checks: dict[str, pa.Column] = {columns.file: file, **dict.fromkeys(columns.labels, filled)}
    if columns.patient:
        checks[columns.patient] = filled
    if columns.part:
        checks[columns.part] = pa.Column(str, pa.Check(
            lambda column: column.map(lambda cell: names.part_of(cell) is not None),
            error="is no part: train, val or test"))
    if columns.one_hot:
        numbers = pa.Column(str, pa.Check.isin(("0", "1", "0.0", "1.0"), error="is neither 0 nor 1"))
        checks |= dict.fromkeys(columns.labels, numbers)
    try:
        pa.DataFrameSchema(checks).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        return _faults(errors.failure_cases)
    return _several(table, columns)


def _faults(cases: Any) -> list[Fault]:
    found = [Fault(int(row["index"]) + 2, str(row["column"]), str(row["failure_case"]), str(row["check"]))
             for row in cases.to_dict("records")]
    return sorted(found, key=lambda fault: (fault.line, fault.column))


def _several(table: Table, columns: Columns) -> list[Fault]:
    if not columns.one_hot:
        return []
    sums = [sum(float(row[name]) for name in columns.labels) for row in table.rows]
    return [Fault(number + 2, columns.labels[0], f"{total:.0f} labels", "on one line: one class per image is needed")
            for number, total in enumerate(sums) if total != 1]


def _read(root: Path, images: Sequence[Listed], numbers: Sequence[int]) -> Iterator[SampleFiles | Skipped]:
    for number in numbers:
        yield read_image(root / images[number].name, images[number].name)


def read_image(path: Path, name: str) -> SampleFiles | Skipped:
    """An image's file as it is, if it is one of bounded size."""
    try:
        if path.stat().st_size > LIMITS.file:
            return Skipped(name, f"it has more than {LIMITS.file // 2**20} MB")
        content = path.read_bytes()
        decode.dimensions(content)
    except decode.UnreadableImage as bad:
        return Skipped(name, str(bad))
    except OSError as error:
        return Skipped(name, f"the file cannot be opened ({error.strerror})")
    return SampleFiles(content, path.suffix.lower() or ".png")
