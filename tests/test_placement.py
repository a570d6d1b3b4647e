import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional as F

from kd.placement import Placement, averaging, painting

FIVE_HALVINGS = Placement((0.5 / 96, 0.5 / 96), (1 / 3, 1 / 3))  # cells seen at pixels 0, 32 and 64 of 96


def painted(heat, size, placement=None):
    down, across = painting(heat.shape, size, placement)
    return down @ heat @ across


def test_a_stretched_map_is_interpolated_like_torch():
    heat = np.random.default_rng(0).random((3, 5))
    theirs = F.interpolate(torch.from_numpy(heat)[None, None], (24, 30), mode="bilinear", align_corners=False)
    assert_allclose(painted(heat, (24, 30)), theirs[0, 0].numpy(), atol=1e-12)


def test_each_cell_is_brightest_where_it_lies():
    for row in range(3):
        heat = np.zeros((3, 3))
        heat[row, 1] = 1
        shown = painted(heat, (96, 96), FIVE_HALVINGS)
        assert np.unravel_index(shown.argmax(), shown.shape) == (32 * row, 32)


def test_outside_of_the_outer_cells_their_values_stay():
    heat = np.arange(9.0).reshape(3, 3)
    shown = painted(heat, (96, 96), FIVE_HALVINGS)
    assert_allclose(shown[64:, 64:], 8)
    assert shown[0, 0] == 0


def test_a_map_finer_than_the_image_is_averaged():
    assert_allclose(painted(np.indices((64, 64)).sum(0) % 2, (8, 8)), 0.5, atol=0.02)


def test_averaging_gives_every_pixel_to_its_nearest_cell():
    down, across = averaging((3, 3), (2, 2), FIVE_HALVINGS)
    # Borders lie half-way between the centres: at pixels 16.5 and 48.5.
    assert_allclose(down, [[16.5 / 48, 31.5 / 48, 0], [0, 0.5 / 48, 47.5 / 48]])
    assert_allclose(across, down.T)


def test_the_offset_is_that_of_a_stretched_map():
    assert_allclose(np.array(FIVE_HALVINGS.offset((3, 3))) * 96, 15.5)
    assert Placement.even((4, 7)).offset((4, 7)) == pytest.approx((0, 0))
    assert Placement.from_json(FIVE_HALVINGS.to_json()) == FIVE_HALVINGS


def test_edges_stay_in_the_image():
    for placement in (FIVE_HALVINGS, Placement((0.9, -0.2), (0.3, 0.4))):
        for edges in placement.edges((3, 3)):
            assert edges[0] == 0 and edges[-1] == 1 and (np.diff(edges) >= 0).all()


def test_a_placement_within_a_box_paints_what_the_square_shows_there():
    """A map on the box's own pixels is the part of the whole square that the box cuts out."""
    placed = Placement((0.1, 0.05), (0.24, 0.27))
    heat = np.random.default_rng(0).random((4, 4))
    rows, columns = painting((4, 4), (32, 32), placed)
    left, top, width, height = 0, 6, 32, 20
    inner, across = painting((4, 4), (height, width), placed.within((left, top, width, height), 32))
    assert inner @ heat @ across == pytest.approx((rows @ heat @ columns)[top:top + height, left:left + width])
