"""Images at their own resolution, lying in the square as the working copy lies in its."""

from pathlib import Path

import numpy as np
import pytest
from made_sets import make_folder, make_npz, make_zip
from PIL import Image

from kd.datasets import Dataset, inspect, open_dataset, originals

PARTS = {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2}
WORKING = 32


def marked(path: Path, size: tuple[int, int], turned: bool = False) -> Path:
    """A grey image with a white square right of the middle and below it, or stored lying on its side."""
    width, height = size
    image = Image.new("RGB", size, (60, 60, 60))
    image.paste((255, 255, 255), (width * 5 // 8, height * 6 // 8, width * 6 // 8, height * 7 // 8))
    exif = Image.Exif()
    if turned:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6
    image.save(path, exif=exif)
    return path


def centre(image: np.ndarray) -> tuple[float, float]:
    """Middle of the mark, as shares of the side."""
    rows, columns = np.nonzero(image[..., 0] > 150)
    return (rows.mean() + 0.5) / len(image), (columns.mean() + 0.5) / len(image)


def one(data: Dataset, name: str, most: int = 1024) -> np.ndarray:
    [found] = originals(data)([name], most)
    assert found is not None
    return found


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize(("size", "turned"), [((200, 120), False), ((90, 210), False), ((200, 120), True)])
def test_a_mark_lies_where_it_does_in_the_working_copy(tmp_path: Path, form: str, size: tuple[int, int],
                                                       turned: bool) -> None:
    root = make_folder(tmp_path / "set", PARTS)
    marked(root / "test/a/p000.png", size, turned)
    path = make_zip(tmp_path / "set.zip", root) if form == "zip" else root
    data = open_dataset(str(path), WORKING)
    found = one(data, "test/a/p000.png")
    assert found.shape == (max(size), max(size), 3)
    assert centre(found) == pytest.approx(centre(data.test.images[0]), abs=0.5 / WORKING)
    left, top = (max(size) - size[0]) // 2, (max(size) - size[1]) // 2
    stated = (top + size[1] * 13 / 16) / max(size), (left + size[0] * 11 / 16) / max(size)
    assert centre(found) == pytest.approx(stated, abs=1.5 / max(size))


def test_a_huge_image_is_bounded(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", PARTS)
    marked(root / "test/a/p000.png", (600, 300))
    data = open_dataset(str(root), WORKING)
    assert one(data, "test/a/p000.png", 128).shape == (128, 128, 3)
    assert centre(one(data, "test/a/p000.png", 128)) == pytest.approx(centre(data.test.images[0]), abs=0.5 / WORKING)


@pytest.mark.parametrize("shape", [(28, 28), (28, 20, 3), (28, 28, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_an_array_keeps_its_own_grid(tmp_path: Path, shape: tuple[int, ...], turned: bool) -> None:
    path = make_npz(tmp_path / "x.npz", {"train": 20, "val": 4, "test": 6}, shape=shape)
    with np.load(path) as file:
        arrays = dict(file)
    noise = np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)
    arrays["test_images"] = np.asfortranarray(noise) if turned else noise
    np.savez_compressed(path, **arrays)
    data = open_dataset(str(path), 96)
    found = originals(data)(["test/000004", "test/000001", "train/000003"], 1024)
    left = (28 - shape[1]) // 2
    for image, number in zip(found, (4, 1), strict=False):
        inside = image[:, left:left + shape[1]]
        assert np.array_equal(inside, np.broadcast_to(noise[number].reshape(*shape[:2], -1), inside.shape))
    assert (found[2][14, 14] == 3).all()


def test_what_has_no_original_is_said_to_have_none(tmp_path: Path) -> None:
    drawn = open_dataset("phantom-brain:count=40", WORKING)
    assert originals(drawn)(drawn.test.names[:2], 1024) == [None, None]
    root = make_folder(tmp_path / "set", PARTS)
    data = open_dataset(str(root), WORKING)
    assert originals(data)(["no/such.png"], 1024) == [None]
    read = originals(data)
    (root / "test/a/p000.png").write_bytes(b"no image")
    assert read(["test/a/p000.png"], 1024) == [None]
    assert originals(data)(["test/a/p001.png"], 1024) == [None], "the set is another now"
    for file in root.rglob("*.png"):
        file.unlink()
    assert originals(data)(["test/a/p001.png"], 1024) == [None]


def test_a_set_tells_how_large_its_images_are(tmp_path: Path) -> None:
    assert inspect("phantom-brain").side == 0
    assert inspect(str(make_npz(tmp_path / "x.npz", {"train": 20, "val": 4, "test": 6}, shape=(28, 20)))).side == 28
    root = make_folder(tmp_path / "set", PARTS, (20, 50))
    Image.new("RGB", (400, 400)).save(root / "train/a/p000.png")
    (root / "train/a/p001.png").write_bytes(b"no image")
    assert inspect(str(root)).side == 50
    assert inspect(str(make_zip(tmp_path / "set.zip", root))).side == 50
