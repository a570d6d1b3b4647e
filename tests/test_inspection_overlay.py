import subprocess
import sys

import numpy as np
import pytest

from kd.errors import UsageError
from kd.inspection.overlay import COLORMAPS, SIGNED, colour, lookup, overlay, upsample


def picture(side=20):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_opacity_runs_from_the_picture_to_the_map():
    image, heat = picture(), np.random.default_rng(1).random((5, 5))
    assert (overlay(image, heat, 0) == image).all()
    assert (overlay(image, heat, 1) == colour(heat, 20)).all()
    half = overlay(image, heat, 0.5).astype(float)
    assert np.abs(half - (image.astype(float) + colour(heat, 20)) / 2).max() <= 0.5


def test_raising_is_bilinear_and_keeps_the_place_and_the_range():
    heat = np.zeros((4, 4))
    heat[1, 2] = 1
    raised = upsample(heat, 16)
    assert raised.shape == (16, 16)
    assert raised.min() == 0
    assert 0.7 < raised.max() <= 1
    top, left = np.unravel_index(raised.argmax(), raised.shape)
    assert (top // 4, left // 4) == (1, 2)
    ramp = upsample(np.array([[0.0, 1.0]]), (1, 4))[0]
    assert ramp == pytest.approx([0, 0.25, 0.75, 1])


def test_pictures_need_not_be_square():
    assert overlay(np.zeros((8, 12, 3), np.uint8), np.ones((2, 3))).shape == (8, 12, 3)


@pytest.mark.parametrize("name", [*COLORMAPS, SIGNED])
def test_each_colour_map_runs_from_its_first_to_its_last_colour(name):
    ends = colour(np.array([[0.0], [1.0]]), (2, 1), name)[:, 0]
    assert (ends == lookup(name)[[0, 255]]).all()
    assert (ends[0] != ends[1]).any()


def test_bad_choices_are_named():
    with pytest.raises(UsageError, match="Did you mean 'viridis'"):
        colour(np.ones((2, 2)), 4, "viridiss")
    with pytest.raises(ValueError, match="opacity"):
        overlay(picture(), np.ones((2, 2)), 1.5)


def test_pages_may_colour_without_torch():
    code = "import sys, numpy as np; from kd.inspection.overlay import overlay; " \
           "overlay(np.zeros((4, 4, 3), np.uint8), np.ones((2, 2))); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
