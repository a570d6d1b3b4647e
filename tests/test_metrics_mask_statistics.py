"""What many masks come to, and the ways in which they explain nothing."""

import json
from itertools import combinations

import numpy as np
import pytest

from kd.metrics.mask_statistics import ALIKE, LEAK, OPEN, MaskAccumulator, MaskStatistics, leak, mask_warning


def report(*batches: np.ndarray) -> MaskStatistics:
    tally = MaskAccumulator()
    for masks in batches:
        tally.add(masks)
    found = tally.report()
    assert found is not None
    return found


def noise(count: int = 7, side: int = 9) -> np.ndarray:
    return np.random.default_rng(0).random((count, side, side)).astype(np.float32)


def test_a_report_is_what_all_pairs_say_whatever_the_batches():
    masks = noise()
    pairs = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in combinations(masks, 2)]
    areas = masks.mean(axis=(1, 2))
    for batches in ([masks], [masks[:4], masks[4:]], list(masks[:, None])):
        found = report(*batches)
        assert found.mean_correlation == pytest.approx(np.mean(pairs), abs=1e-6)
        assert (found.area, found.area_sd) == pytest.approx((areas.mean(), areas.std()), abs=1e-6)
        assert found.median_area == pytest.approx(np.median(areas), abs=1e-6)


def test_no_masks_have_no_report():
    assert MaskAccumulator().report() is None


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_level_masks_correlate_with_nothing_and_no_number_is_lost(level):
    found = report(np.full((4, 6, 6), level, np.float16))
    assert found.mean_correlation is None
    assert (found.area, found.area_sd) == (level, 0.0)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["alike"] is None
    mixed = report(np.concatenate([np.full((4, 9, 9), level, np.float32), noise(2)]))
    assert mixed.mean_correlation == pytest.approx(report(noise(2)).mean_correlation, abs=1e-6)
    assert report(noise(1)).mean_correlation is None


@pytest.mark.parametrize(("masks", "kind", "setting"), [
    (np.ones((5, 8, 8)), "all open", "target_weight"),
    (noise(1).repeat(5, axis=0), "same for every image", "mask network")])
def test_a_collapse_names_its_kind_and_the_setting_to_change(masks, kind, setting):
    found = report(masks.astype(np.float32))
    assert kind in found.collapsed
    assert setting in found.collapsed
    assert mask_warning({"mask": found.to_json()}) == found.collapsed


def test_masks_that_differ_between_pictures_have_not_collapsed():
    assert report(noise()).collapsed == ""
    assert all(mask_warning(summary) == "" for summary in (None, {}, {"mask": report(noise()).to_json()}))


def test_the_edges_of_a_collapse():
    assert MaskStatistics(0.5, 0.1, OPEN, None).collapsed == ""
    assert MaskStatistics(0.5, 0.1, 0.5, ALIKE).collapsed == ""
    assert MaskStatistics(0.5, 0.1, 0.5, ALIKE + 0.01).collapsed


def test_a_few_images_of_another_kind_hide_no_collapse():
    assert "all open" in report(np.ones((6, 9, 9), np.float32), noise(3)).collapsed


def test_a_fill_that_tells_the_class_is_warned_of_beside_a_collapse():
    assert leak(0.25, 0.25) == leak(0.25 + LEAK, 0.25) == ""
    found = leak(0.581, 0.25)
    assert "with everything hidden the student is right on 58.1 %" in found and "Set mask_fill to mean" in found
    both = mask_warning({"mask": {"collapsed": "Mask collapsed: all open.", "leak": found}})
    assert both == f"Mask collapsed: all open. {found}"
