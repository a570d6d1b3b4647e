"""Images on pages at their own resolution."""

from pathlib import Path

import numpy as np
import pytest
from made_sets import make_folder, make_npz
from PIL import Image

from kd.datasets import Dataset, open_dataset
from kd.inspection.overlay import overlay
from kd.spec import RunSpec
from kd.store import probe_images
from kd.store.runs import Store
from pages.parts.compare.tiles import Dress, own_caption
from pages.parts.shared import originals

PARTS = {"train/a": 6, "train/b": 6, "val/a": 1, "val/b": 1, "test/a": 2, "test/b": 2}
WORKING = 32
MARK = (240, 60, 280, 100)  # left, top, right, bottom, in an image of 320 × 200


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Images of 320 × 200, grey with a white mark to the upper right."""
    root = make_folder(tmp_path / "set", PARTS)
    for path in root.rglob("*.png"):
        image = Image.new("RGB", (320, 200), (60, 60, 60))
        image.paste((255, 255, 255), MARK)
        image.save(path)
    return open_dataset(str(root), WORKING)


def mark_of(image: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(image[..., 0] > 150)
    return (rows.mean() + 0.5) / len(image), (columns.mean() + 0.5) / len(image)


def test_images_of_a_grid_are_the_originals_with_the_same_geometry(data):
    [shown] = originals.tiles(data, data.test, [1], masks=False)
    assert shown.shape == (320, 320, 3)
    assert mark_of(shown) == pytest.approx(((60 + 80) / 320, 260 / 320), abs=0.01)
    [thumb] = originals.own(data, data.test, [1], 100)
    assert thumb.shape == (100, 100, 3)


def test_a_map_of_the_working_copy_lies_on_the_original_where_it_did(data):
    """A map that is bright where the working copy is: its colour covers the mark and nothing else."""
    working = np.asarray(data.test.images[1])
    heat = (working[..., 0] > 150).astype(np.float32)
    [shown] = originals.own(data, data.test, [1])
    painted = overlay(shown, heat, 1.0, "gray")
    assert mark_of(painted) == pytest.approx(mark_of(shown), abs=0.5 / WORKING)


def test_a_set_that_is_gone_is_shown_as_the_working_copies(data, tmp_path):
    (tmp_path / "set/test/a/p000.png").write_bytes(b"no image any more")
    [shown] = originals.own(data, data.test, [0])
    assert shown.shape == (WORKING, WORKING, 3)


def test_a_tracked_image_is_shown_at_its_own_resolution_and_as_stored_without_its_set(data, tmp_path):
    store = Store()
    run = store.create(RunSpec(data=data.reference, image_size=WORKING))
    assert originals.tracked(run, 0) is None
    probe_images.store_images(run, data.val.images, data.val.labels)
    assert originals.tracked(run, 0).shape == (320, 320, 3)
    other = store.create(RunSpec(data=str(tmp_path / "gone"), image_size=WORKING))
    probe_images.store_images(other, data.val.images, data.val.labels)
    assert originals.tracked(other, 1).shape == (WORKING, WORKING, 3)
    assert originals.tracked(other, 2) is None


def test_a_small_image_is_said_to_be_given_to_models_enlarged(tmp_path):
    data = open_dataset(str(make_npz(tmp_path / "x.npz", {"train": 20, "val": 4, "test": 6}, shape=(28, 28))), 96)
    [shown] = originals.own(data, data.test, [3])
    assert shown.shape == (28, 28, 3)
    assert own_caption(Dress(shown, shown, 96, 0.5, "inferno", None, False)) == (
        "Image · 28 px, given to the models at 96 px")
    assert own_caption(Dress(shown, shown, 28, 0.5, "inferno", None, False)) == "Image"
