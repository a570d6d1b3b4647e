"""A distillation whose student was quantised, made once for all tests of a process."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from small import distilled, small_data, trained

from kd.export.run import export
from kd.paths import Paths
from kd.store.groups import Distillation, distillation_of
from kd.store.runs import Store


@cache
def _made_once() -> tuple[Path, str]:
    folder = Path(tempfile.mkdtemp(prefix="kd-lens-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = Store(Paths(folder))
    fingerprint = small_data(store.paths).fingerprint
    teacher = trained(store, depth=2, width=8, data_fingerprint=fingerprint)  # of a grid that can be compared on
    trio = distilled(store, teacher=teacher.id)
    export(store, trio.student, int8=True)
    return folder, trio.student.id


def quantised() -> tuple[Store, Distillation]:
    """Its store, not to be changed, and teacher, control and student."""
    folder, student = _made_once()
    store = Store(Paths(folder))
    trio = distillation_of(store, store[student])
    assert trio, "all three were trained"
    return store, trio


def copied(folder: Path) -> tuple[Store, Distillation]:
    """As `quantised`, under a root of the test's own."""
    first, student = _made_once()
    shutil.copytree(first, folder, dirs_exist_ok=True)
    store = Store(Paths(folder))
    trio = distillation_of(store, store[student])
    assert trio, "all three were trained"
    return store, trio
