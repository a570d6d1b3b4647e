"""What runs answered on test, side by side."""

from pathlib import Path

import numpy as np
import pytest

from kd.errors import UsageError
from kd.store.predictions import (
    ALL,
    BOTH_WRONG,
    CASES,
    DISAGREE,
    STUDENT_WRONG,
    TEACHER_WRONG,
    Predictions,
    load,
    select_cases,
)
from kd.store.runs import Run


def given(predicted: list[int], labels: list[int]) -> Predictions:
    return Predictions(np.eye(3)[predicted], np.array(labels), tuple(map(str, range(len(labels)))))


def answered(path: Path, predicted: list[int], labels: list[int], **more: list[str]) -> Run:
    """A run folder with answers on disk."""
    path.mkdir()
    np.savez(path / "predictions.npz", logits=np.eye(3)[predicted], labels=np.array(labels),
             names=np.array([f"{number}.png" for number in range(len(labels))]), **more)
    return Run(path)


def test_answers_are_read_as_they_were_written(tmp_path: Path):
    found = load(answered(tmp_path / "run", [0, 2, 1], [0, 1, 1]))
    assert found is not None
    assert found.predicted.tolist() == [0, 2, 1]
    assert found.right.tolist() == [True, False, True]
    assert found.names == ("0.png", "1.png", "2.png")
    assert found.groups is None


@pytest.mark.parametrize(("stored", "groups"), [(["a", "a", "b"], ("a", "a", "b")), ([], None)])
def test_whose_images_they_are_is_read_where_it_is_known(tmp_path: Path, stored, groups):
    found = load(answered(tmp_path / "run", [0, 2, 1], [0, 1, 1], groups=stored))
    assert found is not None
    assert found.groups == groups


def test_answers_stand_beside_each_other_only_where_the_images_are_the_same():
    one = given([0, 1], [0, 1])
    assert one.same_images(given([1, 1], [0, 1]))
    assert not one.same_images(given([0, 1], [1, 1]))
    assert not one.same_images(given([0, 1, 1], [0, 1, 1]))


def test_no_answers_before_the_test(tmp_path: Path):
    assert load(Run(tmp_path)) is None


@pytest.mark.parametrize(("case", "expected"), [(ALL, [0, 1, 2, 3, 4]), (STUDENT_WRONG, [1]), (TEACHER_WRONG, [2]),
                                                (BOTH_WRONG, [3, 4]), (DISAGREE, [1, 2, 4])])
def test_each_case_picks_its_images(case: str, expected: list[int]):
    teacher, student = given([0, 0, 1, 1, 1], [0] * 5), given([0, 1, 0, 1, 2], [0] * 5)
    assert select_cases(case, teacher, student).tolist() == expected


def test_right_and_wrong_cases_part_the_images():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 60).tolist()
    teacher, student = (given(generator.integers(0, 3, 60).tolist(), labels) for _ in range(2))
    parted = [
        number for case in (STUDENT_WRONG, TEACHER_WRONG, BOTH_WRONG) for number in select_cases(case, teacher, student)
    ]
    assert len(parted) == len(set(parted)) == 60 - int((teacher.right & student.right).sum())


def test_unknown_case_says_which_there_are():
    with pytest.raises(UsageError, match=CASES[1]):
        select_cases("teacher wrong", given([0], [0]), given([0], [0]))
