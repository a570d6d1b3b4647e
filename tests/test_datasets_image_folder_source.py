"""Class folders as a source, wherever they lie."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Barrier

import numpy as np
import pytest
from test_datasets_decode import encode, left_right
from test_datasets_image_folder_layout import tree

from kd.datasets import decode
from kd.datasets.base import Sample, Skipped
from kd.datasets.decode import UnreadableImage
from kd.datasets.image_folder import source as image_source
from kd.datasets.image_folder.layout import Tree
from kd.datasets.image_folder.source import class_folders

NAMES = [f"{part}/{label}/{index:03d}.png"
         for part in ("train", "val", "test") for label in "ab" for index in range(60)]


def backed(names: list[str], opened: list[str] | None = None) -> Tree:
    """A tree that serves one image under every name and notes which were asked for."""
    data = encode(left_right("RGB", (0, 0, 0), (255, 255, 255)))

    @contextmanager
    def reader() -> Iterator[Callable[[str], bytes]]:
        def read(name: str) -> bytes:
            if opened is not None:
                opened.append(name)
            if "bad" in name:
                raise UnreadableImage("broken")
            return data
        yield read

    made = tree(*names)
    return Tree(made.images, made.folders, made.sidecars, 0, (), reader)


def test_images_come_in_order_and_never_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_source, "_AHEAD", 8)
    opened: list[str] = []
    samples = class_folders("s", "/s", backed(NAMES, opened), None, "f", lambda: "f").samples(16, lambda content: None)
    names = []
    for sample in samples:
        names.append(sample.name)
        assert len(opened) <= len(names) + 8
    assert names == sorted(NAMES)


def test_one_bad_image_is_skipped_in_its_place() -> None:
    source = class_folders("s", "/s", backed([*NAMES, "train/a/bad.png"]), None, "f", lambda: "f")
    found = list(source.samples(16, lambda content: None))
    bad = [sample for sample in found if isinstance(sample, Skipped)]
    assert bad == [Skipped("train/a/bad.png", "broken")]
    assert len(found) == 361


def test_the_source_tells_its_size_without_reading() -> None:
    opened: list[str] = []
    source = class_folders("s", "/s", backed(NAMES, opened), backed(["train/a/000.png"]), "f", lambda: "f")
    assert (source.total, source.has_evidence, source.has_groups, source.fingerprint) == (360, True, False, "f")
    assert opened == []


@pytest.mark.parametrize("prefix", ["", "s_masks/"])
def test_masks_of_another_tree_are_matched(prefix: str) -> None:
    masks = backed([f"{prefix}train/a/000.gif", f"{prefix}test/b/059.tif", f"{prefix}test/b/bad.png"])
    source = class_folders("s", "/s", backed([*NAMES, "test/b/bad.jpg"]), masks, "f", lambda: "f")
    samples = [sample for sample in source.samples(16, lambda content: None) if isinstance(sample, Sample)]
    assert [sample.name for sample in samples if sample.evidence is not None] == ["test/b/059.png", "train/a/000.png"]
    assert np.unique(samples[-1].image).tolist() == [0, 255]


@pytest.mark.parametrize(("usable", "expected"), [(1, 1), (6, 6), (200, 16)])
def test_as_many_threads_decode_as_there_are_usable_cores(usable: int, expected: int,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(usable)), raising=False)
    assert image_source.workers() == expected


def test_where_no_affinity_is_known_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    assert image_source.workers() == 5


def test_that_many_images_are_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads meet in the decoder; with fewer, the barrier breaks."""
    meeting = Barrier(3)
    read = decode.read
    monkeypatch.setattr(image_source, "workers", lambda: 3)
    monkeypatch.setattr(decode, "read", lambda *args: (meeting.wait(30) and None) or read(*args))
    found = list(class_folders("s", "/s", backed(NAMES), None, "f", lambda: "f").samples(16, lambda content: None))
    assert len(found) == 360
