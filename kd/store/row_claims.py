"""Claims of rows by the processes that compute them, so that each row is computed once.

A claim is a lock on one byte of a file, which the system takes back when its process ends in any way, so that there are
no stale ones. Claims only save work: where locks are not to be had, each process has every claim, and rows that two
processes have written are the same. Two threads of one process have the same claims.
"""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

from kd.store.row_files import Index, open_file

if sys.platform != "win32":
    import fcntl

HELD = (errno.EACCES, errno.EAGAIN)  # by another process, as POSIX names it


class RowClaims:
    """Claims of rows by this process. path: of the file that they are locked in, which is created; None where every
    claim is granted. Raises OSError where it cannot be created."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = open_file(path, True, self) if path and sys.platform != "win32" else None

    def take(self, index: Index, most: int) -> list[int]:
        """Claim the first rows of these, at most so many, that no other process has; returns their positions."""
        taken: list[int] = []
        for place, number in enumerate(index.tolist()):
            if len(taken) == most:
                break
            if self._lock(number):
                taken.append(place)
        return taken

    def release(self, index: Index) -> None:
        """Give these rows back."""
        if self._file is None or sys.platform == "win32":
            return
        with suppress(OSError):
            for number in index.tolist():
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number, os.SEEK_SET)

    def _lock(self, number: int) -> bool:
        if self._file is None or sys.platform == "win32":
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number, os.SEEK_SET)
        except OSError as error:
            if error.errno in HELD:
                return False
            self._file = None  # a file system without locks: go on without claims
        return True
