import numpy as np
import pytest

from kd import metrics


def test_perfect_and_worst():
    truth = np.array([0, 1, 2, 2])
    table = metrics.confusion(truth, truth, 3)
    assert metrics.accuracy(table) == 1
    assert metrics.macro_f1(table) == 1
    assert metrics.accuracy(metrics.confusion(truth, (truth + 1) % 3, 3)) == 0


def test_rows_are_truth_columns_are_predictions():
    table = metrics.confusion(np.array([0, 0, 1]), np.array([1, 1, 1]), 2)
    assert table.tolist() == [[0, 2], [0, 1]]
    assert metrics.recall_per_class(table).tolist() == [0, 1]


def test_macro_f1_by_hand():
    # class 0: precision 1, recall 1/2 -> 2/3; class 1: precision 1/2, recall 1 -> 2/3
    assert metrics.macro_f1(metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)) == pytest.approx(2 / 3)


def test_a_class_that_never_appears_does_not_count():
    assert metrics.macro_f1(metrics.confusion(np.array([0, 1]), np.array([0, 1]), 5)) == 1


def test_summary_of_logits():
    logits = np.log(np.array([[0.8, 0.2], [0.4, 0.6]]))
    scores = metrics.summarise(logits, np.array([0, 0]))
    assert scores["accuracy"] == 0.5
    assert scores["loss"] == pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2)
    assert scores["recall"] == [0.5, None]


def test_softmax_of_huge_logits_is_finite():
    assert metrics.softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]
