"""Where lessons are kept, how much room they may take, and who may remove them."""

import os
import shutil
from collections import namedtuple

import pytest

from kd import lessons
from kd.errors import UsageError
from kd.runs import Store
from kd.spec import RunSpec
from kd.store.files import write_json

Usage = namedtuple("Usage", "total used free")
FACTS = {"data": "abc", "size": 64, "flip": True}


@pytest.fixture
def store():
    return Store()


@pytest.fixture(autouse=True)
def roomy(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))


def teacher(store, seed=0):
    return store.create(RunSpec(model="resnet18", seed=seed))


def student(store, run, seed=0):
    return store.create(RunSpec(method="kd", teacher=run.id, seed=seed))


def kept(run, size=10_000, used=1000.0, **facts):
    """Lessons of this many bytes, last used at this time."""
    folder = lessons.folder_of(run, {**FACTS, **facts})
    folder.mkdir(parents=True)
    (folder / "logits.rows").write_bytes(bytes(size))
    write_json(folder / "meta.json", {**FACTS, **facts})
    os.utime(folder / "meta.json", (used, used))
    return folder


def bound(monkeypatch, size):
    monkeypatch.setenv("KD_LENS_LESSONS_GB", str(size / lessons.GB))


@pytest.mark.parametrize(("given", "bound"), [("", 20 * 10**9), ("0", 0), ("1.5", 1_500_000_000)])
def test_the_limit_is_an_environment_variable(monkeypatch, given, bound):
    monkeypatch.setenv("KD_LENS_LESSONS_GB", given)
    assert lessons.limit() == bound


@pytest.mark.parametrize("given", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_said(monkeypatch, given):
    monkeypatch.setenv("KD_LENS_LESSONS_GB", given)
    with pytest.raises(UsageError, match="must be a number of gigabytes"):
        lessons.limit()


def test_any_other_fact_is_another_folder(store):
    run = teacher(store)
    folder = lessons.folder_of(run, FACTS)
    assert folder == lessons.folder_of(run, dict(reversed(FACTS.items())))
    assert len({folder, *(lessons.folder_of(run, {**FACTS, name: "other"}) for name in FACTS)}) == 4
    assert run.path in folder.parents


def test_lessons_are_found_by_some_of_their_facts(store):
    run = teacher(store)
    assert lessons.find(run, data="abc") is None
    first, second = kept(run, used=5, size=1), kept(run, used=9, flip=False)
    assert lessons.find(run, data="abc", size=64) == (second, {**FACTS, "flip": False})
    assert lessons.find(run, data="abc", flip=True)[0] == first
    assert lessons.find(run, data="other") is None
    (second / "meta.json").write_text("{")
    assert lessons.find(run, data="abc")[0] == first


def test_a_teachers_lessons_are_freed_unless_somebody_learns(store):
    run = teacher(store)
    kept(run)
    kept(run, flip=False)
    pupil = student(store, run)
    with pupil.lock(), pytest.raises(UsageError, match=f"{pupil.id} learn from .* Wait for their end"):
        lessons.free(store, run)
    assert lessons.kept_bytes(run) > 20_000
    assert lessons.free(store, run) > 20_000
    assert lessons.kept_bytes(run) == lessons.free(store, run) == 0
    assert run.id in store


def test_deleting_the_teacher_deletes_its_lessons(store):
    run = teacher(store)
    folder = kept(run)
    store.delete(run.id)
    assert not folder.exists()


def test_what_fits_moves_nothing(store, monkeypatch):
    first, second = teacher(store), teacher(store, 1)
    old = kept(first)
    bound(monkeypatch, 50_000)
    assert lessons.make_room(store, student(store, second).id, lessons.folder_of(second, FACTS), 30_000) == ""
    assert old.exists()


def test_the_least_recently_used_goes_first_and_no_more_than_must(store, monkeypatch):
    runs = [teacher(store, seed) for seed in range(4)]
    new, old, older = (kept(run, used=used) for run, used in zip(runs, (30, 20, 10), strict=False))
    ask = store, student(store, runs[3]).id, lessons.folder_of(runs[3], FACTS)
    bound(monkeypatch, 35_000)
    assert lessons.make_room(*ask, 10_000, remove=False) == ""
    assert older.exists()
    assert lessons.make_room(*ask, 10_000) == ""
    assert [folder.exists() for folder in (new, old, older)] == [True, True, False]
    assert lessons.make_room(*ask, 30_000) == ""
    assert [folder.exists() for folder in (new, old, older)] == [False, False, False]


def test_what_is_read_or_waited_for_stays_and_nothing_goes_in_vain(store, monkeypatch):
    mine, busy, idle = (teacher(store, seed) for seed in range(3))
    own, read, unread = kept(mine, used=1), kept(busy, used=2), kept(idle, used=3)
    bound(monkeypatch, 35_000)
    with student(store, busy).lock():
        why = lessons.make_room(store, student(store, mine).id, own, 20_000)
        assert "KD_LENS_LESSONS_GB" in why
        assert "of the 3.5e-05 GB for lessons are used" in why
        assert all(folder.exists() for folder in (own, read, unread))
        assert lessons.make_room(store, student(store, mine).id, own, 10_000) == ""
    assert [folder.exists() for folder in (own, read, unread)] == [True, True, False]


def test_other_lessons_of_ones_own_teacher_go_only_when_nobody_else_learns(store, monkeypatch):
    run = teacher(store)
    own, other = kept(run), kept(run, flip=False)
    bound(monkeypatch, 25_000)
    me, pupil = student(store, run), student(store, run, seed=1)
    with me.lock():
        with pupil.lock():
            assert lessons.make_room(store, me.id, own, 10_000)
        assert lessons.make_room(store, me.id, own, 10_000) == ""
    assert [own.exists(), other.exists()] == [True, False]


def test_what_a_kill_left_half_removed_goes_first(store, monkeypatch):
    run, other = teacher(store), teacher(store, 1)
    whole = kept(run)
    half = kept(run, flip=False)
    half = half.rename(half.with_name(".gone-1"))
    bound(monkeypatch, 25_000)
    with student(store, run).lock():
        assert lessons.make_room(store, student(store, other).id, lessons.folder_of(other, FACTS), 10_000) == ""
    assert [whole.exists(), half.exists()] == [True, False]


def test_some_disk_stays_free_for_everything_else(store, monkeypatch):
    run = teacher(store)
    free = lessons.RESERVE + 5000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free))
    ask = store, student(store, run).id, lessons.folder_of(run, FACTS)
    assert lessons.make_room(*ask, 4000) == ""
    assert "the disk has 2 GB free, of which 2 GB stay free" in lessons.make_room(*ask, 6000)
    assert lessons.out_of_room(store) == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, lessons.RESERVE - 1))
    assert "the room has run out" in lessons.out_of_room(store)


def test_the_limit_is_watched_while_rows_come(store, monkeypatch):
    kept(teacher(store))
    bound(monkeypatch, 50_000)
    assert lessons.out_of_room(store) == ""
    bound(monkeypatch, 9_000)
    assert "the room has run out" in lessons.out_of_room(store)
