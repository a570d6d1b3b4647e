"""Where units look, against what really moves them: a light under a unit's centre, and gradients of random networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lanes import slow
from small_models import Small
from torch import nn

import kd
from kd.explainers import EXPLAINERS
from kd.inspection.overlay import upsample
from kd.models import build
from kd.models.placement import placements, placements_of
from kd.placement import Placement
from kd.spec import RunSpec

# By kind of padding: 1 on both sides, TensorFlow's, patches, pooling in shortcuts.
QUICK = ("test_resnet", "tf_efficientnet_lite0", "test_convnext", "test_nfnet")
FAMILIES = slow(*((name, 384, -1) for name in (
    "resnet18", "mobilenetv2_100", "tf_efficientnet_b0", "densenet121", "vgg11", "convnext_atto", "ghostnet_100",
    "regnety_002", "inception_v3", "legacy_xception", "hrnet_w18_small", "dla34", "cspdarknet53", "repvgg_a0",
    "hgnetv2_b0", "fastvit_t8", "poolformer_s12", "tresnet_m", "res2net50_14w_8s", "tf_mixnet_s", "nf_resnet26",
    "resnet26d", "vovnet39a", "dpn68", "selecsls42", "efficientvit_b0", "edgenext_xx_small", "resnest14d",
    "pnasnet5large", "starnet_s1", "fasternet_t0", "mobilenetv4_conv_small", "rexnet_100", "hardcorenas_a")))


def apart(model, stage, size):
    """How far (down, across; cells) the middle unit of a stage looks from where it is expected: the centroid of the
    gradient's magnitude, over random combinations of its channels and random images."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, size, size, requires_grad=True)
    features = model.requires_grad_(False).forward_stages(model.prepare(images))[stage]
    row, column = features.shape[2] // 2, features.shape[3] // 2
    score = (features[:, :, row, column] * torch.randn(2, features.shape[1])).sum()
    mass = torch.autograd.grad(score, images)[0].double().abs().sum(dim=(0, 1))
    at = (torch.arange(size).double() + 0.5) / size
    laid = placements(model, size)[stage]
    down, across = laid.centres(tuple(features.shape[2:]))
    centres = down[row], across[column]
    found = [float(mass.sum(dim=axis) @ at / mass.sum()) for axis in (1, 0)]
    return [(one - other) / step for one, other, step in zip(found, centres, laid.step, strict=True)]


@pytest.mark.parametrize(("name", "size", "stage"), [*((name, 256, -2) for name in QUICK), *FAMILIES])
def test_units_look_where_they_are_placed(name, size, stage):
    """Within half a cell; in the mean over random weights, whose kernels lean to a side."""
    models = [build(RunSpec(model=name, image_size=size, seed=seed), 2).eval() for seed in range(3)]
    assert np.abs(np.mean([apart(model, stage, size) for model in models], axis=0)).max() < 0.5


@pytest.mark.parametrize("size", [96, 100])
def test_plain_students_look_at_every_thirty_second_pixel(size):
    laid = placements_of(RunSpec(depth=5, width=4, image_size=size))
    for number, placement in enumerate(laid, start=1):
        assert np.array(placement.first) * size == pytest.approx(0.5)
        assert np.array(placement.step) * size == pytest.approx(2**number)


def test_the_default_student_s_map_was_fifteen_pixels_off():
    assert np.array(placements_of(RunSpec(depth=5, width=4))[-1].offset((3, 3))) * 96 == pytest.approx(15.5)


def test_a_model_that_downsamples_its_images_looks_at_the_same_shares():
    own, shrunk = RunSpec(width=4, image_size=96), RunSpec(width=4, image_size=224, input_size=96)
    for one, other in zip(placements_of(own), placements_of(shrunk), strict=True):
        assert np.array(one.first + one.step) == pytest.approx(other.first + other.step)


def test_paddings_of_tensorflow_depend_on_the_size():
    """Of 96 px, all is padded behind; of 97 px, on both sides of the first convolution."""
    even, odd = (placements_of(RunSpec(model="tf_efficientnet_lite0", image_size=size))[0] for size in (96, 97))
    assert np.array(even.first) * 96 == pytest.approx(1.5)
    assert np.array(odd.first) * 97 == pytest.approx(0.5)


class Odd(nn.Module):
    """Unequal paddings, and a kernel and a dilation that differ by axis."""

    def __init__(self):
        super().__init__()
        self.pad = nn.ZeroPad2d((2, 0, 1, 0))  # left, right, top, bottom
        self.conv = nn.Conv2d(3, 8, (3, 5), stride=2, dilation=(2, 1))
        self.head = nn.Linear(8, 2)

    def forward(self, images):
        return self.head(self.conv(self.pad(images)).relu().mean(dim=(2, 3)))


def test_unequal_paddings_and_a_dilation():
    [laid] = placements(kd.wrap(Odd(), stages=["conv"], size=64), 64)
    # Down: taps on pixels -1, 1 and 3, so centred on pixel 1; across: on -2 to 2.
    assert np.array(laid.first) * 64 == pytest.approx([1.5, 0.5])
    assert np.array(laid.step) * 64 == pytest.approx(2)


class Scrambled(Odd):
    def forward(self, images):
        return super().forward(images.flip(2))


def test_what_cannot_be_placed_is_stretched():
    laid = placements(kd.wrap(Scrambled(), stages=["conv"], size=64), 64)
    assert laid == (None,)


LIT = (RunSpec(depth=5, width=8, image_size=96), RunSpec(depth=5, width=8, image_size=96, mask_net_depth=2),
       RunSpec(model="tf_efficientnet_lite0", image_size=96), RunSpec(model="test_resnet", image_size=96),
       RunSpec(model="truncated", base="test_resnet", depth=2, image_size=96))


def shown_at(model, placement, stage, row, column, size):
    """Centroid (down, across) of what a light at a place changes in a stage's map, as it is painted."""
    dark = torch.full((1, 3, size, size), 0.5)
    lit = dark.clone()
    lit[..., row - 2:row + 2, column - 2:column + 2] = 1.0
    with torch.no_grad():
        heat = (model(lit).stages[stage] - model(dark).stages[stage]).square().mean(dim=1)[0].numpy()
    shown, at = upsample(heat / heat.max(), size, placement), np.arange(size) + 0.5
    return np.array([shown.sum(axis=axis) @ at / shown.sum() for axis in (1, 0)])


@pytest.mark.parametrize("spec", LIT, ids=lambda spec: spec.model_label)
def test_a_light_is_found_under_the_centre_of_its_map(spec):
    """Mean over lights and random weights, whose kernels lean to one side each: within a third of a cell."""
    size, models = spec.image_size, [build(replace(spec, seed=seed), 2).eval() for seed in range(4)]
    for stage, placement in enumerate(placements(models[0], size)):
        if placement.step[0] < 1 / 10:  # of coarser stages a light reaches the rim
            off = [shown_at(model, placement, stage, *light, size) - light for model in models
                   for light in ((40, 56), (61, 43))]
            assert np.abs(np.mean(off, axis=0)).max() < size * placement.step[0] / 3


@pytest.mark.parametrize("name", list(EXPLAINERS))
def test_every_explainer_places_its_maps(name):
    model = Small().eval()
    placed = EXPLAINERS[name].placement(model, -1, 32)
    assert (placed == placements(model, 32)[-1]) if EXPLAINERS[name].info.grid == "stage" else placed is None


def test_stored_placements_are_read_back():
    laid = placements_of(RunSpec(depth=3, width=4, image_size=64))
    assert tuple(Placement.from_json(one.to_json()) for one in laid) == laid
