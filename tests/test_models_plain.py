import pytest
import torch

from kd.models import build
from kd.models.plain import Plain, strides
from kd.spec import RunSpec


@pytest.mark.parametrize(("depth", "size", "expected"), [
    (5, 96, (2, 2, 2, 2, 2)), (5, 64, (2, 2, 2, 2, 1)), (1, 96, (2,)), (3, 224, (2, 2, 2)),
    (8, 96, (2, 2, 1, 2, 2, 1, 2, 1)), (12, 224, (2, 1, 2, 1, 2, 1, 1, 2, 1, 2, 1, 1)), (5, 28, (2, 2, 1, 2, 1))])
def test_the_picture_is_halved_evenly_over_the_depth(depth, size, expected):
    assert strides(depth, size) == expected


@pytest.mark.parametrize("size", [28, 32, 64, 96, 100, 224, 512])
@pytest.mark.parametrize("depth", range(1, 13))
def test_every_depth_and_size_ends_in_a_grid_of_at_least_three(depth, size):
    model = Plain(depth, 4, 2, size).eval()
    with torch.no_grad():
        logits, maps, *_ = model(torch.rand(1, 3, size, size))
    assert logits.shape == (1, 2)
    assert len(maps) == len(model.stages) == depth
    assert maps[-1].shape[-1] >= 3
    assert [features.shape[1:] for features in maps] == [
        (stage.channels, -(-size // stage.reduction), -(-size // stage.reduction)) for stage in model.stages]


def test_channels_double_with_each_halving_up_to_512():
    stages = Plain(12, 64, 2, 224).stages
    assert [stage.name for stage in stages] == [f"layer {number}" for number in range(1, 13)]
    assert [stage.channels for stage in stages] == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512]


def test_the_classifier_is_global_pooling_and_a_linear_layer():
    model = build(RunSpec(depth=3, image_size=32), classes=4).eval()
    with torch.no_grad():
        logits, maps, *_ = model(torch.rand(2, 3, 32, 32))
        assert torch.allclose(model.pooled_linear(maps[-1].mean((2, 3))), logits, atol=1e-6)


def test_twelve_layers_let_the_signal_through_when_training_starts():
    model = build(RunSpec(depth=12, image_size=64), classes=4)
    logits, maps, *_ = model(torch.rand(8, 3, 64, 64))
    assert all(0.1 < features.std() < 10 for features in maps)
    torch.nn.functional.cross_entropy(logits, torch.arange(8) % 4).backward()
    assert all(weight.grad.isfinite().all() and weight.grad.abs().max() > 0 for weight in model.parameters())
