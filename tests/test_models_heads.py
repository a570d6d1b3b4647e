"""New classifiers start where no class is preferred, in every family of networks."""

import math

import pytest
import torch
from lanes import slow
from torch.nn import functional as F

from kd.methods import METHODS
from kd.methods import build as build_method
from kd.models import backbone_parameters, build, stage_shapes, weights
from kd.observation import Observation, select_output
from kd.spec import RunSpec

CLASSES = 4
FAMILIES = ("mobilenetv2_035", "test_efficientnet", "test_resnet", "test_convnext", "test_nfnet", *slow(
    "mobilenetv3_small_050", "mnasnet_small", "densenet121", "regnetx_002", "ghostnet_050", "repvgg_a0", "vgg11",
    "inception_v3", "dla34", "hrnet_w18_small", "resnetv2_50x1_bit", "xception41", "efficientnet_b0", "hgnetv2_b0",
    "poolformer_s12", "fastvit_t8", "darknet53", "cspdarknet53", "test_byobnet", "tf_efficientnet_b0"))
IMAGES = torch.rand(8, 3, 96, 96, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % CLASSES


def spec(name: str, **changes) -> RunSpec:
    return RunSpec(model=name, image_size=96, **changes)


@pytest.fixture
def pretrained(tmp_path):
    """Weights of a network with so many classes, in a file."""
    def save(about: RunSpec, classes: int) -> str:
        path = tmp_path / f"{about.model_label}-{classes}.safetensors"
        weights.save(build(about, classes), path)
        return str(path)

    return save


def entropy(model) -> float:
    with torch.no_grad():
        return F.cross_entropy(model.train()(IMAGES, stages=False).logits, LABELS).item()


@pytest.mark.parametrize("name", FAMILIES)
def test_training_starts_at_the_entropy_of_a_guess(name, pretrained):
    about = spec(name)
    fine_tuned = build(spec(name, pretrained=pretrained(about, 7)), CLASSES)
    assert entropy(fine_tuned) == pytest.approx(math.log(CLASSES), abs=1e-5)
    assert entropy(build(about, CLASSES)) < math.log(CLASSES) + 0.7


def test_a_truncated_student_of_pretrained_stages_starts_there_too(pretrained):
    about = RunSpec(model="truncated", base="test_resnet", depth=2, image_size=96)
    found = build(RunSpec(**{**vars(about), "pretrained": pretrained(spec("test_resnet"), 7)}), CLASSES)
    assert entropy(found) == pytest.approx(math.log(CLASSES), abs=1e-5)


def test_a_classifier_for_as_many_classes_is_kept(pretrained):
    path = pretrained(spec("test_resnet", seed=3), CLASSES)
    assert torch.equal(build(spec("test_resnet", pretrained=path), CLASSES).net.fc.weight,
                       build(spec("test_resnet", seed=3), CLASSES).net.fc.weight)


def test_the_backbone_is_all_but_the_new_classifier(pretrained):
    about = spec("test_resnet", pretrained=pretrained(spec("test_resnet"), 7), mask_net_depth=1)
    model = build(about, CLASSES)
    backbone = {id(weight) for weight in backbone_parameters(model, about, CLASSES)}
    others = {name for name, weight in model.named_parameters() if id(weight) not in backbone}
    assert {"student.net.fc.weight", "student.net.fc.bias"} == {name for name in others if "mask_net" not in name}
    assert backbone_parameters(model, spec("test_resnet"), CLASSES) == []


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].needs_teacher
                                  and not METHODS[name].needs_mask_net])
def test_the_first_step_of_every_method_is_of_the_size_of_later_ones(name, pretrained):
    """AdamW remembers a gradient a million times too large for thousands of steps."""
    about = spec("test_resnet", pretrained=pretrained(spec("test_resnet"), 7))
    shapes = stage_shapes(about, CLASSES)
    method, student = build_method(name, {}), build(about, CLASSES)
    method.setup(shapes, shapes)
    with torch.no_grad():
        seen: Observation = build(spec("test_resnet", seed=5), CLASSES)(IMAGES, cams=True)
    teacher = {output: select_output(seen, output) for output in method.teacher_outputs}
    observed = student(IMAGES, **method.forward_kwargs(1.0))
    sum(method(observed, teacher, LABELS, 1.0).values()).backward()
    gradient = student.net.fc.weight.grad
    assert gradient.isfinite().all()
    assert 0 < gradient.abs().max() < 100
