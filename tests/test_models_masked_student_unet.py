"""The explainer: from a picture of any size to log-odds at half of it."""

import pytest
import torch

from kd.models.masked_student import MOST_CHANNELS, UNet


def stirred(depth: int, width: int = 4) -> UNet:
    """One that scores places differently, as after some training."""
    torch.manual_seed(0)
    net = UNet(depth, width).eval()
    torch.nn.init.normal_(net.score.weight)
    return net


@pytest.mark.parametrize("size", [28, 33, 97])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_it_scores_every_place_at_half_the_size(depth, size):
    net = UNet(depth, 4).train()
    scores = net(torch.rand(2, 3, size, size))
    assert scores.shape == (2, 1, -(-size // 2), -(-size // 2))
    assert scores.isfinite().all()


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_at_first_no_place_ranks_above_another(depth):
    with torch.no_grad():
        scores = UNet(depth, 4).eval()(torch.rand(2, 3, 32, 32))
    assert (scores == scores[0, 0, 0, 0]).all()


def test_channels_double_with_each_halving_up_to_a_bound():
    net = UNet(5, 16)
    assert [layer[0].out_channels for layer in net.down] == [32, 64, MOST_CHANNELS, MOST_CHANNELS, MOST_CHANNELS]
    assert [layer[0].out_channels for layer in net.up] == [16, 32, 64, 64, 64]


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_every_layer_learns(depth):
    net = stirred(depth).train()
    net(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert all(weight.grad.isfinite().all() and weight.grad.abs().max() > 0 for weight in net.parameters())


def test_more_halvings_see_wider():
    def reach(depth: int) -> int:
        images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)).requires_grad_()
        [felt] = torch.autograd.grad(stirred(depth)(images)[0, 0, 32, 32], images)
        return int((felt[0] != 0).any(dim=0).any(dim=0).sum())

    sides = [reach(depth) for depth in (1, 2, 3)]
    assert sides[0] < sides[1] < sides[2]


def test_the_fine_grid_is_not_lost_on_the_way():
    """A mask may follow an outline: one bright pixel moves the scores most right where it is."""
    net, dark = stirred(3), torch.zeros(1, 3, 64, 64)
    lit = dark.clone()
    lit[:, :, 20, 40] = 5.0
    with torch.no_grad():
        moved = (net(lit) - net(dark)).abs()[0, 0]
    row, column = divmod(int(moved.argmax()), moved.shape[1])
    assert abs(row - 10) <= 2 and abs(column - 20) <= 2
