import numpy as np
import pytest

from kd.explanation_metrics.image_only import IMAGE_ONLY, image_only_maps


def peak(heat: np.ndarray) -> tuple[int, ...]:
    return tuple(int(place) for place in np.unravel_index(heat.argmax(), heat.shape))


def test_each_map_points_where_its_name_says():
    images = np.full((2, 50, 50, 3), 100, np.uint8)
    images[:, 5:11, 5:11] = 255  # the brightest, in a corner
    images[:, 27:33, 27:33] = 220  # bright, near the middle
    images[:, 5:11, 39:45] = 0  # the darkest, in a corner
    images[:, 17:23, 17:23] = 30  # dark, near the middle
    maps = image_only_maps(images)
    assert tuple(maps) == IMAGE_ONLY
    places = {"brightness": (8, 8), "brightness-centre": (29, 29), "darkness": (8, 42), "darkness-centre": (20, 20)}
    for name, place in places.items():
        assert peak(maps[name][0]) == pytest.approx(place, abs=2), name
        assert np.array_equal(maps[name][0], maps[name][1])
        assert maps[name].shape == (2, 50, 50) and maps[name].dtype == np.float32
        assert maps[name].min() >= 0 and maps[name].max() <= 1


def test_no_images_give_no_maps():
    assert all(maps.shape == (0, 8, 8) for maps in image_only_maps(np.empty((0, 8, 8, 3), np.uint8)).values())
