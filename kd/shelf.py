"""Rows of fixed size in files that many may read and fill at once, kill or full disk or not.

A shelf is a folder with two files for each column: `<name>.rows`, of which row n begins at n times its size, and
`<name>.tags`, a CRC-32 for each row, 0 where there is none. A row is written before its tag, and one that its tag does
not fit is as good as none: a kill, a torn write and two writers of the same rows do no harm.
"""

import os
import weakref
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE = 4096  # bytes that a file system gives out at a time
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """Shape and numpy type of one row."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Shelf:
    """Columns of rows in one folder. Reading never fails: what cannot be read is not there. Writing raises OSError.

    folder: None for a shelf that is empty for good. rows: the form of a row by the column's name. Without `write`
    nothing is made on disk.
    """

    def __init__(self, folder: Path | None, rows: Mapping[str, Row], write: bool = False) -> None:
        if write and folder:
            folder.mkdir(parents=True, exist_ok=True)
        self._columns = {name: _Column(folder and folder / name.replace(":", "-"), row, write)
                         for name, row in rows.items()}

    def read(self, index: Index) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """The rows [B, …] of these numbers [B] by column, and which of them are sound in all; the others hold
        anything."""
        rows, sound = {}, np.ones(len(index), np.bool_)
        for name, column in self._columns.items():
            rows[name], there = column.read(index)
            sound &= there
        return rows, sound

    def write(self, index: Index, rows: Mapping[str, NDArray[Any]]) -> int:
        """Keep rows [B, …] of all columns; gives the bytes written. Raises OSError, on a full disk for one."""
        return sum(column.write(index, rows[name]) for name, column in self._columns.items())

    def survey(self, needed: Iterable[Index]) -> tuple[int, int, int]:
        """(rows that are there in all columns, rows that are not, bytes of disk that these will take) of those needed.

        The bytes are an upper bound: rows lie scattered, and disks give out whole pages.
        """
        tags = {name: column.tags() for name, column in self._columns.items()}
        kept = total = last = 0
        missing = dict.fromkeys(tags, 0)
        for index in needed:
            there = {name: _held(all_of, index) for name, all_of in tags.items()}
            kept += int(np.logical_and.reduce(list(there.values())).sum())
            total += len(index)
            last = max(last, int(index.max(initial=-1)) + 1)
            for name, held in there.items():
                missing[name] += int((~held).sum())
        return kept, total - kept, sum(column.cost(missing[name], last) for name, column in self._columns.items())


class _Column:
    """Rows and tags of one name."""

    def __init__(self, stem: Path | None, row: Row, write: bool) -> None:
        self.row = row
        self._rows, self._tags = (
            _opened(stem.with_suffix(end), write, self) if stem else None for end in (".rows", ".tags"))

    def read(self, index: Index) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, sound = np.zeros((len(index), *self.row.shape), self.row.dtype), np.zeros(len(index), np.bool_)
        if self._rows is not None and self._tags is not None:
            for place, number in enumerate(index.tolist()):
                content = _read(self._rows, self._tags, number, self.row.bytes)
                if content is not None:
                    rows[place] = np.frombuffer(content, self.row.dtype).reshape(self.row.shape)
                    sound[place] = True
        return rows, sound

    def write(self, index: Index, rows: NDArray[Any]) -> int:
        assert self._rows is not None, "this shelf was opened for reading"
        assert self._tags is not None, "this shelf was opened for reading"
        if rows.shape[1:] != self.row.shape or rows.dtype != self.row.dtype:
            raise ValueError(f"rows are {rows.dtype} {rows.shape[1:]}, not {self.row}")
        for place, row in zip(index.tolist(), rows, strict=True):
            content = row.tobytes()
            _write(self._rows, content, place * self.row.bytes)
            _write(self._tags, _tag(content).to_bytes(4, "little"), 4 * place)
        return len(index) * (self.row.bytes + 4)

    def tags(self) -> NDArray[np.uint32]:
        """Of all rows up to the last one that is there."""
        if self._tags is None or self._rows is None:
            return np.empty(0, np.uint32)
        size = os.fstat(self._tags).st_size // 4
        content = os.pread(self._tags, 4 * size, 0)
        whole = os.fstat(self._rows).st_size // self.row.bytes
        return np.frombuffer(content[:len(content) // 4 * 4], "<u4")[:whole]

    def cost(self, missing: int, last: int) -> int:
        """Bytes of disk for this many more rows among the first `last`."""
        scattered = missing * (-(-self.row.bytes // PAGE) + bool(self.row.bytes % PAGE)) * PAGE
        taken = 0 if self._rows is None else on_disk(os.fstat(self._rows))
        return min(scattered, max(0, last * self.row.bytes - taken)) + 4 * min(last, PAGE // 4 * missing)


def _opened(path: Path, write: bool, owner: object) -> int | None:
    """A file descriptor that is closed with its owner; None where there is no file to read."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT if write else os.O_RDONLY, 0o644)
    except OSError:
        if write:
            raise
        return None
    weakref.finalize(owner, os.close, number)
    return number


def _read(rows: int, tags: int, number: int, size: int) -> bytes | None:
    """A row of `size` bytes; None where there is none, or none that its tag fits.

    By system calls: through a memory map a file cut short is a fatal signal, and every page that was looked at counts
    as this process's memory.
    """
    try:
        tag = int.from_bytes(os.pread(tags, 4, 4 * number), "little")
        content = os.pread(rows, size, size * number) if tag else b""
    except OSError:  # a disk that cannot be read holds nothing
        return None
    return content if tag and len(content) == size and _tag(content) == tag else None


def _write(file: int, content: bytes, offset: int) -> None:
    """By a system call: a full disk is an OSError here, and through a memory map a fatal signal."""
    while content:
        done = os.pwrite(file, content, offset)
        content, offset = content[done:], offset + done


def _tag(content: bytes) -> int:
    return zlib.crc32(content) or 1


def _held(tags: NDArray[np.uint32], index: Index) -> NDArray[np.bool_]:
    held = np.zeros(len(index), np.bool_)
    known = index < len(tags)
    held[known] = tags[index[known]] != 0
    return held


def on_disk(status: os.stat_result) -> int:
    """Bytes that a file takes; the holes in it take none."""
    return min(status.st_size, getattr(status, "st_blocks", 0) * 512 or status.st_size)


def folder_size(folder: Path) -> int:
    """Bytes on disk of all files in a folder, also while some come and go."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += on_disk(path.stat()) if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
