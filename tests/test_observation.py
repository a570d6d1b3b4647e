import torch

from kd.observation import stage_map


def test_a_stage_map_is_the_mean_over_channels():
    features = torch.stack([torch.zeros(2, 3), torch.ones(2, 3)])[None]
    assert torch.equal(stage_map(features), torch.full((1, 2, 3), 0.5))
