"""Class folders as a source, wherever they lie."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from test_datasets_decode import encode, left_right
from test_datasets_image_folder_layout import tree

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
    samples = class_folders("s", "/s", backed(NAMES, opened), None, "f", lambda: "f").samples(16)
    names = []
    for sample in samples:
        names.append(sample.name)
        assert len(opened) <= len(names) + 8
    assert names == sorted(NAMES)


def test_one_bad_image_is_skipped_in_its_place() -> None:
    found = list(class_folders("s", "/s", backed([*NAMES, "train/a/bad.png"]), None, "f", lambda: "f").samples(16))
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
    samples = [sample for sample in source.samples(16) if isinstance(sample, Sample)]
    assert [sample.name for sample in samples if sample.evidence is not None] == ["test/b/059.png", "train/a/000.png"]
    assert np.unique(samples[-1].image).tolist() == [0, 255]
