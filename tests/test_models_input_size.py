"""Models that downsample the images they are given: everything around them keeps the working size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kd.errors import UsageError
from kd.explainers import EXPLAINERS
from kd.models import build, cost, receptive_field, stage_shapes
from kd.models.factory import unwrap
from kd.spec import RunSpec
from kd.torch_utils.resize import downsample

WORKING, INPUT = 96, 40
KINDS = {"plain": {"depth": 3, "width": 4}, "truncated": {"base": "test_resnet", "depth": 2}, "test_convnext": {}}
BEHIND = {"mask_net_depth": 2, "mask_net_width": 4}


def spec(model: str, **changes) -> RunSpec:
    return RunSpec(model=model, **{"image_size": WORKING, "input_size": INPUT, **KINDS[model], **changes})


def images(count: int = 2, side: int = WORKING) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def on_input(about: RunSpec) -> RunSpec:
    """The same network for images that have its input size already."""
    return replace(about, image_size=about.model_size, input_size=0)


@pytest.mark.parametrize("model", KINDS)
def test_it_is_the_network_of_its_input_size_on_downsampled_images(model):
    about = spec(model)
    made, bare = build(about, 3).eval(), build(on_input(about), 3).eval()
    with torch.no_grad():
        seen, expected = made(images(), cams=True), bare(downsample(images(), INPUT), cams=True)
        onwards = made.forward_from(images(), 0, seen.stages[0].clone())
    assert torch.equal(seen.logits, expected.logits) and torch.equal(seen.cams, expected.cams)
    assert all(map(torch.equal, seen.stages, expected.stages))
    torch.testing.assert_close(onwards, seen.logits)
    assert list(made.state_dict()) == list(bare.state_dict())
    assert stage_shapes(about, 3) == stage_shapes(on_input(about), 3) == tuple(
        tuple(features.shape[1:]) for features in seen.stages)


@pytest.mark.parametrize("model", KINDS)
def test_it_costs_what_the_network_costs_at_its_input_size(model):
    about = spec(model)
    assert cost.cost(about, 3) == cost.cost(on_input(about), 3)
    assert cost.cost(about, 3).flops < cost.cost(replace(about, input_size=0), 3).flops


@pytest.mark.parametrize("fill", ["mean", "blur"])
def test_masks_lie_on_the_image_as_given_and_both_networks_read_it_at_the_input_size(fill):
    made = build(spec("plain", **BEHIND, mask_fill=fill), 3).eval()
    torch.nn.init.normal_(made.mask_net.score.weight)
    shapes = []
    made.mask_net.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape[-1]))
    made.student.layers[0].register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape[-1]))
    with torch.no_grad():
        seen = made(images())
        masked = made.apply_mask(images(), seen.mask)
        assert seen.mask.shape == (2, WORKING, WORKING) and masked.shape[-1] == WORKING
        assert torch.equal(made.predict_mask(images()), seen.mask)
        assert torch.equal(made.student(masked).logits, seen.logits)
        assert all(map(torch.equal, made.forward_stages(made.prepare(images())), seen.stages))
    assert set(shapes) == {INPUT}
    assert made.input_size == unwrap(made).input_size == INPUT


def test_the_gradient_reaches_every_pixel_of_the_image():
    made = build(spec("plain"), 3).eval()
    given = images().requires_grad_()
    [gradient] = torch.autograd.grad(made(given).logits[:, 0].sum(), given)
    assert gradient.shape == given.shape and (gradient != 0).float().mean() > 0.9


@pytest.mark.parametrize("name", ["grad-cam", "integrated-gradients"])
def test_explainers_hand_it_images_of_the_working_size(name):
    made, targets = build(spec("plain"), 3).eval(), torch.tensor([0, 2])
    explainer = EXPLAINERS[name]
    maps = explainer(made, images(), targets)
    assert maps.values.shape[-1] == (stage_shapes(spec("plain"), 3)[-1][2] if name == "grad-cam" else WORKING)


@pytest.mark.parametrize("model", ["plain", "test_convnext"])
def test_receptive_fields_are_in_pixels_of_the_working_size(model):
    """What the field leaves out changes nothing."""
    about = spec(model)
    made = build(about, 3).eval()
    with torch.no_grad():
        before = made(images(1)).stages[0]
        row, column = (side // 4 for side in before.shape[-2:])
        box = receptive_field.receptive_field_of(about, 0, (row, column))
        outside = torch.ones(WORKING, WORKING, dtype=torch.bool)
        outside[box.top:box.bottom, box.left:box.right] = False
        after = made(torch.where(outside, 1 - images(1), images(1))).stages[0]
    torch.testing.assert_close(before[..., row, column], after[..., row, column])
    cell = WORKING / before.shape[-1]
    assert abs((box.top + box.bottom) / 2 - (row + 0.5) * cell) <= cell  # around the cell, not at a corner of the image
    sides = receptive_field.receptive_fields(about)
    grown = [side * WORKING / INPUT for side in receptive_field.receptive_fields(on_input(about))]
    assert all(abs(side - one) <= 2 * WORKING / INPUT for side, one in zip(sides, grown, strict=True))


def test_smaller_images_are_taken_as_they_are():
    about = spec("plain")
    made = build(about, 3).eval()
    small = images(side=32)
    with torch.no_grad():
        assert made(small).stages[0].shape[-1] == 16
    assert downsample(small, INPUT) is small
    assert about.at(32).model_size == 32 and about.at(64).model_size == INPUT


def test_downsampling_is_pillows():
    pixels = np.random.default_rng(0).integers(0, 256, (WORKING, WORKING, 3), np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((INPUT, INPUT), Image.Resampling.BILINEAR)) / 255
    found = downsample(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, INPUT)[0].permute(1, 2, 0)
    assert np.abs(found.numpy() - expected).max() < 1.5 / 255  # Pillow rounds after each direction


def test_an_input_size_too_small_for_a_network_is_refused_with_one_that_works():
    about = RunSpec(model="inception_v3", image_size=96, input_size=32)
    with pytest.raises(UsageError, match="images of 32 px .* Set the input size to 75 px"):
        build(about, 3)
    with pytest.raises(UsageError, match="Choose another model"):
        build(replace(about, image_size=64), 3)


@pytest.mark.parametrize(("changes", "words"), [
    ({"input_size": 128}, "input_size is 128 px, but the images have 96 px.*96 at most, or image_size to 128"),
    ({"input_size": 12}, "0 .the working size. or at least 28, not 12"),
])
def test_enlarging_and_tiny_inputs_are_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        RunSpec(**changes)


def test_an_input_of_the_working_size_is_the_default():
    assert RunSpec(input_size=96) == RunSpec() and RunSpec(input_size=96).id == RunSpec().id


def test_both_sizes_are_said_where_they_differ():
    assert RunSpec().sizes == "96 px"
    assert RunSpec(image_size=224, input_size=96).sizes == "224 px, the model 96 px"


def test_specs_of_before_keep_their_ids():
    assert RunSpec().id == "phantom_brain-plain5-supervised-bd67991ca7"
    assert RunSpec(data="x", data_fingerprint="f", image_size=224, model="densenet121", method="kd", teacher="t",
                   seed=2, method_args={"alpha": 0.7}, mask_net_depth=3).id == "x-explained_densenet121-kd-3e873f6526"
    assert RunSpec(input_size=48).id != RunSpec().id
