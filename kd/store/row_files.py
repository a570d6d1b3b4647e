"""Files of fixed-size rows with a checksum each, safe under concurrent writers, kills, torn writes and full disks.

One directory has two files for each column: `<name>.rows`, in which row n begins at n times the row's size, and
`<name>.crc32`, the CRC-32 of each row, 0 where there is none. A row is written before its checksum, and a row that its
checksum does not fit counts as missing.
"""

import os
import weakref
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PAGE = 4096  # bytes that a file system allocates at a time
Index = NDArray[np.int64]


@dataclass(frozen=True)
class RowFormat:
    """Shape and numpy type of one row."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class RowCount(NamedTuple):
    """Rows that are present in all columns, rows that are not, and an upper bound of the bytes of disk for these."""

    present: int
    missing: int
    missing_bytes: int


class RowFiles:
    """Columns of rows in one directory. Reading never fails: what cannot be read is missing. Writing raises OSError.

    directory: None for files that stay empty. formats: of a row, by the column's name. Without `write` nothing is
    created on disk.
    """

    def __init__(self, directory: Path | None, formats: Mapping[str, RowFormat], write: bool = False) -> None:
        if write and directory:
            directory.mkdir(parents=True, exist_ok=True)
        self._columns = {name: _RowFile(directory and directory / name.replace(":", "-"), row, write)
                         for name, row in formats.items()}

    def read(self, index: Index) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """Rows [B, …] with these numbers [B] by column, and which are valid in all columns; others hold anything."""
        rows, valid = {}, np.ones(len(index), np.bool_)
        for name, column in self._columns.items():
            rows[name], valid_here = column.read(index)
            valid &= valid_here
        return rows, valid

    def write(self, index: Index, rows: Mapping[str, NDArray[Any]]) -> int:
        """Write rows [B, …] of all columns; returns the bytes written. Raises OSError, for example on a full disk."""
        return sum(column.write(index, rows[name]) for name, column in self._columns.items())

    def count(self, required: Iterable[Index]) -> RowCount:
        """Number of required rows that are present and missing, by their checksums alone.

        The bytes are an upper bound: rows lie scattered, and disks allocate whole pages.
        """
        checksums = {name: column.checksums() for name, column in self._columns.items()}
        present = total = last = 0
        missing = dict.fromkeys(checksums, 0)
        for index in required:
            found = {name: _present(known, index) for name, known in checksums.items()}
            present += int(np.logical_and.reduce(list(found.values())).sum())
            total += len(index)
            last = max(last, int(index.max(initial=-1)) + 1)
            for name, column_present in found.items():
                missing[name] += int((~column_present).sum())
        needed = sum(column.disk_bytes(missing[name], last) for name, column in self._columns.items())
        return RowCount(present, total - present, needed)


class _RowFile:
    """Rows and checksums of one column."""

    def __init__(self, stem: Path | None, row: RowFormat, write: bool) -> None:
        self.row = row
        self._rows, self._checksums = (
            open_file(stem.with_suffix(end), write, self) if stem else None for end in (".rows", ".crc32"))

    def read(self, index: Index) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, valid = np.zeros((len(index), *self.row.shape), self.row.dtype), np.zeros(len(index), np.bool_)
        if self._rows is not None and self._checksums is not None:
            for place, number in enumerate(index.tolist()):
                content = _read(self._rows, self._checksums, number, self.row.bytes)
                if content is not None:
                    rows[place] = np.frombuffer(content, self.row.dtype).reshape(self.row.shape)
                    valid[place] = True
        return rows, valid

    def write(self, index: Index, rows: NDArray[Any]) -> int:
        assert self._rows is not None, "these files were opened for reading"
        assert self._checksums is not None, "these files were opened for reading"
        if rows.shape[1:] != self.row.shape or rows.dtype != self.row.dtype:
            raise ValueError(f"rows are {rows.dtype} {rows.shape[1:]}, not {self.row}")
        for number, row in zip(index.tolist(), rows, strict=True):
            content = row.tobytes()
            _write(self._rows, content, number * self.row.bytes)
            _write(self._checksums, _checksum(content).to_bytes(4, "little"), 4 * number)
        return len(index) * (self.row.bytes + 4)

    def checksums(self) -> NDArray[np.uint32]:
        """Checksums of all rows up to the last one that is present."""
        if self._checksums is None or self._rows is None:
            return np.empty(0, np.uint32)
        size = os.fstat(self._checksums).st_size // 4
        content = os.pread(self._checksums, 4 * size, 0)
        whole = os.fstat(self._rows).st_size // self.row.bytes
        return np.frombuffer(content[:len(content) // 4 * 4], "<u4")[:whole]

    def disk_bytes(self, missing: int, last: int) -> int:
        """Bytes of disk for this many more rows among the first `last`."""
        scattered = missing * (-(-self.row.bytes // PAGE) + bool(self.row.bytes % PAGE)) * PAGE
        taken = 0 if self._rows is None else on_disk(os.fstat(self._rows))
        return min(scattered, max(0, last * self.row.bytes - taken)) + 4 * min(last, PAGE // 4 * missing)


def open_file(path: Path, write: bool, owner: object) -> int | None:
    """A file descriptor that is closed with its owner; None where there is no file to read."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT if write else os.O_RDONLY, 0o644)
    except OSError:
        if write:
            raise
        return None
    weakref.finalize(owner, os.close, number)
    return number


def _read(rows: int, checksums: int, number: int, size: int) -> bytes | None:
    """A row of `size` bytes; None where it is missing or does not fit its checksum.

    By system calls: through a memory map, a truncated file is a fatal signal, and every page that was read counts as
    memory of this process.
    """
    try:
        checksum = int.from_bytes(os.pread(checksums, 4, 4 * number), "little")
        content = os.pread(rows, size, size * number) if checksum else b""
    except OSError:  # an unreadable disk holds no rows
        return None
    return content if checksum and len(content) == size and _checksum(content) == checksum else None


def _write(file: int, content: bytes, offset: int) -> None:
    """Write by system calls: a full disk is an OSError here, and a fatal signal through a memory map."""
    while content:
        done = os.pwrite(file, content, offset)
        content, offset = content[done:], offset + done


def _checksum(content: bytes) -> int:
    return zlib.crc32(content) or 1


def _present(checksums: NDArray[np.uint32], index: Index) -> NDArray[np.bool_]:
    present = np.zeros(len(index), np.bool_)
    known = index < len(checksums)
    present[known] = checksums[index[known]] != 0
    return present


def on_disk(status: os.stat_result) -> int:
    """Bytes that a file takes on disk, without its holes."""
    return min(status.st_size, getattr(status, "st_blocks", 0) * 512 or status.st_size)


def folder_size(folder: Path) -> int:
    """Bytes on disk of all files in a folder, also while files are created and deleted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += on_disk(path.stat()) if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
