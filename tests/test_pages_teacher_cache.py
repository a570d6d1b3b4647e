"""The teacher cache on the pages: hits, size, and the button that clears it."""

import pytest
from fabricate import epochs, trio
from test_pages_distill import page as distil
from test_pages_home import idle, words  # noqa: F401  (a fixture)
from test_pages_runs import page, press

from kd.store.files import write_json
from kd.store.row_files import folder_size
from kd.store.runs import Run, Store
from kd.training.teacher import cache
from pages.parts.distill import teacher_cache

USAGE = {"hits": 87, "misses": 13, "computed": 0, "bytes": 41_000_000, "disabled": ""}
BEFORE = {"kept": 87, "missing": 13, "share": 0.87, "taught": 0, "bytes": 41_000_000, "live": False, "why": ""}


def fill(teacher: Run) -> int:
    folder = cache.cache_dir(teacher, {"size": 64})
    folder.mkdir(parents=True)
    (folder / "logits.rows").write_bytes(bytes(41_000))
    write_json(folder / "meta.json", {"size": 64})
    return folder_size(folder)


@pytest.mark.parametrize(("changes", "text"), [
    ({}, "Teacher cache: 87 % hits, 41 MB"),
    ({"hits": 1999, "misses": 1}, "Teacher cache: 99 % hits, 41 MB"),
    ({"misses": 0}, "Teacher cache: 100 % hits, 41 MB"),
    ({"hits": 0, "misses": 0, "bytes": 0, "disabled": "the disk is small"},
     "Teacher cache: 0 % hits, 0 B · new outputs are not cached: the disk is small")])
def test_in_words(changes, text):
    assert teacher_cache.describe({**USAGE, **changes}) == text


@pytest.mark.parametrize(("event", "values"), [("teacher_cache", USAGE), ("lessons", BEFORE)])
def test_a_student_shows_its_hits_also_as_older_versions_logged_them(event, values):
    student = trio(Store())[2]
    assert "Teacher cache" not in words(page(run=student.id))
    student.log(event, **values)
    assert "Teacher cache: 87 % hits, 41 MB" in words(page(run=student.id))


def test_a_live_distillation_shows_them_too():
    runs = trio(Store(), done=False)
    for run in runs:
        epochs(run, 2)
    runs[2].log("teacher_cache", **USAGE)
    assert "Teacher cache: 87 % hits, 41 MB" in words(distil(run=runs[2].id))


def test_a_teachers_cache_can_be_cleared_unless_a_student_is_training():
    store = Store()
    teacher, _, student = trio(store)
    assert "Teacher cache" not in words(page(run=teacher.id))
    used = fill(teacher)
    with student.lock():
        at = press(page(run=teacher.id), "Clear teacher cache")
        assert "learn from" in at.error[0].value
    assert cache.cache_bytes(teacher) == used
    at = press(page(run=teacher.id), "Clear teacher cache")
    assert cache.cache_bytes(teacher) == 0
    assert "Teacher cache" not in words(at)
