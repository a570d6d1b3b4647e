"""Decoded once: whole or not there, built by one process, mapped and never loaded."""

import errno
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from made_sets import make_folder, make_image
from waiting import PATIENCE

from kd.datasets import cache, decoded_files, open_dataset
from kd.datasets.base import DatasetInfo, KnownSamples, Sample, Skipped, Source
from kd.datasets.cache import open_cached, remove_stale_builds
from kd.errors import UsageError
from kd.paths import Paths, default_paths

PARTS = {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2}


def make_source(count: int = 8, masked: bool = True, reads: list[int] | None = None) -> Source:
    """A source whose image i is filled with i; image 5 is bad, every third has a mask."""

    def samples(size: int, known: KnownSamples) -> Iterator[Sample | Skipped]:
        if reads is not None:
            reads.append(size)
        for number in range(count):
            if number == 5:
                yield Skipped("5", "broken")
                continue
            mask = np.full((size, size), 255, np.uint8) if masked and number % 3 == 0 else None
            yield Sample(str(number), number % 2, ("train", "val", "test")[number % 3],
                         np.full((size, size, 3), number, np.uint8), mask, f"g{number}", frozenset({"fitted"}))

    return Source("set", "/set", DatasetInfo("Set"), ("a", "b"), "f" * 8, count, masked, True, samples, lambda: "f" * 8)


def cached_folders(paths: Paths) -> list[Path]:
    return sorted(path for path in paths.cache.iterdir() if path.is_dir() and path.name != "digests")


def test_what_goes_in_comes_out_in_order() -> None:
    data = open_cached(make_source(), 16, default_paths())
    assert [split.names for split in data.splits.values()] == [("0", "3", "6"), ("1", "4", "7"), ("2",)]
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 3, 6]
    assert data.train.labels.tolist() == [0, 1, 0]
    assert data.train.groups == ("g0", "g3", "g6")
    assert data.train.has_evidence.tolist() == [True] * 3 and (data.train.evidence == 255).all()
    assert data.val.has_evidence.tolist() == [False] * 3 and (data.val.evidence == 0).all()
    assert data.report.skipped == (("5", "broken"),)
    assert data.report.notes[0].startswith("7 of 7 images are not square: fitted")


def test_arrays_are_read_only_maps_of_files() -> None:
    data = open_cached(make_source(), 16, default_paths())
    for array in (data.train.images, data.train.evidence):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_part_without_images_is_an_empty_array() -> None:
    data = open_cached(make_source(count=2), 16, default_paths())
    assert data.test.images.shape == (0, 16, 16, 3) and len(data.test) == 0


def test_images_are_read_once_per_size_and_content() -> None:
    reads: list[int] = []
    source, paths = make_source(reads=reads), default_paths()
    for size in (16, 16, 32, 16):
        open_cached(source, size, paths)
    open_cached(replace(source, fingerprint="g" * 8, digest=lambda: "g" * 8), 16, paths)
    assert reads == [16, 32, 16]


def test_facts_come_from_where_the_set_lies_now() -> None:
    open_cached(make_source(), 16, default_paths())
    moved = replace(make_source(), name="other", info=DatasetInfo("Other"), reference="/other")
    assert open_cached(moved, 16, default_paths()).info.title == "Other"


def test_progress_goes_from_nothing_to_all() -> None:
    told: list[tuple[str, float]] = []
    open_cached(make_source(count=100), 16, default_paths(), lambda stage, share: told.append((stage, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1 and len(shares) > 3


@pytest.mark.parametrize("damage", ["short file", "no manifest", "torn manifest", "missing file"])
def test_a_damaged_cache_is_built_again(damage: str) -> None:
    reads: list[int] = []
    source, paths = make_source(reads=reads), default_paths()
    open_cached(source, 16, paths)
    folder = cached_folders(paths)[0]
    images, manifest = folder / "train.images.npy", folder / "manifest.json"
    {"short file": lambda: images.write_bytes(images.read_bytes()[:-1]), "no manifest": manifest.unlink,
     "torn manifest": lambda: manifest.write_text(manifest.read_text()[:50]), "missing file": images.unlink}[damage]()
    assert open_cached(source, 16, paths).train.images[:, 0, 0, 0].tolist() == [0, 3, 6]
    assert reads == [16, 16]


def test_what_a_killed_build_left_is_not_used_and_is_removed() -> None:
    source, paths = make_source(), default_paths()
    open_cached(source, 16, paths)
    whole = cached_folders(paths)[0]
    half = whole.rename(whole.with_name(f"{whole.name}.part"))
    (half / "train.images.npy").write_bytes(b"half")
    other = paths.cache / "other-16-v3.part"
    other.mkdir()
    assert open_cached(source, 16, paths).train.images[:, 0, 0, 0].tolist() == [0, 3, 6]
    assert cached_folders(paths) == [whole]


def test_what_another_process_builds_is_not_stale() -> None:
    paths = default_paths()
    for name in ("dead-16-v3", "live-16-v3"):
        (paths.cache / f"{name}.part").mkdir(parents=True)
    with FileLock(paths.cache / "live-16-v3.lock", thread_local=False):
        assert remove_stale_builds(paths) == ["dead-16-v3.part"]
    assert [path.name for path in cached_folders(paths)] == ["live-16-v3.part"]


def build_and_die(root: str, folder: str) -> None:
    """In a process of its own: begin to decode, then vanish as a killed process does."""
    import os

    def die(stage: str, share: float) -> None:
        if stage == "Reading images":
            os._exit(9)

    open_dataset(folder, 32, Paths(Path(root)), die)


def build(root: str, folder: str, barrier: "multiprocessing.Barrier", out: "multiprocessing.Queue") -> None:
    """In a process of its own: open the set and report what was seen and whether it was decoded here."""
    decoded: list[float] = []
    barrier.wait()
    data = open_dataset(folder, 32, Paths(Path(root)),
                        lambda stage, share: decoded.append(share) if stage == "Reading images" else None)
    out.put((bool(decoded), int(data.train.images.sum(dtype=np.int64)), data.train.names))


def test_a_killed_build_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    folder, paths = make_folder(tmp_path / "s", PARTS), Paths(tmp_path / "r")
    child = multiprocessing.get_context("spawn").Process(target=build_and_die, args=(str(paths.root), str(folder)))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 9
    assert [path.suffix for path in cached_folders(paths)] == [".part"]
    assert len(open_dataset(str(folder), 32, paths).train) == 10
    assert [path.suffix for path in cached_folders(paths)] == [""]


def test_of_two_processes_one_decodes_and_both_see_the_same(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "s", {name: count * 10 for name, count in PARTS.items()})
    context = multiprocessing.get_context("spawn")
    barrier, out = context.Barrier(2), context.Queue()
    both = [context.Process(target=build, args=(str(tmp_path / "r"), str(folder), barrier, out)) for _ in range(2)]
    for process in both:
        process.start()
    found = [out.get(timeout=PATIENCE) for _ in both]
    for process in both:
        process.join(PATIENCE)
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(decoded for decoded, _, _ in found) == [False, True]
    assert found[0][1:] == found[1][1:]
    assert len(cached_folders(Paths(tmp_path / "r"))) == 1


def test_changed_content_is_decoded_anew(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "s", PARTS)
    before = open_dataset(str(folder), 32)
    make_image(folder / "test/a/p000.png", 123)
    after = open_dataset(str(folder), 32)
    assert before.fingerprint != after.fingerprint
    assert not np.array_equal(before.test.images[0], after.test.images[0])


def test_files_that_change_while_they_are_read_are_not_kept() -> None:
    paths = default_paths()
    with pytest.raises(UsageError, match="changed while it was read"):
        open_cached(replace(make_source(), digest=lambda: "other"), 16, paths)
    assert cached_folders(paths) == []


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"),
                                               (errno.EROFS, "cannot be written")])
def test_a_disk_that_takes_no_more_is_said_and_left_clean(monkeypatch: pytest.MonkeyPatch, number: int,
                                                          words: str) -> None:
    def full(file: object) -> None:
        raise OSError(number, "the disk says no")

    paths = default_paths()
    monkeypatch.setattr(decoded_files, "_flush", full)
    with pytest.raises(UsageError, match=words):
        open_cached(make_source(), 16, paths)
    assert cached_folders(paths) == []


def test_too_little_room_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UsageError, match="make room, or choose a smaller image size"):
        open_cached(make_source(reads=reads), 16, default_paths())
    assert reads == []


def test_a_defect_of_a_source_keeps_its_traceback_and_leaves_nothing() -> None:
    def samples(size: int, known: KnownSamples) -> Iterator[Sample]:
        raise RuntimeError("defect")

    paths = default_paths()
    with pytest.raises(RuntimeError, match="defect"):
        open_cached(replace(make_source(), samples=samples), 16, paths)
    assert cached_folders(paths) == []


def test_the_manifest_is_plain_json_also_for_odd_names() -> None:
    paths = default_paths()
    open_cached(make_source(), 16, paths)
    manifest = json.loads((cached_folders(paths)[0] / "manifest.json").read_text())
    assert manifest["version"] == cache.VERSION and set(manifest["parts"]) == {"train", "val", "test"}
