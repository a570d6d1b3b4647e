from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from kd.torch_utils.module_swap import Fixed, record, swapped


class Pair(nn.Module):
    """Gives two maps."""

    def forward(self, images):
        return [images + 1, images * 2]


class Sum(nn.Module):
    def forward(self, parts):
        return parts[0] + parts[1]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.ReLU(), nn.Linear(4, 2))


def test_only_the_named_module_is_another_and_all_else_is_shared(net):
    before = dict(net.named_modules())
    copied = swapped(net, {"0.0": nn.Identity(), "2": nn.Flatten()})
    assert isinstance(copied[0][0], nn.Identity) and isinstance(copied[2], nn.Flatten)
    assert copied[0][1] is net[0][1] and copied[1] is net[1]
    assert dict(net.named_modules()) == before
    copied(torch.rand(5, 4))
    assert net[0][1].num_batches_tracked == 1, "running statistics are the network's own"


def test_a_fixed_module_gives_its_value_and_the_gradient_flows_on(net):
    value = torch.rand(5, 4, requires_grad=True)
    found = swapped(net, {"0": Fixed(value, net[0])})(torch.zeros(5, 3))
    assert torch.equal(found, net[2](value.relu()))
    found.sum().backward()
    assert value.grad.abs().sum() > 0


def test_of_a_list_only_the_chosen_part_is_fixed():
    net = nn.Sequential(Pair(), Sum())
    images, value = torch.rand(2, 3), torch.full((2, 3), 7.0)
    assert torch.equal(swapped(net, {"0": Fixed(value, net[0], 0)})(images), value + images * 2)
    assert torch.equal(swapped(net, {"0": Fixed(value, net[0], 1)})(images), images + 1 + value)


def test_outputs_are_recorded_where_they_are_computed(net):
    images = torch.rand(5, 3)
    result, [first, relu] = record(net, ["0", "1"], lambda copied: copied(images))
    assert torch.equal(relu, first.relu()) and torch.equal(result, net[2](relu))


def test_early_stops_behind_the_last_wanted_module(net):
    net[2] = nn.Linear(99, 1)  # fails when it is reached
    result, [first] = record(net, ["0"], lambda copied: copied(torch.rand(5, 3)), early=True)
    assert result is None and first.shape == (5, 4)


def test_what_is_not_reached_is_none(net):
    assert record(net, ["0", "2"], lambda copied: copied[0](torch.rand(5, 3)))[1][1] is None


def test_threads_that_share_the_network_do_not_meet(net):
    net.eval()
    images, values = torch.rand(1, 3), [torch.full((1, 4), float(number)) for number in range(16)]

    def go(value):
        return swapped(net, {"0": Fixed(value, net[0])})(images), net(images)

    expected = [go(value) for value in values]
    with ThreadPoolExecutor(8) as threads:
        for found, wanted in zip(threads.map(go, values), expected, strict=True):
            assert all(map(torch.equal, found, wanted))
