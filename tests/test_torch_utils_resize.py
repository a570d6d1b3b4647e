import pytest
import torch

from kd.torch_utils.resize import downsample, upsample


def test_cells_are_areas_and_borders_stay():
    raised = upsample(torch.tensor([[[0.0, 1.0]]]), (1, 4))
    torch.testing.assert_close(raised, torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))


def test_maps_with_and_without_channels():
    maps = torch.rand(3, 5, 7, 7)
    raised = upsample(maps, 14)
    assert raised.shape == (3, 5, 14, 14)
    torch.testing.assert_close(upsample(maps[:, 2], 14), raised[:, 2])
    assert upsample(maps, (8, 20)).shape == (3, 5, 8, 20)


@pytest.mark.parametrize(("size", "side"), [(224, 56), (97, 33), (64, 63), (32, 1)])
def test_an_exported_downsampling_computes_the_same(size, side):
    class Model(torch.nn.Module):
        def forward(self, images):
            return downsample(images, side)

    exported = torch.export.export(Model(), (torch.rand(2, 3, size, size),))
    images = torch.rand(2, 3, size, size)
    torch.testing.assert_close(exported.module()(images), downsample(images, side), atol=1e-5, rtol=0)
    assert "upsample" not in str(exported.graph)
