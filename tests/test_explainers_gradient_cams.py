import numpy as np
import pytest
import torch
from lanes import slow
from small_models import CLASSES, EVERY, TARGETS, Deep, made, pictures
from torch import nn

from kd.explainers import EXPLAINERS
from kd.explainers.gradient_cams import GradCam, GradientCam, gradients_from_image, gradients_of_head
from kd.models import build
from kd.spec import RunSpec


@pytest.fixture
def images():
    return pictures()


def test_closed_form_equals_the_gradient(images):
    model, grad_cam = made(), GradCam()
    with torch.no_grad():
        features = model(images).stages[-1]
    closed = grad_cam(model, images, EVERY).values
    torch.testing.assert_close(closed, grad_cam.combine(*gradients_of_head(model, features, EVERY)))
    [(seen, gradients)] = gradients_from_image(model, images, EVERY, [2])
    torch.testing.assert_close(closed, grad_cam.combine(seen, gradients))


def test_early_stages_are_grad_cam_by_the_book(images):
    model = made(Deep)
    for stage in range(3):
        features = model(images.clone().requires_grad_()).stages
        logits = model.forward_head(features[-1])
        score = logits[torch.arange(4), TARGETS].sum()
        [slope] = torch.autograd.grad(score, features[stage])
        expected = (slope.mean((2, 3), keepdim=True) * features[stage]).sum(1).clamp(min=0)
        found = EXPLAINERS["grad-cam"](model, images, TARGETS, stage).values
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)


def test_the_last_stage_takes_no_gradient_of_the_rest(images):
    """Only the head is differentiated: a backbone that forbids gradients still gives its last stage's map."""

    class Guarded(Deep):
        def forward_stages(self, normalised):
            assert not torch.is_grad_enabled()
            return super().forward_stages(normalised)

    maps = EXPLAINERS["grad-cam"](made(Guarded), images, TARGETS)
    assert not maps.blank.all()


def test_a_head_may_work_in_place(images):
    class Rectifying(Deep):
        def forward_head(self, features):
            return super().forward_head(features.sub_(0.2).relu_())

    maps = EXPLAINERS["grad-cam"](made(Rectifying), images, TARGETS)
    assert torch.isfinite(maps.values).all()


FAMILIES = ("test_resnet", "test_nfnet", "test_convnext",
            *slow("resnet18", "densenet121", "efficientnet_b0", "mobilenetv3_small_100", "regnetx_002",
                  "convnext_atto", "ghostnet_100", "legacy_seresnet18"))


class Logits(nn.Module):
    """A classifier as the package grad-cam wants it, with a module that it can watch at the last stage."""

    def __init__(self, model):
        super().__init__()
        self.model, self.last = model, nn.Identity()

    def forward(self, images):
        scaled = (images - self.model.mean) / self.model.std
        return self.model.forward_head(self.last(self.model.forward_stages(scaled)[-1]))


def package_maps(model, images, targets):
    """The package's raw maps of every stage, by its class's name: ReLU'd but HiResCAM, at the stage's own grid. After
    that the package scales, raises and scales again."""
    from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    wrapped = Logits(model)
    cam = GradCAM(wrapped, [model.net.get_submodule(stage.name) for stage in model.stages[:-1]] + [wrapped.last])
    cam(images, [ClassifierOutputTarget(int(target)) for target in targets])
    seen = cam.activations_and_grads
    pairs = [(features.numpy(), slope.numpy())
             for features, slope in zip(seen.activations, seen.gradients, strict=True)]
    found = {}
    for kind in (GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM):
        one = kind(wrapped, [wrapped.last])
        maps = [one.get_cam_image(images, wrapped.last, None, *pair, False) for pair in pairs]
        one.activations_and_grads.release()
        found[kind.__name__] = maps if kind is HiResCAM else [np.maximum(raw, 0) for raw in maps]
    seen.release()
    terms = [np.abs(features * slope).sum(axis=1).max(axis=(1, 2)) for features, slope in pairs]
    return found, terms


OURS = {"GradCAM": "grad-cam", "GradCAMPlusPlus": "grad-cam-plus-plus", "HiResCAM": "hires-cam",
        "LayerCAM": "layer-cam", "XGradCAM": "xgrad-cam"}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_family_equals_the_package_before_scaling(name):
    model = build(RunSpec(model=name, image_size=96), CLASSES).eval()
    images, targets = pictures(5, 0, 96), torch.arange(5)
    package, terms = package_maps(model, images, targets)
    for theirs, ours in OURS.items():
        every = EXPLAINERS[ours].at_stages(model, images, targets, range(len(model.stages)))
        last = EXPLAINERS[ours](model, images, targets)
        for maps, raw, most in zip((*every, last), (*package[theirs], package[theirs][-1]), (*terms, terms[-1]),
                                   strict=True):
            size = np.abs(raw).max()
            assert size > 0, ours
            # In front of a layer norm channels cancel: the package shows the rounding, and we a blank map.
            rounding = most * np.where(maps.blank.numpy(), 1e-4, 1e-6) * (ours == "hires-cam")
            # XGrad-CAM divides by a channel's sum, which is nearly 0 now and then where features have both signs.
            least = 1e-3 if (ours, name) == ("xgrad-cam", "convnext_atto") else 1e-4
            assert (np.abs(maps.values.numpy() - raw).max(axis=(1, 2)) <= least * size + rounding).all(), ours
        assert not last.blank.all()


def test_the_whole_family_comes_from_one_pass_over_the_same_features(images):
    model, stages = made(Deep), (0, 1, 2)
    pairs = gradients_from_image(model, images, TARGETS, stages)
    for ours in OURS.values():
        explainer = EXPLAINERS[ours]
        assert isinstance(explainer, GradientCam)
        for pair, maps in zip(pairs, explainer.at_stages(model, images, TARGETS, stages), strict=True):
            assert torch.equal(explainer.combine(*pair), maps.values)


def test_hirescam_sums_to_the_logit_less_its_bias(images):
    model = made()
    maps = EXPLAINERS["hires-cam"](model, images, EVERY).values
    with torch.no_grad():
        expected = model(images).logits - model.fc.bias
    torch.testing.assert_close(maps.sum(dim=(-2, -1)), expected, rtol=1e-4, atol=1e-5)


def test_in_front_of_pooling_the_family_agrees(images):
    """The gradient is the same everywhere there, so HiResCAM's positive part, Grad-CAM and XGrad-CAM are one map."""
    model = made()
    grad, hires, xgrad = (EXPLAINERS[name](model, images, TARGETS).values
                          for name in ("grad-cam", "hires-cam", "xgrad-cam"))
    torch.testing.assert_close(hires.relu(), grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(xgrad, grad, rtol=1e-3, atol=1e-5)


def test_layercam_by_the_book(images):
    model = made(Deep)
    for stage in range(3):
        features = model(images.clone().requires_grad_()).stages
        score = model.forward_head(features[-1])[torch.arange(4), TARGETS].sum()
        [slope] = torch.autograd.grad(score, features[stage])
        expected = (slope.clamp(min=0) * features[stage]).sum(1).clamp(min=0)
        found = EXPLAINERS["layer-cam"](model, images, TARGETS, stage).values
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)
