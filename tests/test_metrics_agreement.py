import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from kd.metrics.agreement import class_agreement, divergence, gain_vs_control, map_agreement
from kd.metrics.bootstrap import centre_gaussian
from kd.metrics.map_similarity import MEASURES
from kd.placement import Placement


def smooth(seed, count=60, side=7):
    """Maps in 0..1 that are as smooth as a last stage's."""
    found = gaussian_filter(np.random.default_rng(seed).random((count, side, side)), (0, 1, 1))
    low, high = found.min(axis=(1, 2), keepdims=True), found.max(axis=(1, 2), keepdims=True)
    return (found - low) / (high - low)


NONE = np.zeros(60, bool)


def test_a_model_agrees_with_itself_perfectly():
    found = map_agreement(smooth(0), smooth(0), NONE, NONE).to_json(~NONE)
    for name in MEASURES:
        value, excess = found["all"][name]["value"], found["all"][name]["excess"]
        assert value["mean"] == pytest.approx(0.0 if name == "distance" else 1.0, abs=1e-6)
        assert excess["low"] > 0
    assert found["grid"] == [7, 7] and not found["coarse"]


def test_unrelated_maps_are_at_chance_under_every_measure():
    found = map_agreement(smooth(1, 400), smooth(2, 400), np.zeros(400, bool), np.zeros(400, bool))
    said = found.to_json(np.ones(400, bool))["all"]
    for name in MEASURES:
        assert said[name]["excess"]["low"] < 0.01 and said[name]["excess"]["high"] > -0.01, name
    assert abs(said["spearman"]["value"]["mean"]) < 0.05
    assert said["cosine"]["value"]["mean"] > 0.5  # which is why a value alone says nothing


def test_a_shared_centre_bias_is_no_agreement():
    biased = [0.7 * centre_gaussian(7, 7) + 0.3 * smooth(seed) for seed in (3, 4)]
    said = map_agreement(*biased, NONE, NONE).to_json(~NONE)["all"]["spearman"]
    assert said["value"]["mean"] > 0.6
    assert abs(said["excess"]["mean"]) < 0.05
    assert said["centre"] > 0.6


def test_maps_meet_on_the_coarser_grid():
    fine = smooth(5, side=28)
    coarse = fine.reshape(60, 7, 4, 7, 4).mean(axis=(2, 4))
    found = map_agreement(fine, coarse, NONE, NONE)
    assert found.grid == (7, 7)
    assert found.values["pearson"] == pytest.approx(np.ones(60))
    assert map_agreement(smooth(5, 60, 64), smooth(6, 60, 64), NONE, NONE).grid == (56, 56)


def test_maps_meet_where_their_cells_lie():
    """A map and the same one seen half a cell to the upper left agree once both are placed."""
    fine = smooth(5, side=32)
    shifted = np.roll(fine, (-4, -4), axis=(1, 2))
    laid = Placement.even((32, 32)), Placement((0.5 / 32 + 4 / 32,) * 2, (1 / 32,) * 2)
    apart = map_agreement(fine, shifted, NONE, NONE).values["pearson"]
    met = map_agreement(fine, shifted, NONE, NONE, placements=laid).values["pearson"]
    assert met.mean() > 0.7 > 0.5 > apart.mean()


def test_blank_maps_are_counted_and_left_out():
    blank = NONE.copy()
    blank[:7] = True
    one = smooth(6)
    one[blank] = 0
    found = map_agreement(one, smooth(6), blank, NONE)
    said = found.to_json(np.arange(60) < 30)
    assert said["blank"] == 7
    assert np.isnan(found.values["spearman"][blank]).all()
    assert said["all"]["spearman"]["value"]["n"] == 53
    assert (said["same class"]["spearman"]["value"]["n"], said["other class"]["spearman"]["value"]["n"]) == (23, 30)
    everything = map_agreement(one, one, ~NONE, NONE).to_json(~NONE)
    assert everything["all"]["ssim"]["excess"]["mean"] is None
    json.dumps([said, everything], allow_nan=False)


def test_the_gain_is_of_the_one_that_is_nearer():
    teacher = smooth(7)
    near, far = map_agreement(teacher, 0.5 * teacher + 0.5 * smooth(8), NONE, NONE), map_agreement(
        teacher, smooth(9), NONE, NONE)
    said = gain_vs_control(near, far)
    assert all(said[name]["low"] > 0 for name in MEASURES)
    assert gain_vs_control(near, near)["spearman"] == {"mean": 0, "low": None, "high": None, "n": 60}


def test_answers_by_hand():
    truth = np.array([0, 0, 0, 0])
    first, second = 9 * np.eye(3)[[0, 1, 1, 2]], 9 * np.eye(3)[[0, 1, 2, 0]]
    said = class_agreement(first, second, truth)
    assert said["agreement"]["mean"] == 0.5
    assert said["both_wrong"]["mean"] == 0.5
    assert said["same_wrong"]["mean"] == 0.25
    # error rates 3/4 and 1/2; class 1: 1/2 · 1/4, class 2: 1/4 · 1/4
    assert said["both_wrong_expected"] == pytest.approx(3 / 8)
    assert said["same_wrong_expected"] == pytest.approx(3 / 16)


def test_independent_errors_are_as_often_together_as_expected():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, 4000)
    logits = [9 * np.eye(4)[np.where(rng.random(4000) < 0.7, truth, rng.integers(0, 4, 4000))] for _ in range(2)]
    said = class_agreement(*logits, truth)
    assert said["both_wrong"]["low"] <= said["both_wrong_expected"] <= said["both_wrong"]["high"]
    assert said["same_wrong"]["low"] <= said["same_wrong_expected"] <= said["same_wrong"]["high"]
    copied = class_agreement(logits[0], logits[0], truth)
    assert copied["same_wrong"]["low"] > 3 * copied["same_wrong_expected"]


def test_divergence_by_hand():
    first, second = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    assert divergence(first, second) == pytest.approx([0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)])
    assert divergence(first, first) == pytest.approx([0])
