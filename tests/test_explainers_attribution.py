import numpy as np
import pytest
import torch
from small_models import EVERY, TARGETS, Deep, Small, made, pictures

from kd.explainers import EXPLAINERS
from kd.explainers.attribution import GradientShap, empty_pictures


def logits_of(model, images):
    with torch.no_grad():
        return model(images).logits


@pytest.mark.parametrize("kind", [Small, Deep])
def test_integrated_gradients_sum_to_what_the_picture_adds_over_black(kind):
    model, images = made(kind), pictures()
    found = EXPLAINERS["integrated-gradients"](model, images, EVERY).values
    expected = logits_of(model, images) - logits_of(model, torch.zeros_like(images))
    torch.testing.assert_close(found.sum(dim=(-2, -1)), expected, rtol=0.02, atol=0.005)


def test_integrated_gradients_equal_captum_summed_over_colours():
    from captum.attr import IntegratedGradients

    model, images = made(Deep), pictures()
    theirs = IntegratedGradients(lambda batch: model(batch).logits).attribute(
        images.clone().requires_grad_(), torch.zeros_like(images), target=TARGETS, n_steps=20, method="gausslegendre")
    mine = EXPLAINERS["integrated-gradients"](model, images, TARGETS).values
    torch.testing.assert_close(mine, theirs.detach().sum(dim=1).float(), rtol=1e-4, atol=1e-6)


def test_gradient_shap_sums_to_what_the_picture_adds_over_empty_ones():
    model, images = made(Deep), pictures(2)
    found = GradientShap(points=1000)(model, images, EVERY[:2]).values.sum(dim=(-2, -1))
    empty = torch.stack([logits_of(model, empty_pictures(image)).mean(dim=0) for image in images])
    expected = logits_of(model, images) - empty
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02)


def test_another_seed_is_another_sample():
    model, images = made(Deep), pictures(1)
    first, second = (GradientShap(seed=seed)(model, images, TARGETS[:1]).values for seed in (0, 1))
    assert not torch.equal(first, second)
    assert np.corrcoef(first.flatten(), second.flatten())[0, 1] > 0.8


def test_on_a_linear_model_every_attribution_is_weight_times_difference():
    class Linear(Small):
        def forward_stages(self, normalised):
            first = self.layers[0][0](normalised)
            return (first, first[:, :, ::2, ::2], torch.nn.functional.adaptive_avg_pool2d(first, 4).repeat(1, 2, 1, 1))

    model, images = made(Linear), pictures(1)
    leaf = images.clone().requires_grad_()
    [slope] = torch.autograd.grad(model(leaf).logits[0, 0], leaf)
    target = torch.tensor([0])
    torch.testing.assert_close(EXPLAINERS["integrated-gradients"](model, images, target).values,
                               (slope * images).sum(dim=1), rtol=1e-4, atol=1e-7)
    away = images - empty_pictures(images[0])
    torch.testing.assert_close(EXPLAINERS["gradient-shap"](model, images, target).values,
                               (slope * away).mean(dim=0, keepdim=True).sum(dim=1), rtol=1e-4, atol=1e-7)
