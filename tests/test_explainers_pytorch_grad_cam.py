"""The explainers that the package pytorch-grad-cam computes, held to their formulas.

tests/test_explainers.py holds them to what every explainer promises.
"""

import numpy as np
import pytest
import torch
from small_models import CLASSES, TARGETS, Deep, Small, assert_same, made, pictures, portrait

from kd.errors import UsageError
from kd.explainers import EXPLAINERS
from kd.explainers.pytorch_grad_cam import PackageCam, private_copy, raw_map
from kd.models import build
from kd.spec import RunSpec

STAGES = (0, 1, 2)


class Curved(Small):
    """With second derivatives that are not 0: the head squares."""

    def forward_head(self, features):
        return self.fc(features.mean(dim=(2, 3)) ** 2)

    @property
    def pooled_linear(self):
        return None


def watched(model, image, target, stage):
    """(features [1, C, h, w] in a graph, logit) of one image."""
    stages = model(image[None].clone().requires_grad_()).stages
    return stages[stage], model.forward_head(stages[-1])[0]


def slopes(model, image, target, stage):
    features, logits = watched(model, image, target, stage)
    [gradients] = torch.autograd.grad(logits[target], features)
    return features.detach()[0], gradients[0]


def each(name, model, stage):
    """(map, image, target) of four images."""
    images = pictures()
    maps = EXPLAINERS[name](model, images, TARGETS, stage).values
    return zip(maps, images, TARGETS.tolist(), strict=True)


def assert_map(found, expected):
    expected = torch.as_tensor(expected, dtype=torch.float32).detach()
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("stage", STAGES)
def test_shapley_cam_by_the_book(stage):
    model, bent = made(Curved), []
    for found, image, target in each("shapley-cam", model, stage):
        features, logits = watched(model, image, target, stage)
        [gradients] = torch.autograd.grad(logits[target], features, create_graph=True)
        [curvature] = torch.autograd.grad(gradients, features, features.detach())
        weights = (gradients - curvature / 2).mean(dim=(2, 3), keepdim=True)
        expected = (weights * features).sum(dim=1).relu()[0].detach()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.max().item())
        plain = EXPLAINERS["grad-cam"](model, image[None], torch.tensor([target]), stage).values[0]
        bent.append(bool((found - plain).abs().max() > 1e-3 * plain.max()))
    assert any(bent)


@pytest.mark.parametrize("kind", [Small, Deep])
def test_without_curvature_shapley_cam_is_grad_cam(kind):
    """A network of ReLUs and a linear head is linear around every image."""
    for stage in STAGES:
        for found, image, target in each("shapley-cam", made(kind), stage):
            plain = EXPLAINERS["grad-cam"](made(kind), image[None], torch.tensor([target]), stage).values[0]
            torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_finer_cam_by_the_book(stage):
    model = made(Deep)
    for found, image, target in each("finer-cam", model, stage):
        features, logits = watched(model, image, target, stage)
        others = [number for number in (logits - logits[target]).abs().argsort().tolist() if number != target][:3]
        weights = logits.softmax(dim=0)[others]
        score = (weights * (logits[target] - logits[others])).sum() / weights.sum()
        [gradients] = torch.autograd.grad(score, features)
        assert_map(found, (gradients.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()[0])


@pytest.mark.parametrize("stage", STAGES)
def test_eigen_grad_cam_by_the_book(stage):
    model = made(Deep)
    for found, image, target in each("eigen-grad-cam", model, stage):
        features, gradients = slopes(model, image, target, stage)
        places = (features * gradients).flatten(1).double().T
        centred = places - places.mean(dim=0)
        first = (centred @ torch.linalg.svd(centred).Vh[0]).view(features.shape[1:])
        first = first if first.max() >= -first.min() else -first
        assert_map(found, first.relu())


def test_kpca_cam_is_kernel_pca_of_the_places():
    from sklearn.decomposition import KernelPCA

    model = made(Deep)
    for found, image, target in each("kpca-cam", model, 1):
        features, _ = slopes(model, image, target, 1)
        places = features.flatten(1).T.numpy()
        first = KernelPCA(n_components=1, kernel="sigmoid").fit_transform(places - places.mean(axis=0))
        first = first if first.max() >= -first.min() else -first
        assert_map(found, np.maximum(first, 0).reshape(features.shape[1:]))


@pytest.mark.parametrize("name", ["eigen-grad-cam", "kpca-cam"])
def test_a_grid_too_fine_to_compare_pairwise_is_refused_before_it_fills_the_memory(name):
    images = pictures(1, side=160)  # 80 × 80 cells at the first stage
    with pytest.raises(UsageError, match=r"the 80 × 80 of stage 0 .* later stage"):
        EXPLAINERS[name](made(), images, TARGETS[:1], 0)
    assert EXPLAINERS[name](made(), images, TARGETS[:1], 1).values.shape == (1, 40, 40)


@pytest.mark.parametrize("kind", ["GradCAM", "ScoreCAM", "AblationCAM"])
def test_the_package_shows_no_progress_bars_and_touches_its_copy_only(kind, capfd):
    model = made(Deep).requires_grad_(True)
    before = portrait(model)
    with private_copy(model) as copied:
        raw = raw_map(kind, copied, pictures()[0], 2, 1)
    assert raw.map.shape == (8, 8) and raw.features.shape == (12, 8, 8)
    assert_same(portrait(model), before)
    assert capfd.readouterr() == ("", "")


def test_nothing_of_the_packages_stays_replaced():
    import tqdm
    from pytorch_grad_cam import ablation_cam, score_cam

    with private_copy(made()) as copied, pytest.raises(IndexError):
        raw_map("GradCAM", copied, pictures()[0], CLASSES, 0)
    assert score_cam.tqdm is ablation_cam.tqdm is tqdm


def test_all_of_them_are_registered():
    assert {name for name in EXPLAINERS if isinstance(EXPLAINERS[name], PackageCam)} == {
        "shapley-cam", "finer-cam", "eigen-grad-cam", "kpca-cam"}


def test_features_that_are_a_view_have_the_same_map():
    model = build(RunSpec(model="plain", depth=2, width=4, image_size=32), 3).eval()
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    head = model.forward_head
    with private_copy(model) as copied:
        expected = raw_map("ShapleyCAM", copied, image, 1, 1).map
    with private_copy(model) as copied:
        stages = copied.forward_stages
        copied.forward_stages = lambda prepared: tuple(  # as of a network that holds its features as tokens
            maps.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for maps in stages(prepared))
        copied.forward_head = lambda features: head(features.flatten(2).transpose(1, 2).contiguous().transpose(1, 2)
                                                    .unflatten(2, features.shape[2:]))
        assert raw_map("ShapleyCAM", copied, image, 1, 1).map == pytest.approx(expected, abs=1e-6)
    assert np.abs(expected).max() > 0
