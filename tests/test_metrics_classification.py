import json

import numpy as np
import pytest
import sklearn.metrics
from sklearn.calibration import calibration_curve

from kd.metrics import classification


def test_perfect_and_worst():
    truth = np.array([0, 1, 2, 2])
    table = classification.confusion(truth, truth, 3)
    assert classification.accuracy(table) == 1
    assert classification.macro_f1(table) == 1
    assert classification.accuracy(classification.confusion(truth, (truth + 1) % 3, 3)) == 0


def test_rows_are_truth_columns_are_predictions():
    table = classification.confusion(np.array([0, 0, 1]), np.array([1, 1, 1]), 2)
    assert table.tolist() == [[0, 2], [0, 1]]
    assert classification.recall_per_class(table).tolist() == [0, 1]


def test_macro_f1_by_hand():
    # class 0: precision 1, recall 1/2 -> 2/3; class 1: precision 1/2, recall 1 -> 2/3
    assert classification.macro_f1(
        classification.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    ) == pytest.approx(2 / 3)


def test_a_class_that_never_appears_does_not_count():
    assert classification.macro_f1(classification.confusion(np.array([0, 1]), np.array([0, 1]), 5)) == 1


@pytest.mark.parametrize("absent", [(), (2,), (0, 2), (1, 2)])
def test_scores_from_a_table_are_those_of_scikit_learn(absent):
    """Also where a class has no image, or none at all is predicted."""
    rng = np.random.default_rng(len(absent))
    left = np.setdiff1d(np.arange(4), absent)
    truth, predicted = rng.choice(left, 90), rng.choice(left[:2], 90)
    table = classification.confusion(truth, predicted, 4)
    assert table.sum() == 90 and table.shape == (4, 4)
    assert classification.accuracy(table) == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
    assert classification.macro_f1(table) == pytest.approx(
        sklearn.metrics.f1_score(truth, predicted, average="macro", zero_division=0)
    )
    recall = sklearn.metrics.recall_score(truth, predicted, labels=np.arange(4), average=None, zero_division=np.nan)
    np.testing.assert_allclose(classification.recall_per_class(table), recall)


def test_a_table_of_one_class_that_is_there_and_of_no_image():
    assert classification.confusion(np.zeros(3, np.int64), np.zeros(3, np.int64), 2).tolist() == [[3, 0], [0, 0]]
    empty = classification.confusion(np.empty(0, np.int64), np.empty(0, np.int64), 2)
    assert empty.tolist() == [[0, 0], [0, 0]]
    assert np.isnan(classification.accuracy(empty)) and np.isnan(classification.macro_f1(empty))


def test_areas_and_reliability_are_those_of_scikit_learn_where_it_has_them():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 200)
    probabilities = classification.softmax(rng.normal(size=(200, 3)) + 2 * np.eye(3)[truth])
    expected = sklearn.metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average=None)
    np.testing.assert_allclose(classification.auroc_per_class(probabilities, truth), expected)
    right = probabilities.argmax(axis=1) == truth
    shares, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=classification.BINS)
    found = classification.reliability(probabilities, truth)
    np.testing.assert_allclose(found.accuracy[found.counts > 0], shares)
    np.testing.assert_allclose(found.confidence[found.counts > 0], confidence)


def test_summary_of_logits():
    logits = np.log(np.array([[0.8, 0.2], [0.4, 0.6]]))
    scores = classification.summarise(logits, np.array([0, 0]))
    assert scores["accuracy"] == 0.5
    assert scores["loss"] == pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2)
    assert scores["recall"] == [0.5, None]


def test_softmax_of_huge_logits_is_finite():
    assert classification.softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]


def test_auroc_by_hand():
    # of class 1 (images 1 and 3) against 0 and 2: pairs won 1, tied 1, lost 2 -> 1.5 of 4
    chances = np.array([0.8, 0.9, 0.4, 0.4])
    found = classification.auroc_per_class(np.stack([1 - chances, chances], axis=1), np.array([0, 1, 0, 1]))
    assert found == pytest.approx([0.625, 0.625])


def test_auroc_of_perfect_random_and_missing():
    truth = np.arange(400) % 2
    assert classification.auroc(np.eye(2)[truth], truth) == 1
    assert classification.auroc(np.eye(2)[1 - truth], truth) == 0
    assert classification.auroc(np.full((400, 2), 0.5), truth) == 0.5
    found = classification.auroc_per_class(np.eye(3)[truth], truth)
    assert found[:2].tolist() == [1, 1] and np.isnan(found[2])
    assert classification.auroc(np.eye(3)[truth], truth) == 1
    assert np.isnan(classification.auroc(np.eye(2)[[0, 0]], np.array([0, 0])))


def test_reliability_by_hand():
    sure = np.array([0.95, 0.95, 0.65, 0.65])
    bins = classification.reliability(np.stack([sure, 1 - sure], axis=1), np.array([0, 1, 0, 0]), bins=10)
    assert bins.counts.tolist() == [0] * 6 + [2, 0, 0, 2]
    assert bins.accuracy[[6, 9]].tolist() == [1, 0.5]
    assert bins.ece == pytest.approx((0.35 + 0.45) / 2)
    assert bins.to_json()[6] == {"low": 0.6, "high": 0.7, "count": 2, "confidence": pytest.approx(0.65), "accuracy": 1}
    assert bins.to_json()[0]["accuracy"] is None


def test_calibrated_answers_have_no_calibration_error():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 100_000)
    truth = (rng.random(100_000) > sure).astype(np.int64)
    assert classification.reliability(np.stack([sure, 1 - sure], axis=1), truth).ece < 0.01


def test_the_edges_of_confidence_are_in_a_bin():
    found = classification.reliability(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 0]))
    assert found.counts.sum() == 2


def test_a_summary_is_plain_and_finite_also_of_answers_that_are_not():
    logits = np.array([[np.nan, 0.0], [1.0, 0.0]])
    with np.errstate(invalid="ignore"):
        said = classification.summarise(logits, np.array([0, 1]))
    assert said["auroc"] is None
    good = classification.summarise(np.eye(2), np.array([0, 1]))
    json.dumps(good, allow_nan=False)
    assert good["auroc"] == 1
    assert good["ece"] == pytest.approx(1 - classification.softmax(np.array([1.0, 0.0])).max())
    assert len(good["reliability"]) == classification.BINS
