"""From a memory map to tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kd.datasets.base import Split
from kd.datasets.tensors import mean_image, read_images, to_tensor


@pytest.fixture
def split():
    """Twenty images, each filled with its own number."""
    images = np.repeat(np.arange(20, dtype=np.uint8), 8 * 8 * 3).reshape(20, 8, 8, 3)
    return Split(images, np.arange(20) % 4, tuple(map(str, range(20))))


def test_pixels_become_rgb_in_zero_to_one(split):
    tensor = to_tensor(split.images)
    assert tensor.shape == (20, 3, 8, 8)
    assert tensor.dtype == torch.float32
    assert tensor[19].unique().tolist() == pytest.approx([19 / 255])


def test_the_mean_image_is_of_the_images_learnt_from_alone(split):
    found = mean_image(split, np.array([1, 3]))
    assert found.dtype == np.float32
    expected = split.images[[1, 3]].astype(float).mean(axis=0).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.fixture
def mapped(split, tmp_path):
    """The same images in a file, behind a head of seven bytes."""
    path = tmp_path / "train.images"
    path.write_bytes(b"x" * 7 + split.images.tobytes())
    return np.memmap(path, np.uint8, "r", offset=7, shape=split.images.shape)


@pytest.mark.parametrize("kind", ["array", "map", "part of a map", "map of a deleted file"])
def test_read_are_these_images_in_this_order(split, mapped, kind):
    index = np.array([19, 0, 7, 7])
    images = split.images if kind == "array" else mapped
    if kind == "part of a map":
        images, index = mapped[7:], np.array([12, 0])
    if kind == "map of a deleted file":
        Path(mapped.filename).unlink()
    found = read_images(images, index)
    assert type(found) is np.ndarray
    assert found.flags.writeable
    np.testing.assert_array_equal(found, np.asarray(images)[index])
