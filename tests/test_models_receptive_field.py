import pytest
import torch
from lanes import slow

from kd.models import build, receptive_field
from kd.models.plain import strides
from kd.spec import RunSpec


def closed_form(depth: int, size: int) -> list[tuple[int, receptive_field.Box]]:
    """Of each layer of plain (3×3 kernels, padding 1): the field's side, and what the middle unit sees of it."""
    found, reach, jump, grid = [], 0, 1, size
    for stride in strides(depth, size):
        reach += jump
        jump *= stride
        grid = -(-grid // stride)
        middle = grid // 2 * jump
        low, high = max(0, middle - reach), min(size, middle + reach + 1)
        found.append((min(size, 2 * reach + 1), receptive_field.Box(low, low, high, high)))
    return found


@pytest.mark.parametrize("size", [32, 64, 96, 100])
@pytest.mark.parametrize("depth", [1, 3, 5, 8, 12])
def test_plain_sees_what_the_closed_form_says(depth, size):
    spec = RunSpec(depth=depth, width=4, image_size=size)
    expected = closed_form(depth, size)
    assert receptive_field.receptive_fields(spec) == [side for side, _ in expected]
    grid = size
    for stage, (stride, (_, box)) in enumerate(zip(strides(depth, size), expected, strict=True)):
        grid = -(-grid // stride)
        assert receptive_field.receptive_field_of(spec, stage, (grid // 2, grid // 2)) == box


def test_a_unit_in_the_corner_sees_the_corner():
    spec = RunSpec(depth=2, width=4, image_size=32)
    assert receptive_field.receptive_field_of(spec, 1, (0, 0)) == receptive_field.Box(0, 0, 4, 4)
    assert receptive_field.receptive_field_of(spec, 1, (0, 7)) == receptive_field.Box(0, 25, 4, 32)


def test_resnet18_sees_what_is_known_of_it():
    """Kernels and strides multiplied out; 435 also in Araujo et al., Distill 2019."""
    known = [7, 43, 99, 211, 435]
    assert receptive_field.receptive_fields(RunSpec(model="resnet18", image_size=128)) == [
        min(side, 128) for side in known]


@pytest.mark.parametrize("name", [
    "test_efficientnet", "test_convnext2", *slow("regnety_002", "efficientnet_b0", "resnest14d", "convnextv2_atto")])
def test_gates_over_the_whole_picture_do_not_widen_the_field(name):
    sides = receptive_field.receptive_fields(RunSpec(model=name, image_size=96))
    assert sides == sorted(sides)
    assert sides[0] < 96


@pytest.mark.parametrize("name", [
    "test_nfnet", "test_convnext", *slow("nf_resnet26", "starnet_s1", "convnext_atto", "mobilenetv3_small_050")])
def test_a_pixel_matters_only_inside_the_field(name):
    """Random weights as they are built: what the field leaves out changes nothing in the first stage."""
    spec = RunSpec(model=name, image_size=96)
    model = build(spec, classes=3).eval()
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(image).stages[0]
        row, column = (side // 4 for side in before.shape[-2:])
        box = receptive_field.receptive_field_of(spec, 0, (row, column))
        outside = torch.ones(96, 96, dtype=torch.bool)
        outside[box.top:box.bottom, box.left:box.right] = False
        after = model(torch.where(outside, 1 - image, image)).stages[0]
    assert outside.any()
    assert torch.allclose(before[..., row, column], after[..., row, column], atol=1e-5)


@pytest.mark.parametrize(("name", "twin"), [
    ("test_efficientnet_evos", "test_efficientnet"), *slow(("gcresnext26ts", "resnext26ts"))])
def test_a_normalisation_or_gate_over_the_whole_image_leaves_the_field_of_its_twin(name, twin):
    one, other = (receptive_field.receptive_fields(RunSpec(model=model, image_size=96)) for model in (name, twin))
    assert one == other


@pytest.mark.parametrize("name", slow("resnetv2_50d_frn"))
def test_an_activation_with_a_learnt_threshold_passes(name):
    assert receptive_field.receptive_fields(RunSpec(model=name, image_size=96))[:3] == [11, 39, 95]


def test_a_field_that_cannot_be_told_is_0(monkeypatch):
    def no_linear_form(what):
        raise RuntimeError("an operation without a linear form")

    monkeypatch.setattr(receptive_field, "_run", no_linear_form)
    spec = RunSpec(depth=3, width=5, image_size=40)
    assert receptive_field.receptive_fields(spec) == [0, 0, 0]
    assert receptive_field.receptive_field_of(spec, 0, (1, 1)) == receptive_field.Box(0, 0, 0, 0)


def test_a_last_grid_of_one_unit_without_padding_sees_no_less_than_the_stage_before():
    sides = receptive_field.receptive_fields(RunSpec(model="inception_v3", image_size=96))
    assert sides == sorted(sides)
    assert sides[:2] == [11, 23]


def test_the_global_generator_stays_where_it_is():
    before = torch.get_rng_state()
    receptive_field.receptive_fields(RunSpec(depth=2, width=6, image_size=32))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("stage", "unit"), [(0, (16, 0)), (2, (0, 0)), (0, (-1, 0))])
def test_units_that_do_not_exist_are_an_index_error(stage, unit):
    with pytest.raises(IndexError):
        receptive_field.receptive_field_of(RunSpec(depth=2, width=4, image_size=32), stage, unit)


def test_a_network_that_reads_its_biases_once_has_fields_too():
    """LeViT keeps its table of attention biases after the first forward pass; every unit attends to all places."""
    spec = RunSpec(model="levit_128s", image_size=224)
    assert receptive_field.receptive_fields(spec) == [224, 224, 224]
    assert receptive_field.receptive_field_of(spec, 2, (0, 0)) == receptive_field.Box(0, 0, 224, 224)
