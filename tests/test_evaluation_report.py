"""Scores, confusions and cases of answers that are known beforehand."""

import numpy as np
import pytest
from fabricate import CLASSES, trio

from kd.errors import UsageError
from kd.evaluation.report import (
    ALIKE,
    SURE,
    _overall,
    agreement_rows,
    image_cases,
    model_report,
    paired,
    shared_errors,
    wilson,
)
from kd.store.predictions import STUDENT_WRONG
from kd.store.runs import Store


@pytest.fixture
def scored():
    teacher, control, student = trio(Store())
    return [model_report(role, run) for role, run in (("teacher", teacher), ("control", control), ("student", student))]


def value(one, measure: str):
    return next(row for row in one.rows if row.measure == measure)


def test_scores_of_six_wrong_in_120_with_their_chance(scored):
    accuracy = value(scored[0], "accuracy")
    assert (accuracy.value, accuracy.chance, accuracy.images) == (0.95, 0.25, 120)
    assert accuracy.low < 0.95 < accuracy.high
    f1 = value(scored[0], "macro-F1")
    assert f1.low < f1.value < f1.high
    assert f1.chance == pytest.approx(0.1)  # one class of four at F1 = 0.4
    assert value(scored[0], "AUROC").chance == 0.5
    likelihood = value(scored[0], "NLL")
    assert likelihood.low < likelihood.value < likelihood.high < likelihood.chance == pytest.approx(np.log(4))
    assert value(scored[2], "parameters").value == 98_000
    assert [row.measure for row in scored[0].recall] == CLASSES
    assert [row.value for row in scored[0].recall] == pytest.approx([28 / 30, 28 / 30, 29 / 30, 29 / 30])


def test_all_answers_right_is_no_proof_of_a_perfect_model():
    accuracy, f1 = _overall("student", np.diag([30, 30]), 1.0)[:2]
    assert (accuracy.value, accuracy.high) == (1.0, pytest.approx(1.0))
    assert accuracy.low == pytest.approx(0.94, abs=0.005)  # Wilson: n / (n + 1.96²)
    assert (f1.value, f1.low, f1.high) == (1.0, None, None)


def test_a_run_without_answers_has_no_score():
    teacher, *_ = trio(Store(), done=False)
    assert model_report("teacher", teacher) is None


def test_wilson_has_a_width_where_all_are_hit():
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-3)
    assert wilson(0, 0) == (None, None)
    low, high = wilson(50, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-3)


def test_shared_errors_stand_beside_what_independence_gives(scored):
    alike = {row.measure: row for row in agreement_rows(scored[0], scored[2])}
    assert alike["same answer as the teacher"].value == pytest.approx(114 / 120)
    assert alike["wrong in the same way"].value == pytest.approx(6 / 120)
    # Per class 30 pictures; the teacher errs on 2, 2, 1, 1 of them and the student on 3 each, always the same way.
    assert alike["wrong in the same way"].chance == pytest.approx(sum(n * 3 / 30 for n in (2, 2, 1, 1)) / 120)
    assert alike["same answer as the teacher"].chance == pytest.approx(
        sum((n * 3 + (30 - n) * 27) / 30 for n in (2, 2, 1, 1)) / 120)


def test_confused_alike_counts_the_same_wrong_answers_only(scored):
    shared = shared_errors(scored[0], scored[2])
    assert shared.counts.sum() == 6
    assert not np.diag(shared.counts).any()
    assert not np.diag(shared.expected).any()
    first = shared.most(1)[0]
    assert (first.truth, first.answer, first.count) == (CLASSES[0], CLASSES[1], 2)
    assert first.expected == pytest.approx(2 * 3 / 30)


def test_cases_are_the_right_pictures(scored):
    teacher, _, student = scored
    lost, total = image_cases(STUDENT_WRONG, teacher, student)
    assert (sorted(one.index for one in lost), total) == (list(range(6, 12)), 6)
    assert all(one.teacher == one.truth != one.student for one in lost)
    assert image_cases(SURE, teacher, student)[1] == 12
    alike, _ = image_cases(ALIKE, teacher, student, count=3)
    assert len(alike) == 3
    assert all(one.teacher == one.student != one.truth for one in alike)
    with pytest.raises(UsageError, match="nonsense"):
        image_cases("nonsense", teacher, student)


def test_the_surest_errors_come_first(scored):
    teacher, _, student = scored
    student.probabilities[:12] = 0.1
    student.probabilities[np.arange(12), student.answers.predicted[:12]] = np.linspace(0.4, 0.9, 12)
    picked, _ = image_cases(SURE, teacher, student, count=2)
    assert [one.index for one in picked] == [11, 10]


def test_other_pictures_are_not_paired(scored):
    assert paired(scored[0], scored[2])
    teacher, *_ = trio(Store(), seed=3)
    other = model_report("teacher", teacher)
    object.__setattr__(other.answers, "names", tuple(f"else-{number}" for number in range(120)))
    assert not paired(scored[0], other)
