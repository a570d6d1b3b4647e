"""What teachers said, kept on disk for every student that learns from the same teacher, bounded, and freed on demand.

`checkpoints/<teacher>/lessons/<key>/` is a shelf (`kd.shelf`) with one column for each aspect: view v of image i, of
the N images of the train split, is row v·N + i. The key is a digest of all that a row depends on, in clear in
`meta.json`; how many views there are is not among it. Deleting the teacher deletes its lessons.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from kd.errors import UsageError
from kd.runs import Run, Store
from kd.shelf import folder_size

FOLDER = "lessons"
VERSION = 1
GB = 10**9
LIMIT = 20.0  # GB of all lessons under one root: hours of a teacher's time, and a small part of today's disks
RESERVE = 2 * GB  # bytes of disk left to everything else: weights must still be written
STRIDE = 64 * 2**20  # bytes written between two looks at what room is left


def limit() -> int:
    """Bytes that all lessons under one root may take (KD_LENS_LESSONS_GB, default 20); 0: none are kept or read.

    Raises UsageError unless the variable is a number from 0 up.
    """
    given = os.environ.get("KD_LENS_LESSONS_GB") or str(LIMIT)
    try:
        bound = float(given)
    except ValueError:
        bound = -1.0
    if not 0 <= bound < float("inf"):
        raise UsageError(f"KD_LENS_LESSONS_GB must be a number of gigabytes, 0 or more, not {given!r}.")
    return int(bound * GB) if hasattr(os, "pwrite") else 0


def folder_of(run: Run, facts: Mapping[str, Any]) -> Path:
    """Where the lessons of this teacher lie that depend on exactly these facts."""
    text = json.dumps(facts, sort_keys=True)
    return run.path / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:16]


def find(run: Run, **facts: Any) -> tuple[Path, dict[str, Any]] | None:
    """(folder, all its facts) of the lessons of this teacher in which these facts hold, used last; None without any."""
    found = []
    for meta in (run.path / FOLDER).glob("[!.]*/meta.json"):
        try:
            known, used = json.loads(meta.read_text()), meta.stat().st_mtime
        except (FileNotFoundError, ValueError):  # being freed, or damaged
            continue
        if facts.items() <= known.items():
            found.append((used, meta.parent, known))
    return max(found, key=lambda one: one[0])[1:] if found else None


def kept_bytes(run: Run) -> int:
    """Bytes on disk of all lessons of one teacher."""
    return folder_size(run.path / FOLDER)


def free(store: Store, run: Run) -> int:
    """Remove all lessons of a teacher; gives the bytes freed. Raises UsageError while students of it train or wait."""
    if readers := _students(store, run.id):
        raise UsageError(f"{', '.join(readers)} learn from {run.id} now. Wait for their end, or cancel them first.")
    freed = kept_bytes(run)
    for folder in list((run.path / FOLDER).glob("*")):
        _remove(folder)
    return freed


def make_room(store: Store, reader: str, own: Path, need: int, remove: bool = True) -> str:
    """Empty when `need` more bytes can be kept, else why not, in words.

    Where they cannot, lessons that nobody reads now go, those first that were not used for longest, unless that would
    not help. reader, own: which run asks, and for which folder, which stays. remove: False only asks.
    """
    store.path.mkdir(parents=True, exist_ok=True)
    with FileLock(store.path / ".lessons.lock", thread_local=False):
        lacking, why = _shortage(store, need)
        if lacking <= 0:
            return ""
        chosen = []
        for folder in _idle(store, reader, own):
            if lacking > 0:
                chosen.append(folder)
                lacking -= folder_size(folder)
        if lacking > 0:
            return why
        for folder in chosen if remove else ():
            _remove(folder)
        return ""


def out_of_room(store: Store) -> str:
    """Why nothing more should be kept at this moment, in words; empty while there is room."""
    lacking, why = _shortage(store, 0)
    return why if lacking > 0 else ""


def drop(store: Store, reader: str, folder: Path) -> bool:
    """Remove lessons that are in the way, unless another student than `reader` learns from the teacher; whether."""
    alone = folder.parent.parent.name not in _busy(store, reader)
    if alone:
        _remove(folder)
    return alone


def _shortage(store: Store, need: int) -> tuple[int, str]:
    """(Bytes too few, 0 or less when it fits; why in words) of the limit and of the disk, whichever is tighter."""
    used = sum(folder_size(folder) for folder in store.path.glob(f"*/{FOLDER}"))
    free_now = shutil.disk_usage(store.path).free
    over, short = used + need - limit(), need + RESERVE - free_now
    takes = f"they take up to {need / GB:.3g} GB more" if need else "the room has run out"
    if over >= short:
        return over, (f"{takes}, and {used / GB:.3g} GB of the {limit() / GB:.3g} GB for lessons are used (set "
                      "KD_LENS_LESSONS_GB, or free lessons of other teachers)")
    return short, f"{takes}, and the disk has {free_now / GB:.3g} GB free, of which {RESERVE / GB:.3g} GB stay free"


def _idle(store: Store, reader: str, own: Path) -> Iterator[Path]:
    """Folders of lessons that nobody reads or waits to read, the least recently used first."""
    busy = _busy(store, reader)
    found = [(_used(folder), folder) for folder in store.path.glob(f"*/{FOLDER}/*")
             if folder != own and (folder.name.startswith(".") or folder.parent.parent.name not in busy)]
    return (folder for _, folder in sorted(found))


def _busy(store: Store, reader: str) -> set[str]:
    """Teachers from whom a run other than `reader` learns or waits to learn."""
    return {run.spec.teacher for run in store if run.spec.teacher and run.id != reader and run.held()}


def _used(folder: Path) -> float:
    """When it was last used; what is without its facts is of no use to anybody."""
    try:
        return (folder / "meta.json").stat().st_mtime
    except OSError:
        return 0.0


def _students(store: Store, teacher: str) -> list[str]:
    return [run.id for run in store if run.spec.teacher == teacher and run.held()]


def _remove(folder: Path) -> None:
    """Renamed first: whoever comes meanwhile finds all of it or nothing."""
    grave = folder.with_name(f".gone-{time.time_ns()}")
    try:
        os.replace(folder, grave)
    except FileNotFoundError:  # somebody else was faster
        return
    shutil.rmtree(grave, ignore_errors=True)
