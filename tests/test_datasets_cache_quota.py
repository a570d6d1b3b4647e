"""What stays in the cache of decoded data sets, and what goes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_sets import make_folder, make_image, make_mask

from kd.datasets import cache, decode, open_dataset
from kd.datasets.base import Dataset, DatasetInfo, KnownSamples, Sample, Source
from kd.datasets.cache import cached_sets, clear, open_cached, remove_stale_builds
from kd.errors import UsageError
from kd.paths import Paths, default_paths

SIZE = 16
BYTES = 30 * SIZE * SIZE * 3  # of the pixels of one set below
PARTS = {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2}


def source(name: str, fingerprint: str = "") -> Source:
    """Thirty grey images."""

    def samples(size: int, known: KnownSamples) -> Iterator[Sample]:
        for number in range(30):
            yield Sample(str(number), number % 2, ("train", "val", "test")[number % 3],
                         np.full((size, size, 3), number, np.uint8))

    digest = fingerprint or name * 4
    return Source(name, f"/{name}", DatasetInfo(name), ("a", "b"), digest, 30, False, False, samples, lambda: digest)


@pytest.fixture
def paths() -> Paths:
    return default_paths()


def names(paths: Paths) -> list[str]:
    return sorted(one.reference[1:] for one in cached_sets(paths))


def opened(name: str, paths: Paths, used: float) -> None:
    """Open a set, let go of it, and say when that was."""
    open_cached(source(name), SIZE, paths)
    for one in cached_sets(paths):
        if one.reference == f"/{name}":
            os.utime(one.folder / "manifest.json", (used, used))


def test_the_least_recently_used_goes_first(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, used in (("a", 100.0), ("b", 200.0), ("c", 300.0)):
        opened(name, paths, used)
    monkeypatch.setenv("KD_LENS_DECODED_CACHE_GB", str(3 * cached_sets(paths)[0].bytes / 1e9))
    opened("a", paths, 400.0)
    opened("d", paths, 500.0)
    assert names(paths) == ["a", "c", "d"]


def test_what_is_in_use_stays_whatever_the_quota(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_LENS_DECODED_CACHE_GB", "0")
    held = open_cached(source("a"), SIZE, paths)
    opened("b", paths, 200.0)
    opened("c", paths, 300.0)
    assert names(paths) == ["a", "c"]
    assert held.train.images[1, 0, 0, 0] == 3


@pytest.mark.parametrize("value", ["many", "-1", "inf", "nan"])
def test_a_quota_that_is_no_size_is_refused(value: str, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_LENS_DECODED_CACHE_GB", value)
    with pytest.raises(UsageError, match="KD_LENS_DECODED_CACHE_GB must be a number of gigabytes"):
        open_cached(source("a"), SIZE, paths)


def test_a_full_disk_is_emptied_of_what_nobody_uses_before_a_set_is_refused(paths: Paths,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    opened("a", paths, 100.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(
        10**9, 0, BYTES - 1 + 10 * (not names(paths))))
    opened("b", paths, 200.0)
    assert names(paths) == ["b"]


def test_clearing_removes_all_but_what_is_in_use(paths: Paths) -> None:
    held = open_cached(source("a"), SIZE, paths)
    opened("b", paths, 200.0)
    before = {one.reference: one.bytes for one in cached_sets(paths)}
    assert min(before.values()) > BYTES
    assert clear(paths) == cache.Cleared(before["/b"], before["/a"])
    assert names(paths) == ["a"]
    del held
    assert clear(paths) == cache.Cleared(before["/a"], 0)
    assert clear(paths) == cache.Cleared(0, 0)


def test_a_map_outlives_the_file_that_it_is_of(paths: Paths) -> None:
    """As when somebody empties the folder by hand under a run."""
    held = open_cached(source("a"), SIZE, paths)
    shutil.rmtree(paths.cache)
    assert held.test.images[:, 0, 0, 0].tolist() == list(range(2, 30, 3))


def test_the_former_content_goes_when_the_new_one_is_complete(paths: Paths) -> None:
    open_cached(source("a", "old"), SIZE, paths)
    open_cached(source("a", "old"), 2 * SIZE, paths)
    open_cached(source("a", "new"), SIZE, paths)
    assert [one.fingerprint for one in cached_sets(paths)] == ["new"]


def test_the_former_content_stays_while_it_is_in_use(paths: Paths) -> None:
    held = open_cached(source("a", "old"), SIZE, paths)
    open_cached(source("a", "new"), SIZE, paths)
    assert len(cached_sets(paths)) == 2
    del held
    assert remove_stale_builds(paths) == ["old-16-v3"]


def test_sets_of_another_format_are_removed_and_built_again(paths: Paths) -> None:
    old = paths.cache / "aaaa-16-v1"
    old.mkdir(parents=True)
    (old / "train.images").write_bytes(b"bare pixels")
    (paths.cache / "digests").mkdir()
    (paths.cache / "digests" / "x.json").write_text("{}")
    open_cached(source("a"), SIZE, paths)
    assert sorted(path.name for path in paths.cache.iterdir() if path.is_dir()) == ["aaaa-16-v3", "digests"]
    assert (paths.cache / "digests" / "x.json").exists()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the image files that are decoded."""
    found: list[str] = []
    read = decode.read
    monkeypatch.setattr(decode, "read", lambda path, size: found.append(path.name) or read(path, size))
    return found


def same(one: Dataset, other: Dataset) -> bool:
    """Whether both hold the same but for where they lie."""
    return all(np.array_equal(ours.images, theirs.images) and np.array_equal(ours.labels, theirs.labels)
               and (ours.names, ours.groups) == (theirs.names, theirs.groups)
               and np.array_equal(ours.evidence, theirs.evidence)
               and np.array_equal(ours.has_evidence, theirs.has_evidence)
               for ours, theirs in zip(one.splits.values(), other.splits.values(), strict=True)
               ) and one.report == other.report


def test_one_more_image_is_one_image_decoded(tmp_path: Path, paths: Paths, reads: list[str]) -> None:
    folder = make_folder(tmp_path / "set", PARTS, size=(20, 10))
    make_mask(tmp_path / "set_masks/train/a/p001.png", size=(20, 10))
    make_mask(tmp_path / "set_masks/train/b/p002.png", size=(9, 30))  # of another shape than its image
    (folder / "train/a/p003.png").write_bytes(b"broken")
    open_dataset(str(folder), SIZE, paths)
    make_image(folder / "train/a/new.png", 99, size=(20, 10))
    reads.clear()
    found = open_dataset(str(folder), SIZE, paths)
    assert sorted(reads) == ["new.png", "p002.png", "p003.png"]
    assert same(found, open_dataset(str(folder), SIZE, Paths(tmp_path / "elsewhere")))


def test_a_changed_image_and_a_changed_mask_are_decoded_again(tmp_path: Path, paths: Paths,
                                                              reads: list[str]) -> None:
    folder = make_folder(tmp_path / "set", PARTS)
    make_mask(tmp_path / "set_masks/train/a/p001.png")
    open_dataset(str(folder), SIZE, paths)
    make_mask(tmp_path / "set_masks/train/a/p001.png", box=(3, 3, 9, 9))
    make_image(folder / "test/b/p000.png", 77)
    reads.clear()
    found = open_dataset(str(folder), SIZE, paths)
    assert sorted(reads) == ["p000.png", "p001.png"]
    assert same(found, open_dataset(str(folder), SIZE, Paths(tmp_path / "elsewhere")))


def test_an_image_that_moves_between_splits_keeps_its_pixels(tmp_path: Path, paths: Paths, reads: list[str]) -> None:
    folder = make_folder(tmp_path / "set", PARTS)
    open_dataset(str(folder), SIZE, paths)
    (folder / "train/a/p000.png").rename(folder / "test/b/moved.png")
    reads.clear()
    found = open_dataset(str(folder), SIZE, paths)
    assert not reads
    assert same(found, open_dataset(str(folder), SIZE, Paths(tmp_path / "elsewhere")))
