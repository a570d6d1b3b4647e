import pytest
import torch

from kd.models.layouts import Layout, from_grid, layout_of, to_grid

GRID = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
HELD = {Layout.CHANNELS_FIRST: GRID, Layout.CHANNELS_LAST: GRID.permute(0, 2, 3, 1),
        Layout.TOKENS: GRID.flatten(2).transpose(1, 2)}


@pytest.mark.parametrize("layout", Layout)
def test_a_layout_is_recognised_and_taken_to_a_grid_and_back(layout):
    held = HELD[layout]
    assert layout_of(held, 3) is layout
    assert torch.equal(to_grid(held, layout), GRID)
    assert torch.equal(from_grid(GRID, layout), held)


@pytest.mark.parametrize("features", [
    GRID[:, :, :3], torch.zeros(2, 15, 3), torch.zeros(2, 3), torch.zeros(2, 5, 4, 4), [GRID], None], ids=str)
def test_what_lies_on_no_square_grid_has_no_layout(features):
    assert layout_of(features, 3) is None
