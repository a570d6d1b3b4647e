import sys

import numpy as np
import pytest
import torch
from small_models import EVERY, TARGETS, Deep, made, pictures

from kd.errors import UsageError
from kd.explainers import EXPLAINERS
from kd.explainers.attribution import GradientShap
from kd.explainers.shap_package import ShapGradient


def test_without_the_package_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(UsageError, match="pip install -r requirements-shap.txt"):
        EXPLAINERS["shap-gradient"](made(), pictures(1), TARGETS[:1])


def test_it_estimates_what_our_own_gradient_shap_does():
    model, images = made(Deep), pictures(2)
    theirs = ShapGradient(samples=600)(model, images, EVERY[:2]).values
    ours = GradientShap(points=600)(model, images, EVERY[:2]).values
    for mine, other in zip(ours.flatten(0, 1), theirs.flatten(0, 1), strict=True):
        assert np.corrcoef(mine.flatten(), other.flatten())[0, 1] > 0.97
        assert (mine - other).abs().max() < 0.25 * mine.abs().max()


def test_numpys_generator_is_put_back_after_an_error_too():
    before = np.random.get_state()[1].copy()
    with pytest.raises(IndexError):
        EXPLAINERS["shap-gradient"](made(), pictures(1), torch.tensor([99]))
    assert np.array_equal(np.random.get_state()[1], before)
