"""Remains of killed and failed writes in a store, which nobody reads."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from kd.store.runs import FINISHED, Run, Store

AGE = 3600.0  # seconds; what is younger may still be written


def remove(store: Store) -> int:
    """Remove old part files, folders of deleted runs, and resume states of finished runs that nobody holds; returns the
    bytes freed. What cannot be removed stays, and nothing is raised."""
    return sum(_removed(path) for path in found(store))


def found(store: Store) -> list[Path]:
    """What `remove` would remove."""
    parts = [path for pattern in (".*.part", "*/.*.part", "*/*/.*.part", "*/*/*/.*.part")
             for path in store.path.glob(pattern)]
    states = [path for path in store.path.glob("*/resume.pt") if Run(path.parent).status == FINISHED]
    unowned = [path for path in (*parts, *states) if not _owner(store, path).is_locked()]
    return [path for path in (*store.path.glob(".deleted-*"), *unowned) if _age(path) > AGE]


def _owner(store: Store, path: Path) -> Run:
    return Run(store.path / path.relative_to(store.path).parts[0])


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_ctime  # of a renamed folder, since then
    except OSError:
        return 0.0


def _removed(path: Path) -> int:
    size = 0
    with suppress(OSError):
        if path.is_dir():
            size = sum(inner.lstat().st_size for inner in path.rglob("*"))
            shutil.rmtree(path, ignore_errors=True)
        else:
            size = path.lstat().st_size
            os.unlink(path)
    return size
