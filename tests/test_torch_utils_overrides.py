from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from kd.torch_utils.overrides import record, with_forward, with_output


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


def test_only_the_named_module_computes_something_else_and_all_else_is_shared(net):
    before = dict(net.named_modules())
    copied = with_forward(net, "0.0", lambda own, images: own(images) * 2)
    assert copied[0][1] is net[0][1] and copied[1] is net[1]
    assert isinstance(copied[0][0], nn.Linear) and copied[0][0].weight is net[0][0].weight
    assert dict(net.named_modules()) == before
    images = torch.rand(5, 3)
    torch.testing.assert_close(copied.eval()[0][0](images), net[0][0](images) * 2)


def test_running_statistics_are_the_networks_own(net):
    with_forward(net, "2", lambda own, images: own(images))(torch.rand(5, 3))
    assert net[0][1].num_batches_tracked == 1


def test_one_over_the_other_both_count(net):
    net.eval()
    images = torch.rand(5, 3)
    outer = with_forward(with_forward(net, "0.1", lambda own, images: images), "0", lambda own, images: own(images) + 1)
    torch.testing.assert_close(outer[0](images), net[0][0](images) + 1)


def test_a_given_output_is_taken_and_the_gradient_flows_on(net):
    value = torch.rand(5, 4, requires_grad=True)
    found = with_output(net, "0", value)(torch.zeros(5, 3))
    assert torch.equal(found, net[2](value.relu()))
    found.sum().backward()
    assert value.grad.abs().sum() > 0


def test_of_a_list_only_the_chosen_part_is_given():
    net = nn.Sequential(Pair(), Sum())
    images, value = torch.rand(2, 3), torch.full((2, 3), 7.0)
    assert torch.equal(with_output(net, "0", value, 0)(images), value + images * 2)
    assert torch.equal(with_output(net, "0", value, 1)(images), images + 1 + value)


def test_outputs_are_recorded_where_they_are_computed(net):
    images = torch.rand(5, 3)
    result, [first, relu] = record(net, ["0", "1"], lambda copied: copied(images))
    assert torch.equal(relu, first.relu()) and torch.equal(result, net[2](relu))


def test_inner_and_outer_modules_are_recorded_together_and_copies_are_passed_on(net):
    net[1].inplace = True
    images = torch.rand(5, 3)
    _, [outer, inner, relu] = record(net.eval(), ["0", "0.0", "1"], lambda copied: copied(images), copies=True)
    torch.testing.assert_close(outer, net[0][1](inner))
    assert (outer < 0).any() and torch.equal(relu, outer.relu()), "the ReLU wrote into a copy"


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
        return with_output(net, "0", value)(images), net(images)

    expected = [go(value) for value in values]
    with ThreadPoolExecutor(8) as threads:
        for found, wanted in zip(threads.map(go, values), expected, strict=True):
            assert all(map(torch.equal, found, wanted))
