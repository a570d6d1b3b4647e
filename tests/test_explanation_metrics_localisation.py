import json

import numpy as np
import pytest

from kd.datasets.base import Split
from kd.explanation_metrics.localisation import SCORES, localisation, masked, measure, otsu
from kd.placement import Placement


def masks(count=6, side=32):
    """A square of a sixteenth of the picture, elsewhere in each."""
    found = np.zeros((count, side, side), np.uint8)
    for number in range(count):
        found[number, 4 * number:4 * number + 8, 8:16] = 255
    return found


NONE = np.zeros(6, bool)


def test_a_map_that_is_the_mask_is_perfect():
    found, _ = measure((masks() > 0).astype(np.float32), masks())
    for score in SCORES:
        assert found[score] == pytest.approx(np.ones(6)), score


def test_a_map_outside_the_mask_has_nothing():
    found, _ = measure((masks() == 0).astype(np.float32), masks())
    assert found["pointing"].max() == found["energy"].max() == found["iou_otsu"].max() == 0
    assert found["auprc"] == pytest.approx(np.full(6, 1 / 16))  # every pixel of the mask comes with the last ones


def test_a_map_without_preference_gets_the_area():
    even = np.random.default_rng(0).random((6, 32, 32)).astype(np.float32)
    found, _ = measure(even, masks())
    assert found["energy"].mean() == pytest.approx(1 / 16, rel=0.1)
    assert found["auprc"].mean() == pytest.approx(1 / 16, rel=0.3)


def test_coarse_maps_by_hand():
    map_, mask = np.zeros((1, 4, 4), np.float32), np.zeros((1, 32, 32), np.uint8)
    map_[0, 1, 2], mask[0, 8:16, 16:24] = 1, 255
    found, curve = measure(map_, mask)
    assert found["pointing"] == [1]
    # a bilinear tent over 2 x 2 cells keeps 3/4 of its mass within the middle cell, in each direction
    assert found["energy"] == pytest.approx([9 / 16], abs=0.02)
    map_[0, 3, 0] = 1
    assert measure(map_, mask)[0]["pointing"] == [0.5]
    assert curve.shape == (1, 19)


def test_the_rim_of_a_raised_map_is_not_taken_for_its_peak():
    map_, mask = np.zeros((1, 2, 2), np.float32), np.zeros((1, 32, 32), np.uint8)
    map_[0, 0, 0], mask[0, 6:11, 6:11] = 1, 255
    assert measure(map_, mask)[0]["pointing"] == [1]


def test_a_map_is_scored_where_its_cells_lie():
    """The middle of 2 × 2 cells of half a side, shifted to the upper left by a quarter."""
    map_, mask = np.zeros((1, 2, 2), np.float32), np.zeros((1, 32, 32), np.uint8)
    map_[0, 1, 1], mask[0, 14:18, 14:18] = 1, 255
    laid = Placement((0.0, 0.0), (0.5, 0.5))
    assert measure(map_, mask)[0]["pointing"] == [0]
    assert measure(map_, mask, laid)[0]["pointing"] == [1]
    stretched, placed = (localisation(map_, NONE[:1], mask, placement=one) for one in (None, laid))
    assert placed.scores["pointing"] == [1] and stretched.scores["pointing"] == [0]
    assert placed.scores["auprc"] > stretched.scores["auprc"]


def test_average_precision_by_hand():
    map_, mask = np.array([[[0.9, 0.5], [0.5, 0.1]]], np.float32), np.array([[[255, 255], [0, 0]]], np.uint8)
    # one pixel at precision 1, the other comes in with its equal at 2/3
    assert measure(map_, mask)[0]["auprc"] == pytest.approx([(1 + 2 / 3) / 2])


def test_otsu_parts_two_heaps():
    rng = np.random.default_rng(1)
    values = np.clip(np.concatenate([rng.normal(0.2, 0.03, 900), rng.normal(0.8, 0.03, 100)]), 0, 1)
    assert 0.3 < otsu(values) < 0.7
    from skimage.filters import threshold_otsu

    mixed = np.clip(np.concatenate([rng.normal(0.3, 0.1, 900), rng.normal(0.6, 0.1, 400)]), 0, 1)
    assert otsu(mixed) == pytest.approx(threshold_otsu(mixed), abs=0.01)


def test_one_threshold_is_chosen_for_all_images():
    maps = np.stack([np.where(mask > 0, 1.0, 0.4) for mask in masks()]).astype(np.float32)
    found = localisation(maps, NONE, masks())
    assert found.threshold > 0.4
    assert found.scores["iou_best"] == pytest.approx(np.ones(6))


def test_chance_is_area_middle_and_other_images():
    found = localisation((masks() > 0).astype(np.float32), NONE, masks())
    said = found.to_json(np.array([0, 0, 0, 1, 1, 1]), ("one", "two", "three"))
    assert said["area"] == pytest.approx(1 / 16)
    energy = said["scores"]["energy"]
    assert energy["value"] == {"mean": 1.0, "low": pytest.approx(0.025 ** (1 / 6)), "high": 1.0, "n": 6}
    assert energy["others"] < 0.5
    assert energy["over_area"]["mean"] == pytest.approx(15 / 16)
    assert energy["over_others"]["mean"] == pytest.approx(1 - energy["others"])
    assert energy["over_centre"]["mean"] == pytest.approx(1 - energy["centre"])
    assert set(said["per_class"]) == {"one", "two"}
    assert said["per_class"]["one"]["images"] == 3
    json.dumps(said, allow_nan=False)


def test_blank_maps_are_counted_and_left_out():
    maps = (masks() > 0).astype(np.float32)
    maps[0] = 0
    said = localisation(maps, np.arange(6) == 0, masks()).to_json(np.zeros(6, np.int64), ("one",))
    assert said["blank"] == 1
    assert said["scores"]["pointing"]["value"] == {"mean": 1.0, "low": pytest.approx(0.025 ** (1 / 5)), "high": 1.0,
                                                    "n": 5}
    empty = localisation(np.zeros((6, 4, 4), np.float32), ~NONE, masks()).to_json(np.zeros(6, np.int64), ("one",))
    json.dumps(empty, allow_nan=False)
    assert empty["scores"]["auprc"]["value"]["mean"] is None


def test_only_pictures_with_drawn_evidence_count():
    drawn = masks()
    drawn[2] = 0
    split = Split(np.zeros((6, 32, 32, 3), np.uint8), np.zeros(6, np.int64), tuple("abcdef"), drawn,
                  np.array([True, False, True, True, True, True]))
    assert masked(split, np.array([0, 1, 2, 5])).tolist() == [0, 3]
    assert len(masked(Split(split.images, split.labels, split.names), np.arange(6))) == 0
