import numpy as np
import pytest
from skimage.metrics import structural_similarity

from kd.metrics.map_similarity import LESS_IS_MORE, MEASURES, distance, pearson, spearman, ssim, to_grid, top_overlap


def maps(seed, count=6, side=7):
    return np.random.default_rng(seed).random((count, side, side))


@pytest.mark.parametrize("name", list(MEASURES))
def test_a_map_is_as_like_itself_as_can_be(name):
    one = maps(0)
    one[0] = np.maximum(one[0] - 0.97, 0)  # a map of few cells
    assert MEASURES[name](one, one) == pytest.approx(np.full(6, 0.0 if name in LESS_IS_MORE else 1.0), abs=1e-6)


@pytest.mark.parametrize("name", list(MEASURES))
def test_the_order_of_the_two_does_not_matter(name):
    assert MEASURES[name](maps(1), maps(2)) == pytest.approx(MEASURES[name](maps(2), maps(1)))


def test_spearman_by_hand_with_ties():
    # ranks 1.5 1.5 3 4 and 2 1 3 4: covariance 4.5 over sqrt(4.5 · 5)
    found = spearman(np.array([[[0, 0], [1, 2.0]]]), np.array([[[5, 4], [6, 7.0]]]))
    assert found == pytest.approx([4.5 / np.sqrt(4.5 * 5)])


def test_spearman_leaves_a_monotone_change_of_scale_and_pearson_does_not():
    one = maps(3)
    assert spearman(one, one**5) == pytest.approx(np.ones(6))
    assert (pearson(one, one**5) < 0.95).all()
    assert spearman(one, -one) == pytest.approx(-np.ones(6))


def test_unrelated_maps_have_no_correlation():
    found = spearman(maps(4, 2000), maps(5, 2000))
    assert abs(found.mean()) < 0.02


def test_ssim_is_that_of_scikit_image_inside_the_rim():
    one, other = maps(6, 3, 16), maps(7, 3, 16)
    for left, right, mine in zip(one, other, ssim(one, other), strict=True):
        _, full = structural_similarity(left, right, data_range=1.0, full=True)
        assert mine == pytest.approx(full[3:-3, 3:-3].mean())


def test_overlap_by_hand():
    one, other = np.zeros((1, 4, 5)), np.zeros((1, 4, 5))
    one[0, 0, :4] = [4, 3, 2, 1]
    other[0, 0, :] = [0, 0, 2, 3, 4]
    other[0, 1, 0] = 1
    # the brightest fifth is four cells: 0 1 2 3 against 2 3 4 5, so two of six
    assert top_overlap(one, other, 0.2) == pytest.approx([2 / 6])


def test_ties_have_no_preferred_corner():
    flat, corner = np.zeros((2, 10, 10)), np.zeros((2, 10, 10))
    corner[0, 0, :5] = corner[1, -1, -5:] = 1
    found = top_overlap(flat, corner, 0.05)
    assert found[0] == pytest.approx(found[1])
    assert found[0] == pytest.approx(0.25 / 9.75)


def test_distance_of_two_points():
    one, other = np.zeros((1, 10, 10)), np.zeros((1, 10, 10))
    one[0, 1, 2] = other[0, 4, 6] = 1
    assert distance(one, other) == pytest.approx([0.5])


def test_a_constant_map_has_no_correlation():
    assert np.isnan(spearman(np.ones((1, 3, 3)), maps(8, 1, 3))).all()


def test_a_coarser_grid_holds_the_means_of_areas():
    fine = maps(9, 2, 6)
    assert to_grid(fine, 3, 2) == pytest.approx(fine.reshape(2, 3, 2, 2, 3).mean(axis=(2, 4)))
    odd = to_grid(maps(9, 2, 7), 4, 4)
    assert odd.mean(axis=(1, 2)) == pytest.approx(maps(9, 2, 7).mean(axis=(1, 2)))
    assert to_grid(fine, 6, 6) == pytest.approx(fine)
