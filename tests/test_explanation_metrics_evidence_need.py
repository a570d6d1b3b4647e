import json

import numpy as np
import pytest
import torch
from torch import nn

from kd.explanation_metrics.evidence_need import evidence_need, grown, without
from kd.models.base import Classifier, Stage

SIDE, COUNT = 64, 12


class Bright(Classifier):
    """Class 1 where the mean of a rectangle of the image is above a threshold."""

    def __init__(self, rows: slice, columns: slice, threshold: float) -> None:
        super().__init__()
        self.rows, self.columns, self.threshold = rows, columns, threshold
        self.stages = (Stage("image", 3, 1),)

    def forward_stages(self, normalised):
        return (normalised * self.std + self.mean,)

    def forward_head(self, features):
        level = features[:, :, self.rows, self.columns].mean(dim=(1, 2, 3))
        return torch.stack([torch.full_like(level, self.threshold), level], dim=1)


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Dark images with a bright square on the left, and its mask."""
    images, masks = np.full((COUNT, SIDE, SIDE, 3), 40, np.uint8), np.zeros((COUNT, SIDE, SIDE), np.uint8)
    images[:, 20:36, 8:24], masks[:, 20:36, 8:24] = 230, 255
    return images, masks


def test_a_model_that_looks_at_the_evidence_needs_it(scene):
    found = evidence_need(Bright(slice(20, 36), slice(8, 24), 0.5), *scene)
    assert not found.kept["without"].any()
    assert found.kept["mirrored"].all()
    assert found.kept["alone"].all()
    assert not found.kept["blurred"].any()
    said = found.to_json()
    assert said["mirrored_minus_without"]["mean"] == said["alone_minus_blurred"]["mean"] == 1
    assert said["images"] == COUNT
    json.dumps(said, allow_nan=False)


def test_a_model_that_looks_elsewhere_does_not(scene):
    images, masks = scene
    images[:, 48:, 48:] = 250  # a mark in the corner
    found = evidence_need(Bright(slice(48, 64), slice(48, 64), 0.9), images, masks)
    assert found.kept["without"].all() and found.kept["mirrored"].all()
    assert not found.kept["alone"].any(), "the mark is blurred into the dark around it"
    assert found.to_json()["mirrored_minus_without"]["mean"] == 0


def test_the_control_is_a_change_of_the_mirrored_region(scene):
    found = evidence_need(Bright(slice(20, 36), slice(40, 56), 0.1), *scene)
    assert found.kept["without"].all()
    assert found.overlap == pytest.approx(np.zeros(COUNT))
    images, masks = scene
    middle = np.roll(masks, 16, axis=2)
    assert evidence_need(Bright(slice(0, 9), slice(0, 9), 0.5), images, middle).overlap == pytest.approx(np.ones(COUNT))


def test_nothing_of_the_evidence_is_left_however_large_it_is():
    region = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    region[:, 2:62, 2:62] = True
    images = torch.rand(1, 3, SIDE, SIDE)
    other = torch.where(region[:, None], torch.rand(1, 3, SIDE, SIDE), images)
    first, second = without(images, region), without(other, region)
    assert torch.equal(first, second)
    assert torch.equal(first[~region[:, None].expand_as(first)], images[~region[:, None].expand_as(images)])
    low, high = images[..., 0].min(), images.max()
    assert bool((first >= 0).all()) and float(first.max()) <= float(high) + 1e-6 and low >= 0
    level = torch.full((1, 3, SIDE, SIDE), 0.3)
    torch.testing.assert_close(without(level, region), level)


def test_the_evidence_is_grown_by_a_disc_of_3_percent():
    dot = torch.zeros(1, 100, 100, dtype=torch.bool)
    dot[0, 50, 50] = True
    down, across = np.mgrid[:100, :100]
    assert np.array_equal(grown(dot)[0].numpy(), (down - 50) ** 2 + (across - 50) ** 2 <= 9)


def test_patients_widen_the_interval(scene):
    model = Bright(slice(20, 36), slice(8, 24), 0.5)
    images, masks = scene
    masks[6:] = np.roll(masks[6:], 20, axis=1)  # half of the evidence is not what the model looks at
    found = evidence_need(model, images, masks)
    assert found.kept["without"].tolist() == [False] * 6 + [True] * 6
    alone = found.to_json()["kept"]["without"]
    patients = found.to_json([str(number // 2) for number in range(COUNT)])["kept"]["without"]
    assert alone["mean"] == patients["mean"] == 0.5
    assert patients["high"] - patients["low"] > alone["high"] - alone["low"]


def test_it_may_be_stopped_and_leaves_the_model_as_it_was(scene):
    class Enough(Exception):
        pass

    def stop(share):
        raise Enough

    model = Bright(slice(0, 9), slice(0, 9), 0.5).eval()
    model.weight = nn.Parameter(torch.ones(1))
    with pytest.raises(Enough):
        evidence_need(model, *scene, stop)
    evidence_need(model, *scene)
    assert model.weight.grad is None and not model.training
