"""One colour scale for several maps."""

import numpy as np
import pytest

from kd.inspection.colour_scale import Scale, centred_scale, per_image, shared_scale


def test_a_scale_puts_values_between_its_ends_and_clips_the_rest():
    placed = Scale(-2.0, 2.0)(np.array([[-5.0, -2.0, 0.0], [1.0, 2.0, np.nan]]))
    assert placed.tolist() == [[0, 0, 0.5], [0.75, 1, 0.5]]


def test_common_reaches_from_the_least_to_the_greatest_of_all_maps():
    assert shared_scale([np.array([[1.0, np.nan]]), np.array([[4.0], [-1.0]])]) == Scale(-1.0, 4.0)
    assert shared_scale([np.ones((2, 2))]) is None
    assert shared_scale([]) is None


def test_centred_has_zero_in_its_middle():
    assert centred_scale([np.array([[1.0, -3.0]])]) == Scale(-3.0, 3.0)
    assert centred_scale([np.zeros((2, 2))]) is None


def test_a_single_peak_does_not_darken_the_rest():
    map_ = np.ones((10, 10))
    map_[0, 0] = 1000.0
    assert centred_scale([map_], share=0.98).high == 1.0
    map_[map_ == 1] = 0  # nothing but the peak: then the peak is the end
    assert centred_scale([map_], share=0.98).high == 1000.0


@pytest.mark.parametrize("side", [2, 8])
def test_grids_of_every_size_have_one_unit(side):
    values = np.full((side, side), 3.0 / side**2)  # adds 3 in all
    assert per_image(values).mean() == pytest.approx(3.0)
