"""Where teacher outputs are cached, how much disk they may take, and when they are removed."""

import os
import shutil
from collections import namedtuple

import pytest

from kd.errors import UsageError
from kd.spec import RunSpec
from kd.store.files import write_json
from kd.store.runs import Store
from kd.training.teacher import cache

Usage = namedtuple("Usage", "total used free")
KEY = {"data": "abc", "size": 64, "flip": True}


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


def cached(run, size=10_000, used=1000.0, **part):
    """A cache of this many bytes, last used at this time."""
    directory = cache.cache_dir(run, {**KEY, **part})
    directory.mkdir(parents=True)
    (directory / "logits.rows").write_bytes(bytes(size))
    write_json(directory / "meta.json", {**KEY, **part})
    os.utime(directory / "meta.json", (used, used))
    return directory


def bound(monkeypatch, size):
    monkeypatch.setenv("KD_LENS_TEACHER_CACHE_GB", str(size / cache.GB))


@pytest.mark.parametrize(("given", "bound"), [("", 20 * 10**9), ("0", 0), ("1.5", 1_500_000_000)])
def test_the_quota_is_an_environment_variable(monkeypatch, given, bound):
    monkeypatch.setenv("KD_LENS_TEACHER_CACHE_GB", given)
    assert cache.quota() == bound


@pytest.mark.parametrize("given", ["much", "-1", "nan", "inf"])
def test_an_invalid_quota_is_an_error(monkeypatch, given):
    monkeypatch.setenv("KD_LENS_TEACHER_CACHE_GB", given)
    with pytest.raises(UsageError, match="must be a number of gigabytes"):
        cache.quota()


def test_another_key_is_another_directory(store):
    run = teacher(store)
    directory = cache.cache_dir(run, KEY)
    assert directory == cache.cache_dir(run, dict(reversed(KEY.items())))
    assert len({directory, *(cache.cache_dir(run, {**KEY, name: "other"}) for name in KEY)}) == 4
    assert run.path in directory.parents


def test_a_cache_is_found_by_a_part_of_its_key(store):
    run = teacher(store)
    assert cache.find(run, data="abc") is None
    first, second = cached(run, used=5, size=1), cached(run, used=9, flip=False)
    assert cache.find(run, data="abc", size=64) == (second, {**KEY, "flip": False})
    assert cache.find(run, data="abc", flip=True)[0] == first
    assert cache.find(run, data="other") is None
    (second / "meta.json").write_text("{")
    assert cache.find(run, data="abc")[0] == first


def test_a_teachers_cache_is_cleared_unless_a_student_is_training(store):
    run = teacher(store)
    cached(run)
    cached(run, flip=False)
    other = student(store, run)
    with other.lock(), pytest.raises(UsageError, match=f"{other.id} learn from .* Wait for their end"):
        cache.clear(store, run)
    assert cache.cache_bytes(run) > 20_000
    assert cache.clear(store, run) > 20_000
    assert cache.cache_bytes(run) == cache.clear(store, run) == 0
    assert run.id in store


def test_deleting_the_teacher_deletes_its_cache(store):
    run = teacher(store)
    directory = cached(run)
    store.delete(run.id)
    assert not directory.exists()


def test_what_fits_removes_nothing(store, monkeypatch):
    first, second = teacher(store), teacher(store, 1)
    old = cached(first)
    bound(monkeypatch, 50_000)
    assert cache.reserve(store, student(store, second).id, cache.cache_dir(second, KEY), 30_000) == ""
    assert old.exists()


def test_the_least_recently_used_goes_first_and_no_more_than_must(store, monkeypatch):
    runs = [teacher(store, seed) for seed in range(4)]
    new, old, older = (cached(run, used=used) for run, used in zip(runs, (30, 20, 10), strict=False))
    ask = store, student(store, runs[3]).id, cache.cache_dir(runs[3], KEY)
    bound(monkeypatch, 35_000)
    assert cache.reserve(*ask, 10_000, remove=False) == ""
    assert older.exists()
    assert cache.reserve(*ask, 10_000) == ""
    assert [directory.exists() for directory in (new, old, older)] == [True, True, False]
    assert cache.reserve(*ask, 30_000) == ""
    assert [directory.exists() for directory in (new, old, older)] == [False, False, False]


def test_what_is_read_or_waited_for_stays_and_nothing_goes_in_vain(store, monkeypatch):
    mine, busy, idle = (teacher(store, seed) for seed in range(3))
    own, read, unread = cached(mine, used=1), cached(busy, used=2), cached(idle, used=3)
    bound(monkeypatch, 35_000)
    with student(store, busy).lock():
        why = cache.reserve(store, student(store, mine).id, own, 20_000)
        assert "KD_LENS_TEACHER_CACHE_GB" in why
        assert "of the quota of 3.5e-05 GB are used" in why
        assert all(directory.exists() for directory in (own, read, unread))
        assert cache.reserve(store, student(store, mine).id, own, 10_000) == ""
    assert [directory.exists() for directory in (own, read, unread)] == [True, True, False]


def test_other_caches_of_the_same_teacher_are_removed_only_without_other_students(store, monkeypatch):
    run = teacher(store)
    own, other = cached(run), cached(run, flip=False)
    bound(monkeypatch, 25_000)
    me, classmate = student(store, run), student(store, run, seed=1)
    with me.lock():
        with classmate.lock():
            assert cache.reserve(store, me.id, own, 10_000)
        assert cache.reserve(store, me.id, own, 10_000) == ""
    assert [own.exists(), other.exists()] == [True, False]


def test_what_a_kill_left_half_removed_goes_first(store, monkeypatch):
    run, other = teacher(store), teacher(store, 1)
    whole = cached(run)
    half = cached(run, flip=False)
    half = half.rename(half.with_name(".removed-1"))
    bound(monkeypatch, 25_000)
    with student(store, run).lock():
        assert cache.reserve(store, student(store, other).id, cache.cache_dir(other, KEY), 10_000) == ""
    assert [whole.exists(), half.exists()] == [True, False]


def test_some_disk_stays_free_for_everything_else(store, monkeypatch):
    run = teacher(store)
    free = cache.RESERVED + 5000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free))
    ask = store, student(store, run).id, cache.cache_dir(run, KEY)
    assert cache.reserve(*ask, 4000) == ""
    assert "the disk has 2 GB free, of which 2 GB stay free" in cache.reserve(*ask, 6000)
    assert cache.quota_exceeded(store) == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, cache.RESERVED - 1))
    assert "no room is left" in cache.quota_exceeded(store)


def test_the_quota_is_watched_while_rows_come(store, monkeypatch):
    cached(teacher(store))
    bound(monkeypatch, 50_000)
    assert cache.quota_exceeded(store) == ""
    bound(monkeypatch, 9_000)
    assert "no room is left" in cache.quota_exceeded(store)


@pytest.fixture
def outdated():
    """A function that makes the cache of a teacher as versions before this one left it, in bytes."""
    def make(run, size=10_000):
        directory = run.path / "lessons" / "0123456789abcdef"
        directory.mkdir(parents=True)
        (directory / "logits.rows").write_bytes(bytes(size))
        write_json(directory / "meta.json", KEY)
        return directory

    return make


def test_a_cache_of_an_older_version_is_never_read_but_counted_and_cleared(store, monkeypatch, outdated):
    run = teacher(store)
    directory = outdated(run)
    assert cache.find(run) is None
    assert cache.cache_bytes(run) > 10_000
    bound(monkeypatch, 9_000)
    assert "no room is left" in cache.quota_exceeded(store)
    assert cache.clear(store, run) > 10_000
    assert not directory.exists()
    assert cache.cache_bytes(run) == 0


def test_a_cache_of_an_older_version_is_removed_first_also_of_a_teacher_in_use(store, monkeypatch, outdated):
    run, other = teacher(store), teacher(store, 1)
    old, unused = outdated(run), cached(other, used=1)
    bound(monkeypatch, 25_000)
    with student(store, run).lock():
        assert cache.reserve(store, student(store, other, 2).id, cache.cache_dir(run, KEY), 10_000) == ""
    assert [old.exists(), unused.exists()] == [False, True]


def test_usage_is_read_as_any_version_logged_it(store):
    run = student(store, teacher(store))
    assert cache.recorded_usage(run) is None
    run.log("lessons", kept=87, missing=13, share=0.87, taught=5, bytes=41, live=True, why="the disk is small")
    assert cache.recorded_usage(run) == {"hits": 87, "misses": 13, "computed": 5, "bytes": 41,
                                         "disabled": "the disk is small"}
    now = {"hits": 1, "misses": 2, "computed": 3, "bytes": 4, "disabled": ""}
    run.log("teacher_cache", **now)
    assert cache.recorded_usage(run).items() >= now.items()
