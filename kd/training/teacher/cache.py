"""Disk cache of teacher outputs: one per teacher and key, under one quota for all teachers, least recently used first.

`checkpoints/<teacher>/teacher_outputs/<digest of the key>/` holds row files (`kd.store.row_files`), one column per
output: view v of image i, of the N images of the train split, is row v·N + i. Of runs that are trained at once, one
computes a row: it claims it first (`kd.store.row_claims`). The key is everything that a row depends on, in clear in
`meta.json`; the number of views is not part of it. Deleting the teacher deletes its caches. Features of
frozen stages (`kd.training.frozen_features`) lie in the same way in `checkpoints/.frozen_features/`.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from numpy.typing import NDArray

from kd.errors import UsageError
from kd.store.files import write_json
from kd.store.quota import GB, quota_of
from kd.store.row_claims import RowClaims
from kd.store.row_files import Index, RowFiles, RowFormat, folder_size
from kd.store.runs import Run, Store

VERSION = 2  # of the rows; part of the key
DIRECTORY = "teacher_outputs"
STALE = "lessons"  # caches of versions before 2: never read, in the quota like all others, the first to be removed
EVENT, EVENT_BEFORE = "teacher_cache", "lessons"
FROZEN = ".frozen_features"  # stands where a teacher's id does for features of frozen stages, which all runs share
VARIABLE = "KD_LENS_TEACHER_CACHE_GB"
QUOTA = 20.0  # GB of all caches under one root: hours of a teacher's time, and a small part of today's disks
RESERVED = 2 * GB  # bytes of disk left free, so that weights can still be written
CHECK_EVERY = 64 * 2**20  # bytes written between two checks of quota and disk


class OutputCache:
    """Cached rows of one teacher under one key, read and filled by one student; empty until it is enabled.

    hits, misses: rows that the student needs and that were cached, or not, when it began. disabled: why rows are no
    longer written, in words, empty while they are; those on disk are still read. on_change: called when caching begins
    and when it ends early.
    """

    def __init__(self, directory: Path, formats: Mapping[str, RowFormat],
                 on_change: Callable[[], None] = lambda: None) -> None:
        self.directory, self.formats, self.on_change = directory, formats, on_change
        self.hits = self.misses = self._unchecked = 0
        self.disabled = "caching was not enabled"
        self._files, self._claims = RowFiles(None, formats), RowClaims()

    def enable(self, store: Store, student: Run, key: Mapping[str, Any], required: Iterable[Index]) -> None:
        """Read cached rows from now on, and write new ones if all that are required and missing fit the quota."""
        self._store, self._student = store, student.id
        if quota() == 0:
            self._stop(f"{VARIABLE} is 0")
            return
        self._files = RowFiles(self.directory, self.formats)
        self.hits, self.misses, missing_bytes = self._files.count(required)
        if self.misses and (reason := reserve(store, student.id, self.directory, missing_bytes)):
            self._stop(reason)
            return
        try:
            self._files = RowFiles(self.directory, self.formats, write=True)
            self._claims = RowClaims(self.directory / f"{'+'.join(sorted(self.formats)).replace(':', '-')}.claims")
            write_json(self.directory / "meta.json", dict(key))  # its time is when this cache was last used
        except OSError as error:
            self._stop(_refused(error))
            return
        self.disabled = ""
        self.on_change()

    def read(self, index: Index) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        """Rows [B, …] by output, and which of them are hits [B]; the others hold anything."""
        return self._files.read(index)

    def write(self, index: Index, rows: Mapping[str, NDArray[Any]]) -> None:
        """Cache rows [B, …]. An OSError or a used-up quota ends caching and is no error."""
        try:
            self._unchecked += self._files.write(index, rows)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._release()
            self._stop(_refused(error))
            return
        if self._unchecked > CHECK_EVERY:
            self._unchecked = 0
            if reason := quota_exceeded(self._store):
                self._stop(reason)

    def claim(self, index: Index, most: int) -> list[int]:
        """Positions of the first rows, at most so many, that no other process computes; they are this one's now, until
        it releases them. All are where nothing is written."""
        return self._claims.take(index, most)

    def release(self, index: Index) -> None:
        """Give claimed rows back, which are written now, or will not be."""
        self._claims.release(index)

    def usage(self) -> dict[str, Any]:
        """hits, misses, bytes on disk now, and disabled, as above."""
        return {"hits": self.hits, "misses": self.misses, "bytes": folder_size(self.directory),
                "disabled": self.disabled}

    def _release(self) -> None:
        """Remove the cache from a full disk, where the student's own weights must still be written."""
        if discard(self._store, self._student, self.directory):
            self._files = RowFiles(None, self.formats)  # closes the files, which frees their space

    def _stop(self, reason: str) -> None:
        self.disabled, self._claims = reason, RowClaims()
        self.on_change()


def quota() -> int:
    """Quota in bytes of all caches under one root (KD_LENS_TEACHER_CACHE_GB, default 20); 0: no caching.

    Raises UsageError unless the variable is a number from 0 up.
    """
    return quota_of(VARIABLE, QUOTA) if hasattr(os, "pwrite") else 0


def cache_dir(teacher: Run, key: Mapping[str, Any]) -> Path:
    """Directory of the teacher's cache with exactly this key."""
    text = json.dumps(key, sort_keys=True)
    return teacher.path / DIRECTORY / hashlib.sha256(text.encode()).hexdigest()[:16]


def find(teacher: Run, /, **part: Any) -> tuple[Path, dict[str, Any]] | None:
    """(directory, key) of the teacher's most recently used cache whose key has these values, a value of None standing
    for a key without it; None without any."""
    found = []
    for meta in (teacher.path / DIRECTORY).glob("[!.]*/meta.json"):
        try:
            key, used = json.loads(meta.read_text()), meta.stat().st_mtime
        except (FileNotFoundError, ValueError):  # being removed, or damaged
            continue
        if all(key.get(name) == value for name, value in part.items()):
            found.append((used, meta.parent, key))
    return max(found, key=lambda entry: entry[0])[1:] if found else None


def frozen_features_owner(store: Store) -> Run:
    """The folder that the features of frozen stages are cached in, as those of a teacher are in its run's."""
    return Run(store.path / FROZEN)


def cache_bytes(teacher: Run) -> int:
    """Bytes on disk of all caches of one teacher."""
    return sum(folder_size(teacher.path / name) for name in (DIRECTORY, STALE))


def recorded_usage(student: Run) -> dict[str, Any] | None:
    """hits, misses, computed, bytes and disabled, as a student's run last logged them; None before it has."""
    event = student.last_event(EVENT, EVENT_BEFORE)
    if event is None or event["event"] == EVENT:
        return event
    return {"hits": event["kept"], "misses": event["missing"], "computed": event["taught"], "bytes": event["bytes"],
            "disabled": event["why"]}


def clear(store: Store, teacher: Run) -> int:
    """Remove all caches of a teacher; returns the bytes freed. Raises UsageError while students of it train or wait."""
    students = [run.id for run in store if run.spec.teacher == teacher.id and run.is_locked()]
    if students:
        raise UsageError(f"{', '.join(students)} learn from {teacher.id} now. Wait for their end, or cancel them "
                         "first.")
    freed = cache_bytes(teacher)
    for name in (DIRECTORY, STALE):
        for directory in list((teacher.path / name).glob("*")):
            _remove(directory)
    return freed


def reserve(store: Store, student: str, own: Path, needed: int, remove: bool = True) -> str:
    """Reason in words why `needed` more bytes do not fit; empty when they do.

    Where they do not, caches that are not in use are removed, the least recently used first, unless that would not be
    enough. student, own: the run that will write them, and its cache, which stays. remove: False only checks.
    """
    store.path.mkdir(parents=True, exist_ok=True)
    with FileLock(store.path / ".teacher_cache.lock", thread_local=False):
        excess, reason = _excess(store, needed)
        if excess <= 0:
            return ""
        chosen = []
        for directory in _unused(store, student, own):
            if excess > 0:
                chosen.append(directory)
                excess -= folder_size(directory)
        if excess > 0:
            return reason
        for directory in chosen if remove else ():
            _remove(directory)
        return ""


def quota_exceeded(store: Store) -> str:
    """Reason in words why nothing more should be cached now; empty while there is room."""
    excess, reason = _excess(store, 0)
    return reason if excess > 0 else ""


def discard(store: Store, student: str, directory: Path) -> bool:
    """Remove a cache unless a run other than `student` learns from its teacher; returns whether."""
    unused = directory.parent.parent.name not in _teachers_in_use(store, student)
    if unused:
        _remove(directory)
    return unused


def _excess(store: Store, needed: int) -> tuple[int, str]:
    """(bytes too many, 0 or less when they fit; why in words) for the quota and the disk, whichever is tighter."""
    used = sum(folder_size(path) for name in (DIRECTORY, STALE) for path in store.path.glob(f"*/{name}"))
    free = shutil.disk_usage(store.path).free
    over, short = used + needed - quota(), needed + RESERVED - free
    takes = f"it would take up to {needed / GB:.3g} GB more" if needed else "no room is left"
    if over >= short:
        return over, (f"{takes}, and {used / GB:.3g} GB of the quota of {quota() / GB:.3g} GB are used (set {VARIABLE}"
                      ", or clear other teachers' caches)")
    return short, f"{takes}, and the disk has {free / GB:.3g} GB free, of which {RESERVED / GB:.3g} GB stay free"


def _unused(store: Store, student: str, own: Path) -> Iterator[Path]:
    """Caches that no run reads or waits to read, the least recently used first."""
    in_use = _teachers_in_use(store, student)
    found = [(_last_used(path), path) for name in (DIRECTORY, STALE) for path in store.path.glob(f"*/{name}/*")
             if path != own and (_unreadable(path) or path.parent.parent.name not in in_use)]
    return (path for _, path in sorted(found))


def _teachers_in_use(store: Store, student: str) -> set[str]:
    """Ids of teachers that a run other than `student` uses or is queued to use; FROZEN where one has frozen stages."""
    using = [run.spec for run in store if (run.spec.teacher or run.spec.frozen_stages) and run.id != student
             and run.is_locked()]
    return {spec.teacher for spec in using if spec.teacher} | {FROZEN for spec in using if spec.frozen_stages}


def _unreadable(directory: Path) -> bool:
    """Whether it was written by an older version, or removed in part."""
    return directory.parent.name == STALE or directory.name.startswith(".")


def _last_used(directory: Path) -> float:
    """Time of the last use; 0 where nothing can be read."""
    try:
        return 0.0 if _unreadable(directory) else (directory / "meta.json").stat().st_mtime
    except OSError:
        return 0.0


def _remove(directory: Path) -> None:
    """Remove a cache. It is renamed first, so that a reader finds all of it or nothing."""
    removed = directory.with_name(f".removed-{time.time_ns()}")
    try:
        os.replace(directory, removed)
    except FileNotFoundError:  # removed by another process meanwhile
        return
    shutil.rmtree(removed, ignore_errors=True)


def _refused(error: OSError) -> str:
    return f"the disk refuses to store them ({error.strerror or error})"
