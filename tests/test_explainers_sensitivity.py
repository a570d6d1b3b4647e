import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from small_models import EVERY, TARGETS, Deep, Small, made, pictures

from kd.explainers import EXPLAINERS, stage_key
from kd.explainers.sensitivity import BLUR
from kd.models.base import Stage
from kd.models.placement import placements
from kd.torch_utils.smoothing import gaussian_blur

SENSITIVITY = EXPLAINERS["sensitivity"]


def plain(model, images, targets, stage):
    """`Σ_c |F_c · ∂z/∂F_c|` by one backward pass from the logits, without the blur."""
    features = model(images.clone().requires_grad_()).stages[stage]
    logits = model.stages_from(features, stage, features) if stage < 2 else features
    score = model.forward_head(logits)[torch.arange(len(images)), targets].sum()
    [slope] = torch.autograd.grad(score, features)
    return (features * slope).abs().sum(1).detach()


@pytest.mark.parametrize("stage", range(3))
def test_it_is_gradient_times_activation_in_magnitude(stage):
    model, images = made(Deep), pictures()
    found = SENSITIVITY(model, images, TARGETS, stage).values
    torch.testing.assert_close(found, gaussian_blur(plain(model, images, TARGETS, stage), BLUR), rtol=1e-4, atol=1e-7)


def test_it_is_the_mean_with_the_mirrored_image_where_the_set_allows_mirroring():
    model, images = made(Deep), pictures()
    alone = SENSITIVITY(model, images, EVERY, 1).values
    mirrored = SENSITIVITY(model, images.flip(-1), EVERY, 1).values.flip(-1)
    model.mirrors = True
    found = SENSITIVITY(model, images, EVERY, 1).values
    torch.testing.assert_close(found, (alone + mirrored) / 2, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(found, alone)
    torch.testing.assert_close(SENSITIVITY(model, images.flip(-1), EVERY, 1).values, found.flip(-1),
                               rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("reductions", "expected"), [((2, 4, 8), 1), ((4, 8, 16), 0), ((2, 8, 16), 0), ((1, 2, 3), 2),
                                                      ((16, 32, 64), 0)])
def test_by_default_it_explains_the_stage_of_stride_4_or_the_closest(reductions, expected):
    model, images = made(Small), pictures()
    model.stages = tuple(Stage(f"s{reduction}", 8, reduction) for reduction in reductions)
    assert SENSITIVITY.stage_of(model) == expected
    assert torch.equal(SENSITIVITY(model, images, TARGETS).values,
                       SENSITIVITY(model, images, TARGETS, expected).values)
    for name in EXPLAINERS:
        if name != "sensitivity":
            assert EXPLAINERS[name].stage_of(model) == 2


def test_a_default_that_is_always_the_last_stage_is_stored_as_that():
    assert stage_key("grad-cam", "default") == -1
    assert stage_key("sensitivity", "default") == "default"
    assert stage_key("sensitivity", -1) == -1
    assert stage_key("grad-cam", -2) == -2


def test_the_blur_is_scipys_inside_and_keeps_constants():
    dot = torch.zeros(1, 50, 80)
    dot[0, 25, 40] = 1
    expected = gaussian_filter(dot[0].numpy(), (0.04 * 50, 0.04 * 80), truncate=8)
    assert gaussian_blur(dot, 0.04)[0].numpy() == pytest.approx(expected, abs=1e-6)
    corner = torch.full((1, 3, 9, 9), 0.7)
    assert gaussian_blur(corner, 0.3).numpy() == pytest.approx(np.full((1, 3, 9, 9), 0.7), abs=1e-6)


def test_mirrored_maps_lie_in_the_middle_of_both():
    """The maps of a network of stride 2 with padding 1 begin on the first pixel, mirrored ones end on the last."""
    model = Small().eval()
    own = placements(model, 32)[0]
    assert SENSITIVITY.placement(model, 0, 32) == own
    assert own.first[1] == pytest.approx(0.5 / 32)
    model.mirrors = True
    laid = SENSITIVITY.placement(model, 0, 32)
    assert laid.first == (own.first[0], pytest.approx(1 / 32))
    assert laid.step == own.step
    # 90 px are 23 cells of 4 pixels, centred on pixels 0 to 88; mirrored back, on 1 to 89.
    assert np.array(SENSITIVITY.placement(model, 1, 90).first) * 90 == pytest.approx([0.5, 1.0])
