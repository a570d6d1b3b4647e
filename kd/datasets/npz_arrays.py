"""Arrays in an .npz file, read row by row and never unpickled."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from kd.datasets.limits import LIMITS
from kd.errors import UsageError


@dataclass(frozen=True)
class Head:
    """The head of an array: what numpy needs to know before the first value."""

    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype


def head(file: IO[bytes], name: str, where: str, kinds: str = "uifb") -> Head:
    """The head of an .npy stream; afterwards the stream stands at the first value. kinds: of numpy types that are
    expected. Raises UsageError."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        found = Head(*read(file))
    except Exception as error:  # numpy's parser of broken heads raises ValueError, SyntaxError, EOFError and more
        raise UsageError(f"{where}: the array {name} cannot be read ({error}).") from error
    if found.dtype.hasobject:
        raise UsageError(f"{where}: the array {name} holds Python objects, which could run code when they are read; "
                         "such files are not opened. Save it as numbers or texts.")
    if min(found.shape, default=0) < 0:
        raise UsageError(f"{where}: the array {name} has the impossible shape {found.shape}.")
    if found.dtype.kind not in kinds:
        what = "texts" if "U" in kinds else "numbers"
        raise UsageError(f"{where}: the array {name} holds {found.dtype}, not {what}; such files are not opened.")
    return found


def member_of(archive: zipfile.ZipFile, member: str, where: str) -> IO[bytes]:
    """One file of an archive, opened. Raises UsageError where the archive's directory is wrong about it."""
    try:
        return archive.open(member)
    except Exception as error:  # BadZipFile, OSError, NotImplementedError, RuntimeError: whatever a broken entry says
        raise UsageError(f"{where} is damaged in {member[:-4]} ({error}): take it from its source again.") from error


def rows(archive: zipfile.ZipFile, member: str, where: str) -> Iterator[NDArray[np.generic]]:
    """One image after another, so that a file larger than memory can be read."""
    with member_of(archive, member, where) as file:
        found = head(file, member, where)
        if found.columns_first:
            yield from load(archive, member, where)
            return
        step = found.dtype.itemsize * math.prod(found.shape[1:])
        for _ in range(found.shape[0]):
            content = _read(file, step, member, where)
            yield np.frombuffer(content, found.dtype).reshape(found.shape[1:])


def chosen_rows(archive: zipfile.ZipFile, member: str, where: str,
                numbers: Sequence[int]) -> Iterator[NDArray[np.generic]]:
    """The images of these rows, in ascending order."""
    with member_of(archive, member, where) as file:
        found = head(file, member, where)
        if found.columns_first:
            yield from load(archive, member, where)[list(numbers)]
            return
        start, step = file.tell(), found.dtype.itemsize * math.prod(found.shape[1:])
        for number in numbers:
            file.seek(start + number * step)
            yield np.frombuffer(_read(file, step, member, where), found.dtype).reshape(found.shape[1:])


def load(archive: zipfile.ZipFile, member: str, where: str, kinds: str = "uifb") -> NDArray[np.generic]:
    """A whole array."""
    with member_of(archive, member, where) as file:
        found = head(file, member[:-4], where, kinds)
        if found.dtype.itemsize * math.prod(found.shape) > LIMITS.array:
            raise UsageError(f"{where}: the array {member[:-4]} of {found.shape} is too large to be read at once.")
        content = _read(file, found.dtype.itemsize * math.prod(found.shape), member, where)
    return np.frombuffer(content, found.dtype).reshape(found.shape, order="F" if found.columns_first else "C")


def _read(file: IO[bytes], count: int, member: str, where: str) -> bytes:
    try:
        content = file.read(count)
    except Exception as error:  # zlib.error, BadZipFile, EOFError: the file is damaged
        raise UsageError(f"{where} is damaged in {member[:-4]} ({error}): take it from its source again.") from error
    if len(content) != count:
        raise UsageError(f"{where} ends in the middle of {member[:-4]}: take the file from its source again.")
    return content


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An .npz file as the archive it is. Raises UsageError when it is none, or a bomb."""
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # BadZipFile for most, struct.error and ValueError for hostile directories
        raise UsageError(f"{path.name} is no readable .npz ({error}): take the file from its source again.") from error
    with archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > LIMITS.free + LIMITS.ratio * path.stat().st_size:
            raise UsageError(f"{path.name} would unpack to {unpacked / 2**30:.0f} GB, over {LIMITS.ratio} times its "
                             "size: so do bombs.")
        yield archive
