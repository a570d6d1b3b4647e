"""Image folders that say nothing, with a table of labels that does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kd.datasets.image_folder import names
from kd.datasets.label_table import Columns, FileFinder, Labelled, Table, columns_of, label_of, labelled, read_table
from kd.errors import UsageError

if TYPE_CHECKING:
    from kd.datasets.image_folder.layout import Tree

_MOST_TABLES = 20


@dataclass(frozen=True)
class TableLayout:
    """A table of labels that names the images. name: in the tree. rows: what it says, by path below the root. beside:
    whether the folders are classes by themselves, so that the table is only mentioned."""

    name: str
    rows: Mapping[str, Labelled] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    beside: bool = False


def read_label_table(tree: "Tree", root: str, images: Mapping[str, Sequence[str]],
                     parts: Mapping[str, str]) -> TableLayout | None:
    """The table that names nine in ten images of a tree and has a column of labels; None where there is none."""
    paths = ["/".join(pieces) for pieces in images.values()]
    found = [one for name in tree.tables[:_MOST_TABLES] if (one := _read(tree, name, paths))]
    best = max(found, key=lambda one: one.named, default=None)
    if best is None or 10 * best.named < 9 * len(paths):
        return None
    if _folders_say_classes(images, parts, best):
        note = f"{best.table.name} names the images too; the folders are taken as the classes."
        return TableLayout(best.table.name, notes=(note,), beside=True)
    rows, warnings = labelled(best.table, best.columns, paths)
    columns = best.columns
    told = ["classes from its one-hot columns" if columns.one_hot else f"classes from {columns.labels[0]}"]
    told += [f"patients from {columns.patient}"] if columns.patient else []
    told += [f"parts from {columns.part}"] if any(row.part for row in rows.values()) else []
    return TableLayout(best.table.name, rows, (f"Labels are those of {best.table.name}: {', '.join(told)}.",), warnings)


@dataclass(frozen=True)
class _Candidate:
    """A table whose columns can be told, and how many of the images it names."""

    table: Table
    columns: Columns
    named: int


def _read(tree: "Tree", name: str, paths: Sequence[str]) -> _Candidate | None:
    try:
        with tree.opened() as read:
            content = read(name)
        table = read_table(content.read_bytes() if isinstance(content, Path) else content, name)
    except (UsageError, OSError):  # any other text that ends in .csv
        return None
    finder = FileFinder(paths)
    columns = columns_of(table, lambda cell: finder.find(cell) is not None)
    if columns is None:
        return None
    return _Candidate(table, columns, len({path for row in table.rows if (path := finder.find(row[columns.file]))}))


def _folders_say_classes(images: Mapping[str, Sequence[str]], parts: Mapping[str, str], best: _Candidate) -> bool:
    """Whether the folders are classes whatever a table says: several, not just numbered, or the table's own labels."""
    depth = 1 if parts else 0
    holding = sorted({pieces[depth] for pieces in images.values() if len(pieces) > depth + 1})
    if len(holding) < 2 or all(map(names.is_neutral, holding)):
        return False
    labels = {names.composed(label_of(row, best.columns)).lower() for row in best.table.rows}
    if {names.composed(name).lower() for name in holding} == labels:
        return True
    return not names.is_numbered(holding)
