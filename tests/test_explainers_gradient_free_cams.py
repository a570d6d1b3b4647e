import numpy as np
import pytest
import torch
from lanes import slow
from small_models import CLASSES, EVERY, TARGETS, Deep, Small, made, pictures
from torch import nn

from kd.explainers import EXPLAINERS
from kd.models import build
from kd.spec import RunSpec


class Watched(nn.Module):
    """A classifier as the package grad-cam wants it, with one of its stages passing through a module of its own."""

    def __init__(self, model, stage):
        super().__init__()
        self.model, self.stage, self.seen = model, stage, nn.Identity()

    def forward(self, images):
        features = self.model(images).stages[self.stage]
        return self.model.forward_from(images, self.stage, self.seen(features))


def raw_of_the_package(kind, model, stage, images, targets):
    """Raw maps before ReLU and scaling, and what the package weighs channels with is divided by: the logits."""
    from pytorch_grad_cam.ablation_layer import AblationLayer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    wrapped = Watched(model, stage)
    settings = {"ablation_layer": AblationLayer()} if kind.__name__ == "AblationCAM" else {}
    cam = kind(wrapped, [wrapped.seen], **settings)
    wanted = [ClassifierOutputTarget(int(target)) for target in targets]
    with torch.no_grad():
        cam.outputs = logits = wrapped(images)
        features = model(images).stages[stage].numpy()
        raw = cam.get_cam_image(images, wrapped.seen, wanted, features, None, False)
    cam.activations_and_grads.release()
    return raw, logits.gather(1, targets[:, None]).numpy()[..., None]


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("kind", [Small, Deep])
def test_score_cam_equals_the_package(stage, kind):
    from pytorch_grad_cam import ScoreCAM

    model, images = made(kind), pictures()
    raw, _ = raw_of_the_package(ScoreCAM, model, stage, images, TARGETS)
    found = EXPLAINERS["score-cam"](model, images, TARGETS, stage).values.numpy()
    assert np.abs(found - np.maximum(raw, 0)).max() <= 1e-4 * raw.max()


@pytest.mark.parametrize("name", ["test_resnet", "plain"])
@pytest.mark.parametrize("stage", [1, -1])
def test_ablation_cam_equals_the_package_but_for_its_division_by_the_logit(name, stage):
    """The package sets a channel to 0 where the features' least value is 0, as behind a ReLU."""
    from pytorch_grad_cam import AblationCAM

    model = build(RunSpec(model=name, image_size=32, depth=3, width=8), CLASSES).eval()
    images, number = pictures(), stage % len(model.stages)
    raw, logits = raw_of_the_package(AblationCAM, model, number, images, TARGETS)
    found = EXPLAINERS["ablation-cam"](model, images, TARGETS, stage).values.numpy()
    expected = np.maximum(raw * logits, 0)
    assert expected.max() > 0
    assert np.abs(found - expected).max() <= 1e-3 * expected.max()


def test_ablation_cam_at_the_last_stage_asks_the_head_alone():
    class Counted(Deep):
        extracted = 0

        def forward_stages(self, normalised):
            self.extracted += 1
            return super().forward_stages(normalised)

    model = made(Counted)
    EXPLAINERS["ablation-cam"](model, pictures(), EVERY)
    assert model.extracted == 1


@pytest.mark.parametrize("name", ["test_resnet", *slow("resnet18", "densenet121")])
def test_eigen_cam_equals_the_package_but_for_the_sign(name):
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    model, images = build(RunSpec(model=name, image_size=64), CLASSES).eval(), pictures(2, side=64)
    with torch.no_grad():
        stages = model(images).stages
    for stage in (1, -1):
        found = EXPLAINERS["eigen-cam"](model, images, TARGETS[:2], stage).values.numpy()
        for mine, raw in zip(found, get_2d_projection(stages[stage].numpy()), strict=True):
            signed = raw if raw.max() >= -raw.min() else -raw
            assert np.abs(mine - np.maximum(signed, 0)).max() <= 1e-3 * signed.max()


def test_memory_is_bounded_by_a_chunk_of_pictures():
    """Not by the channels: all masked pictures at once took 1.6 GB for a DenseNet."""
    largest = []

    class Counted(Small):
        def forward_stages(self, normalised):
            largest.append(len(normalised))
            return super().forward_stages(normalised)

    images = pictures(3)
    for name in ("score-cam", "ablation-cam", "occlusion", "kernel-shap", "integrated-gradients", "gradient-shap"):
        EXPLAINERS[name](made(Counted), images, TARGETS[:3], 0)
    assert max(largest) <= 17
