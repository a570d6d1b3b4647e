"""Atomic writes of files, reads of arrays, and the state of file locks."""

import hashlib
import io
import json
import os
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

# What zipfile and numpy raise for files that are not whole.
_DAMAGED = (OSError, ValueError, EOFError, BadZipFile, zlib.error, NotImplementedError, struct.error, TypeError,
            AttributeError, SyntaxError, MemoryError, OverflowError)
# Probing a lock takes it for an instant; two probes of one process must not read each other as the owner.
_probe = threading.Lock()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, written in the block, that then replaces it in one step.

    A reader, or a kill at any moment, sees the old file or the new one. An error in the block leaves the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unique even where several machines share a folder; the suffix tells a killed writer's remains from data.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content in one step (see `atomic_write`)."""
    with atomic_write(path) as part:
        part.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Replace a file by a value as JSON in one step. Raises ValueError for nan and infinities."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file, or it is damaged, or holds something else."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_npz(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of an .npz file by name; None where there is no such file, or it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            found = dict(stored)  # TypeError for a lone array
    except _DAMAGED:
        return None
    return found if all(isinstance(value, np.ndarray) for value in found.values()) else None


def held(lock: FileLock) -> bool:
    """Whether some process holds this lock now. lock: a fresh one, not held by the caller through this object."""
    if not os.path.exists(lock.lock_file):
        return False  # it has never been taken
    with _probe:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False


def modified(path: Path) -> int:
    """Time of a file's or folder's last change in nanoseconds; 0 when it is not there, or was deleted since it was
    listed."""
    try:
        return path.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


def digest(path: Path) -> str:
    """Of a file's content, 16 hexadecimal digits, computed once per change; empty where there is no such file."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return ""
    return _digest(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _digest(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
