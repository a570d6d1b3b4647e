"""Explainers and the student behind a mask: whom the mask can be asked of, and what all others say of such a model."""

import pytest
import torch
from small_models import EVERY, SIDE, TARGETS, Deep, Small, assert_same, explained, made, pictures, portrait

from kd.errors import UsageError
from kd.explainers import EXPLAINERS, explainer_for
from kd.explainers.gradient_cams import GradCam, gradients_from_image, gradients_of_head

OTHERS = [name for name in EXPLAINERS if name != "mask"]


@pytest.mark.parametrize("name", list(EXPLAINERS))
def test_grad_cam_stands_in_for_a_mask_that_is_not_there_and_for_nothing_else(name):
    assert explainer_for(name, made(explained)) == name
    assert explainer_for(name, made(Small)) == ("grad-cam" if name == "mask" else name)


def test_an_unknown_explainer_is_named_whatever_the_model():
    for model in (made(explained), made(Small)):
        with pytest.raises(UsageError, match="Did you mean 'mask'"):
            explainer_for("masks", model)


def test_the_mask_of_a_model_without_one_is_refused_in_words():
    with pytest.raises(UsageError, match="no mask"):
        EXPLAINERS["mask"](made(Small), pictures(), TARGETS)


def test_the_mask_is_cut_from_its_map_which_is_not_stretched():
    model, images = made(explained), pictures()
    maps = EXPLAINERS["mask"](model, images, TARGETS)
    with torch.no_grad():
        seen = model(images)
    assert torch.equal(maps.scaled(), maps.values)
    assert all(mask[heat == heat.max()].all() for heat, mask in zip(maps.values, seen.mask, strict=True))
    assert all(heat[mask == 1].mean() > heat[mask == 0].mean()
               for heat, mask in zip(maps.values, seen.mask, strict=True))


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_explainer_explains_a_student_behind_a_mask(name):
    model, images, explainer = made(explained), pictures(2), EXPLAINERS[name]
    before = portrait(model)
    for stage, grid in ((0, 16), (-1, 4)):
        maps = explainer(model, images, TARGETS[:2], stage)
        side = grid if explainer.info.grid == "stage" else SIDE
        assert maps.values.shape == (2, side, side)
        assert torch.isfinite(maps.values).all()
        assert not maps.blank.all()
    assert_same(portrait(model), before)


@pytest.mark.parametrize("name", ["stage-maps", "grad-cam", "layer-cam", "hires-cam"])
def test_what_reads_a_stage_is_the_students_own_on_the_picture_that_it_sees(name):
    model, images = made(explained), pictures()
    with torch.no_grad():
        seen = model.apply_mask(images, model.predict_mask(images))
    for stage in range(3):
        behind = EXPLAINERS[name](model, images, TARGETS, stage).values
        torch.testing.assert_close(behind, EXPLAINERS[name](model.student, seen, TARGETS, stage).values)


def test_the_closed_form_of_grad_cam_equals_the_gradient():
    model, images, grad_cam = made(explained), pictures(), GradCam()
    with torch.no_grad():
        features = model(images).stages[-1]
    closed = grad_cam(model, images, EVERY).values
    torch.testing.assert_close(closed, grad_cam.combine(*gradients_of_head(model, features, EVERY)))
    [(seen, gradients)] = gradients_from_image(model, images, EVERY, [2])
    torch.testing.assert_close(closed, grad_cam.combine(seen, gradients))
    deep = made(lambda: explained(Deep))
    [(seen, gradients)] = gradients_from_image(deep, images, EVERY, [2])
    torch.testing.assert_close(grad_cam(deep, images, EVERY).values, grad_cam.combine(seen, gradients))
