import numpy as np
import pytest
import torch
from small_models import CLASSES, EVERY, TARGETS, Deep, made, pictures
from torch import nn

from kd.explainers import EXPLAINERS
from kd.explainers.gradcam import GradCam, gradients_from_image, gradients_of_head
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
        logits = model.head(features[-1])
        score = logits[torch.arange(4), TARGETS].sum()
        [slope] = torch.autograd.grad(score, features[stage])
        expected = (slope.mean((2, 3), keepdim=True) * features[stage]).sum(1).clamp(min=0)
        found = EXPLAINERS["grad-cam"](model, images, TARGETS, stage).values
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)


def test_the_last_stage_takes_no_gradient_of_the_rest(images):
    """Only the head is differentiated: a backbone that forbids gradients still gives its last stage's map."""

    class Guarded(Deep):
        def extract(self, normalised):
            assert not torch.is_grad_enabled()
            return super().extract(normalised)

    maps = EXPLAINERS["grad-cam"](made(Guarded), images, TARGETS)
    assert not maps.blank.all()


def test_a_head_may_work_in_place(images):
    class Rectifying(Deep):
        def head(self, features):
            return super().head(features.sub_(0.2).relu_())

    maps = EXPLAINERS["grad-cam"](made(Rectifying), images, TARGETS)
    assert torch.isfinite(maps.values).all()


FAMILIES = ("test_resnet", "resnet18", "densenet121", "efficientnet_b0", "mobilenetv3_small_100", "regnetx_002",
            "convnext_atto", "ghostnet_100")


class Logits(nn.Module):
    """A classifier as the package grad-cam wants it, with a module that it can watch at the last stage."""

    def __init__(self, model):
        super().__init__()
        self.model, self.last = model, nn.Identity()

    def forward(self, images):
        return self.model.head(self.last(self.model.extract((images - self.model.mean) / self.model.std)[-1]))


@pytest.mark.parametrize("name", FAMILIES)
def test_grad_cam_equals_the_package_grad_cam_before_scaling(name):
    """The raw maps, ReLU'd and at the stage's own grid: after that the package scales twice."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = build(RunSpec(model=name, image_size=96), CLASSES).eval()
    images, targets = torch.rand(5, 3, 96, 96, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    count = len(model.stages)
    found = EXPLAINERS["grad-cam"].at_stages(model, images, targets, range(count))
    last = EXPLAINERS["grad-cam"](model, images, targets)
    wrapped = Logits(model)
    layers = [model.net.get_submodule(stage.name) for stage in model.stages[:-1]] + [wrapped.last]
    cam = GradCAM(wrapped, layers)
    cam(images, [ClassifierOutputTarget(int(target)) for target in targets])
    seen = cam.activations_and_grads
    pairs = list(zip(seen.activations, seen.gradients, strict=True))
    cam.activations_and_grads.release()
    for maps, (features, slope) in zip((*found, last), (*pairs, pairs[-1]), strict=True):
        raw = np.maximum(cam.get_cam_image(images, wrapped.last, None, features.numpy(), slope.numpy()), 0)
        assert raw.max() > 0
        assert np.abs(maps.values.numpy() - raw).max() <= 1e-4 * raw.max()
