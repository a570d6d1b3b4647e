"""What pages say of a teacher's kept answers."""

import pytest
from fabricate import epochs, trio
from test_pages_distill import page as distil
from test_pages_home import idle, words  # noqa: F401  (a fixture)
from test_pages_runs import page, press

from kd import lessons
from kd.runs import Run, Store
from kd.shelf import folder_size
from kd.store.files import write_json
from pages.parts import lessons_view

TOLD = {"kept": 87, "missing": 13, "share": 0.87, "taught": 0, "bytes": 41_000_000, "live": False, "why": ""}


def keep(teacher: Run) -> int:
    folder = lessons.folder_of(teacher, {"size": 64})
    folder.mkdir(parents=True)
    (folder / "logits.rows").write_bytes(bytes(41_000))
    write_json(folder / "meta.json", {"size": 64})
    return folder_size(folder)


@pytest.mark.parametrize(("changes", "text"), [
    ({}, "Teacher's answers: 87.0 % kept from before, 41 MB on disk"),
    ({"share": 1.0}, "Teacher's answers: all kept from before, 41 MB on disk"),
    ({"share": 0.0, "bytes": 0, "live": True, "why": "the disk is small"},
     "Teacher's answers: none kept from before, 0 B on disk · the rest is not kept: the disk is small")])
def test_in_words(changes, text):
    assert lessons_view.words({**TOLD, **changes}) == text


def test_a_student_says_what_it_read():
    student = trio(Store())[2]
    assert "kept from before" not in words(page(run=student.id))
    student.log("lessons", **TOLD)
    assert "87.0 % kept from before" in words(page(run=student.id))


def test_a_live_distillation_says_it_too():
    runs = trio(Store(), done=False)
    for run in runs:
        epochs(run, 2)
    runs[2].log("lessons", **TOLD)
    assert "87.0 % kept from before" in words(distil(run=runs[2].id))


def test_a_teachers_answers_can_be_freed_unless_somebody_learns():
    store = Store()
    teacher, _, student = trio(store)
    assert "are kept" not in words(page(run=teacher.id))
    kept = keep(teacher)
    with student.lock():
        at = press(page(run=teacher.id), "Free")
        assert "learn from" in at.error[0].value
    assert lessons.kept_bytes(teacher) == kept
    at = press(page(run=teacher.id), "Free")
    assert lessons.kept_bytes(teacher) == 0
    assert "are kept" not in words(at)
