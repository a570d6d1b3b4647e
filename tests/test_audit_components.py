"""Principal components in blocks."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from kd.audit import components as module
from kd.audit.components import components


@pytest.mark.parametrize("rows", [12, 90])  # fewer images than pixels, and more
def test_they_are_those_of_scaled_pixels_whatever_the_blocks(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 30), np.uint8)
    pixels[:, 3] = 17  # a pixel that is always the same
    found = components(pixels, np.arange(rows), 5).of(pixels, np.arange(rows))
    known = PCA(5, svd_solver="full").fit_transform(StandardScaler().fit_transform(pixels.astype(float)))
    assert np.abs(found) == pytest.approx(np.abs(known), abs=1e-3)


def test_those_of_other_images_are_along_the_same_directions() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    made = components(pixels, np.arange(0, 20, 2), 4)
    some = np.array([13, 2])
    assert made.of(pixels, some) == pytest.approx(made.of(pixels, np.arange(20))[some], abs=1e-4)
    assert np.abs(made.of(pixels, np.arange(0, 20, 2)).mean(axis=0)).max() < 1e-4  # those that they come from


def test_equal_images_have_one_of_zeros() -> None:
    pixels = np.full((4, 9), 8, np.uint8)
    assert components(pixels, np.arange(4), 3).of(pixels, np.arange(4)).tolist() == [[0.0]] * 4
