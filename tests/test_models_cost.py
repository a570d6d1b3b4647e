from dataclasses import replace

import pytest
import torch
from lanes import slow
from torch.utils.flop_counter import FlopCounterMode

from kd.errors import UsageError
from kd.experiments.plan import DistillSpec
from kd.models import build, cost
from kd.spec import RunSpec
from kd.torch_utils.flops import FlopCounter


def by_hand(depth_strides: list[int], width: int, size: int, classes: int) -> cost.Cost:
    """Parameters and FLOPs of plain, multiplied out."""
    parameters = flops = 0
    before, channels = 3, width // 2
    for stride in depth_strides:
        channels *= stride
        size = -(-size // stride)
        parameters += 9 * before * channels + 2 * channels
        flops += 2 * 9 * before * channels * size * size
        before = channels
    return cost.Cost(parameters + channels * classes + classes, flops + 2 * channels * classes)


@pytest.mark.parametrize(("depth", "width", "size", "strides"), [
    (5, 16, 96, [2, 2, 2, 2, 2]), (5, 8, 64, [2, 2, 2, 2, 1]), (8, 16, 96, [2, 2, 1, 2, 2, 1, 2, 1]), (1, 32, 33, [2])])
def test_plain_costs_what_the_sum_by_hand_says(depth, width, size, strides):
    spec = RunSpec(depth=depth, width=width, image_size=size)
    assert cost.cost(spec, classes=4) == by_hand(strides, width, size, 4)
    assert cost.cost_of(build(spec, classes=4), size) == by_hand(strides, width, size, 4)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext",
                                  *slow("densenet121", "regnety_002", "convnext_atto", "inception_v3")])
def test_flops_are_those_of_torchs_counter(name):
    spec = RunSpec(model=name, image_size=96)
    model = build(spec, classes=3).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 96, 96))
    expected = cost.Cost(sum(weight.numel() for weight in model.parameters()), counter.get_total_flops())
    assert cost.cost(spec, classes=3) == cost.cost_of(model, 96) == expected


def test_resnet18_costs_what_its_paper_says():
    price = cost.cost(RunSpec(model="resnet18", image_size=224), classes=1000)
    assert price.parameters == 11_689_512
    assert price.flops == pytest.approx(2 * 1.8e9, rel=0.02)


@pytest.mark.parametrize("size", [64, 96, 224])
@pytest.mark.parametrize("teacher", ["resnet18", *slow("densenet121")])
def test_explainer_and_student_take_less_than_a_tenth_of_the_teachers_flops(teacher, size):
    chosen = DistillSpec()
    student = RunSpec(model=chosen.student, depth=chosen.depth, width=chosen.width, image_size=size,
                      mask_net_depth=chosen.mask_net_depth, mask_net_width=chosen.mask_net_width)
    whole = cost.cost(student, classes=4).flops
    assert cost.cost(student.without_mask_net, classes=4).flops < whole
    assert whole < 0.1 * cost.cost(RunSpec(model=teacher, image_size=size), classes=4).flops


@pytest.mark.parametrize("fill", ["mean", "blur"])
def test_what_stands_behind_the_explainer_costs_what_it_costs_alone(fill):
    about = RunSpec(depth=3, width=4, image_size=48, mask_net_depth=2, mask_net_width=4, mask_fill=fill)
    model, alone = build(about, classes=3), cost.cost(about.without_mask_net, classes=3)
    with torch.no_grad(), FlopCounter(model.mask_net) as net:
        model.eval().mask_net(torch.zeros(1, 3, 48, 48))
    with torch.no_grad(), FlopCounter(model) as hidden:
        model.apply_mask(torch.zeros(1, 3, 48, 48), torch.zeros(1, 48, 48))
    assert (hidden.flops > 0) == (fill == "blur")
    assert cost.cost(about, classes=3) == cost.cost_of(model, 48) == cost.Cost(
        alone.parameters + net.parameters, alone.flops + net.flops + hidden.flops)


def test_flops_fall_with_the_picture():
    prices = [cost.cost(RunSpec(image_size=size), classes=4).flops for size in (224, 96, 48)]
    assert prices[0] > 4 * prices[1] > 8 * prices[2]


@pytest.mark.parametrize("changes", [
    {"model": "plain", "depth": 7}, {"model": "test_resnet"}, {"model": "test_convnext"},
    {"model": "truncated", "base": "test_resnet", "depth": 2},
    *slow({"model": "densenet121"}, {"model": "hrnet_w18_small"}, {"model": "convnext_atto"})], ids=str)
def test_rows_are_the_stages_and_add_up_to_the_whole_but_the_head(changes):
    spec = RunSpec(image_size=64, **changes)
    model, rows = build(spec, classes=4).eval(), cost.layers(spec, classes=4)
    with torch.no_grad(), FlopCounter(model) as head:
        maps = model.forward_stages(torch.zeros(1, 3, 64, 64))
        body = head.parameters, head.flops
        model.forward_head(maps[-1])
    assert [(row.name, row.channels) for row in rows] == [(stage.name, stage.channels) for stage in model.stages]
    assert [row.grid for row in rows] == [features.shape[-1] for features in maps]
    assert (sum(row.parameters for row in rows), sum(row.flops for row in rows)) == body
    assert cost.cost(spec, classes=4) == cost.Cost(head.parameters, head.flops)
    assert [row.receptive_field for row in rows] == sorted(row.receptive_field for row in rows)


@pytest.mark.parametrize("fill", ["mean", "blur"])
@pytest.mark.parametrize("changes", [{"depth": 3}, {"model": "truncated", "base": "test_resnet", "depth": 2}],
                         ids=["plain", "truncated"])
def test_an_explainer_has_its_own_cost_and_the_layers_keep_theirs(changes, fill):
    alone = RunSpec(image_size=64, **changes)
    spec = replace(alone, mask_net_depth=2, mask_net_width=4, mask_fill=fill)
    own, behind, whole = cost.mask_cost(spec, 4), cost.cost(alone, 4), cost.cost(spec, 4)
    assert cost.layers(spec, 4) == cost.layers(alone, 4)
    assert (own.parameters + behind.parameters, own.flops + behind.flops) == (whole.parameters, whole.flops)
    assert own.parameters == sum(weight.numel() for weight in build(spec, 4).mask_net.parameters())
    assert cost.cost_of(build(spec, 4), 64) == whole
    assert cost.mask_cost(alone, 4) is None


def test_blurring_what_is_hidden_costs_too():
    mean, blur = (cost.mask_cost(RunSpec(mask_net_depth=1, mask_fill=fill), 4).flops for fill in ("mean", "blur"))
    assert blur > mean


def test_each_row_of_plain_is_one_layer():
    first, second = cost.layers(RunSpec(depth=2, image_size=32), classes=4)
    assert (first.parameters, first.flops) == (3 * 16 * 9 + 2 * 16, 2 * 3 * 16 * 9 * 16**2)
    assert (second.parameters, second.flops) == (16 * 32 * 9 + 2 * 32, 2 * 16 * 32 * 9 * 8**2)


def test_counting_does_not_change_the_model():
    model = build(RunSpec(depth=2, image_size=32), classes=4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cost.cost_of(model, 32)
    assert model.training
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize(("changes", "told"), [
    ({"model": "inception_v3", "image_size": 32}, "cannot take images of 32 px"), ({"model": "resnet19"}, "resnet18"),
    ({"model": "truncated", "base": "resnet18", "depth": 7}, "between 1 and 4")])
def test_what_cannot_be_built_has_no_cost(changes, told):
    with pytest.raises(UsageError, match=told):
        cost.cost(RunSpec(**changes), classes=4)


@pytest.mark.parametrize(("ratios", "said"), [
    ((45.2,), "The student needs 1/45 of the teacher's FLOPs."),
    ((20.0, 26.0, 24.0), "The students need 1/26 to 1/20 of the teacher's FLOPs."),
    ((4.74,), "The student needs 1/4.7 of the teacher's FLOPs, more than 1/20. A smaller "),
    ((4.7, 26.0), "1/26 to 1/4.7 of the teacher's FLOPs, some of them more than 1/20. "),
    ((0.5, 4.0), "The students need 0.25 to 2 times the teacher's FLOPs, more than 1/20. "),
    ((0.7,), "The student needs 1.4 times the teacher's FLOPs, so distilling saves nothing. A smaller student, "),
    ((1.0, 1.0), "The student needs 1 times the teacher's FLOPs, so distilling saves nothing. ")])
def test_the_share_of_the_teachers_flops_in_words(ratios, said):
    assert said in cost.flops_note(*ratios)
