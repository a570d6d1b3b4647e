import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from kd.metrics.bootstrap import (
    GAP_SPAN,
    SHARE_SPAN,
    bootstrap_ci,
    centre_gaussian,
    derangements,
    error_bars,
    stratified_sample,
)


def test_an_interval_holds_the_true_mean_about_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    found = [bootstrap_ci(rng.normal(3.0, 1.0, 40), seed=trial) for trial in range(200)]
    assert 0.88 <= np.mean([one.low <= 3.0 <= one.high for one in found]) <= 0.99


@pytest.mark.parametrize("groups", [None, [f"p{number % 13}" for number in range(40)]])
def test_the_interval_is_scipys_percentile_bootstrap(groups):
    values = np.random.default_rng(5).random(40)
    units = np.arange(40) if groups is None else np.array([int(group[1:]) for group in groups])
    sums, sizes = np.bincount(units, values), np.bincount(units)

    def mean(sums, sizes, axis):
        return sums.sum(axis=axis) / sizes.sum(axis=axis)

    expected = bootstrap((sums, sizes), mean, n_resamples=20_000, paired=True, method="percentile", rng=1)
    found = bootstrap_ci(values, groups)
    reach = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.05 * reach)  # other draws
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.05 * reach)


def test_values_of_one_person_count_once():
    copies, people = np.repeat(np.arange(10.0), 20), [f"p{n}" for n in np.repeat(np.arange(10), 20)]
    honest, naive = bootstrap_ci(copies, people), bootstrap_ci(copies)
    assert honest.mean == naive.mean == 4.5
    assert honest.high - honest.low > 3 * (naive.high - naive.low)


def test_nan_is_left_out_and_nothing_gives_nothing():
    five = np.array([2.0, np.nan, 1.0, 2.0, 2.0, 3.0])
    assert bootstrap_ci(five).to_json() == {**bootstrap_ci(five[np.isfinite(five)]).to_json(), "mean": 2.0, "n": 5}
    assert bootstrap_ci(np.array([np.nan])).to_json() == {"mean": None, "low": None, "high": None, "n": 0}


@pytest.mark.parametrize(("values", "groups"), [(range(4), None), (range(40), ["one"] * 40),
                                                (range(40), list("abcd") * 10)])
def test_of_so_few_there_is_a_mean_and_no_interval(values, groups):
    """A bootstrap over one person has no width at all, and would be sure of everything."""
    found = bootstrap_ci(np.array(values, float), groups)
    assert found.mean == pytest.approx(np.mean(values)) and found.n == len(values)
    assert (found.low, found.high) == (None, None)
    assert error_bars(found.mean, found.low, found.high) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("groups", [None, list("aabbccddee")])
def test_an_interval_has_a_width_and_holds_its_own_mean_also_where_all_values_are_equal(seed, groups):
    values = np.repeat(np.random.default_rng(seed).random(1), 10)
    for span in (SHARE_SPAN, GAP_SPAN, (values[0], 2.0)):
        found = bootstrap_ci(values, groups, span=span)
        assert found.low <= found.mean <= found.high
        assert span[0] - 1e-12 <= found.low and found.high <= span[1] + 1e-12
        assert found.high - found.low > 0.1
    nothing = bootstrap_ci(values, groups)
    assert (nothing.mean, nothing.low, nothing.high) == (pytest.approx(values[0]), None, None)
    assert error_bars(nothing.mean, nothing.low, nothing.high) == (0, 0)


@pytest.mark.parametrize("count", [5, 20, 320])
@pytest.mark.parametrize("hits", [True, False])
def test_a_share_of_all_or_none_has_the_exact_binomial_bootstrap_ci(count, hits):
    found = bootstrap_ci(np.full(count, float(hits)), span=SHARE_SPAN)
    exact = binomtest(count * hits, count).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_equal_patients_are_as_few_as_they_are_however_many_images_they_have():
    patients = list("abcde") * 100
    assert bootstrap_ci(np.ones(500), patients, span=SHARE_SPAN).low == bootstrap_ci(np.ones(5), span=SHARE_SPAN).low
    half = bootstrap_ci(np.repeat([0.0, 1.0], 250), patients, span=SHARE_SPAN)  # of each patient half the images
    assert half.low < half.mean == 0.5 < half.high


def test_no_difference_is_known_no_better_than_the_images_allow():
    found = bootstrap_ci(np.zeros(40), span=GAP_SPAN)
    assert (found.low, found.high) == pytest.approx((-(1 - 0.025 ** (1 / 40)), 1 - 0.025 ** (1 / 40)))


def test_the_interval_of_equal_values_holds_the_true_mean_at_its_worst():
    """Shares so near 1 that most samples are all hits: those samples' intervals must hold it too."""
    rng = np.random.default_rng(0)
    for truth in (0.9, 0.95, 0.97, 0.99, 1.0):
        samples = rng.random((400, 40)) < truth
        equal = [bootstrap_ci(one.astype(float), span=SHARE_SPAN) for one in samples if one.all()]
        missed = sum(not one.low <= truth <= one.high for one in equal)
        assert missed / len(samples) <= 0.025 + 0.02


@pytest.mark.parametrize(("count", "rounds"), [(2, 1), (3, 2), (20, 5)])
def test_nobody_gets_itself_nor_the_same_one_twice(count, rounds):
    found = derangements(count, 5, seed=3)
    assert found.shape == (rounds, count)
    for number in range(count):
        assert len({number, *found[:, number]}) == rounds + 1
    for row in found:
        assert sorted(row) == list(range(count))
    assert np.array_equal(found, derangements(count, 5, seed=3))


def test_one_image_has_no_other():
    assert derangements(1, 5).shape == (0, 1)
    assert derangements(0, 5).shape == (0, 0)


def test_the_centred_map_is_brightest_in_the_middle_and_even_on_both_sides():
    found = centre_gaussian(9, 5)
    assert np.unravel_index(found.argmax(), found.shape) == (4, 2)
    assert np.allclose(found, found[::-1, ::-1])


def test_a_draw_keeps_the_classes_shares():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    found = stratified_sample(labels, 20, seed=1)
    assert np.bincount(labels[found]).tolist() == [12, 6, 2]
    assert np.array_equal(found, np.sort(found))
    assert np.array_equal(found, stratified_sample(labels, 20, seed=1))
    assert not np.array_equal(found, stratified_sample(labels, 20, seed=2))
    assert len(stratified_sample(labels, 0)) == len(stratified_sample(labels, 1000)) == 100
    assert set(labels[stratified_sample(labels, 2)]) == {0, 1, 2}
