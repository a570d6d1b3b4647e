import pytest
import torch
from lanes import slow

from kd.errors import UsageError
from kd.models import build, cost, stage_shapes, weights
from kd.spec import RunSpec

BASES = ("test_resnet", "test_convnext", "mobilenetv3_small_050",
         *slow("densenet121", "mobilenetv2_100", "efficientnet_b0", "convnext_atto", "regnety_002", "selecsls42"))
# hrnet's stages give several maps at once, and what only the finer ones need is behind no cut.
SEVERAL_AT_ONCE = slow("hrnet_w18_small")
SIZE = 64


def spec(base: str, depth: int, **changes) -> RunSpec:
    return RunSpec(model="truncated", base=base, depth=depth, image_size=SIZE, **changes)


@pytest.mark.parametrize("base", [*BASES, *SEVERAL_AT_ONCE])
def test_it_sees_what_its_base_sees_at_a_part_of_the_cost(base, tmp_path):
    teacher = build(RunSpec(model=base, image_size=SIZE, seed=3), classes=5).eval()
    file = tmp_path / "weights.safetensors"
    weights.save(teacher, file)
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    prices = []
    with torch.no_grad():
        whole = teacher(images)
        for depth in (1, 2):
            student = build(spec(base, depth, pretrained=str(file)), classes=4).eval()
            logits, maps, *_ = student(images)
            assert logits.shape == (2, 4)
            assert student.stages == teacher.stages[: len(maps)]
            assert all(torch.equal(a, b) for a, b in zip(maps, whole.stages, strict=False))
            assert torch.allclose(student.pooled_linear(maps[-1].mean((2, 3))), logits, atol=1e-5)
            prices.append(cost.cost(spec(base, depth), classes=4))
    prices.append(cost.cost(RunSpec(model=base, image_size=SIZE), classes=4))
    assert prices[0].parameters < prices[1].parameters < prices[2].parameters
    assert prices[0].flops < prices[1].flops < prices[2].flops


@pytest.mark.parametrize("base", BASES)
def test_nothing_behind_the_cut_is_kept(base):
    student = build(spec(base, 1), classes=4)
    student(torch.rand(2, 3, SIZE, SIZE)).logits.sum().backward()
    unused = [name for name, weight in student.named_parameters() if weight.grad is None]
    assert unused == []


@pytest.mark.parametrize("base", ["legacy_xception", "nasnetalarge"])
def test_a_stage_in_front_of_a_blocks_first_weights_is_kept(base):
    """There an activation without weights gives the stage: the block around it must stay."""
    shapes = stage_shapes(RunSpec(model="truncated", base=base, depth=1, image_size=96), 2)
    assert len(shapes) == 2 and shapes[0][1] > shapes[1][1] > 0


def test_depth_counts_stages_after_the_stem():
    assert [stage.name for stage in build(spec("resnet10t", 2), classes=4).stages] == ["act1", "layer1", "layer2"]
    assert [stage.name for stage in build(spec("convnext_atto", 2), classes=4).stages] == ["stages.0", "stages.1"]


@pytest.mark.parametrize(("base", "depth", "told"), [
    ("resnet10t", 5, "between 1 and 4, not 5"), ("", 1, "needs the name"), ("vit_tiny_patch16_224", 1, "class token"),
    ("resnet10x", 1, "Did you mean")])
def test_what_cannot_be_cut_is_refused_with_the_way_out(base, depth, told):
    with pytest.raises(UsageError, match=told):
        build(spec(base, depth), classes=4)


def test_a_saved_student_loads_again(tmp_path):
    student = build(spec("test_resnet", 2, seed=1), classes=4)
    file = tmp_path / "weights.safetensors"
    weights.save(student, file)
    other = build(spec("test_resnet", 2, seed=2), classes=4)
    weights.load(other, file)
    expected = student.state_dict()
    assert all(torch.equal(expected[name], value) for name, value in other.state_dict().items())
    assert len(expected) < len(build(RunSpec(model="test_resnet"), classes=4).state_dict())


def test_it_can_be_exported_for_batches_of_any_size():
    """Its forward ends at the cut by itself, not by an exception, which no tracer can follow."""
    student = build(spec("test_resnet", 1), classes=4).eval()
    sizes = ({0: torch.export.Dim("batch", min=1, max=64)}, None, None)
    exported = torch.export.export(student, (torch.rand(2, 3, SIZE, SIZE), False, False), dynamic_shapes=sizes)
    images = torch.rand(5, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(images, False, False).logits, student(images).logits)
