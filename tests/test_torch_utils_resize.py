import torch

from kd.torch_utils.resize import upsample


def test_cells_are_areas_and_borders_stay():
    raised = upsample(torch.tensor([[[0.0, 1.0]]]), (1, 4))
    torch.testing.assert_close(raised, torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))


def test_maps_with_and_without_channels():
    maps = torch.rand(3, 5, 7, 7)
    raised = upsample(maps, 14)
    assert raised.shape == (3, 5, 14, 14)
    torch.testing.assert_close(upsample(maps[:, 2], 14), raised[:, 2])
    assert upsample(maps, (8, 20)).shape == (3, 5, 8, 20)
