import torch
from torch import nn

from kd.torch_utils.memory_format import channels_last


def test_kernels_are_converted_and_those_with_a_depth_stay():
    net = nn.ModuleDict({"flat": nn.Conv2d(3, 8, 3), "deep": nn.Conv3d(3, 8, 3), "norm": nn.BatchNorm2d(8)})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert channels_last(net) is net
    assert net["flat"].weight.is_contiguous(memory_format=torch.channels_last)
    assert not net["flat"].weight.is_contiguous()
    assert net["deep"].weight.is_contiguous()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
