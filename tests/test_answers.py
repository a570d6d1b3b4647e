"""What runs answered on test, side by side."""

from pathlib import Path

import numpy as np
import pytest

from kd.answers import ALL, BOTH_WRONG, CASES, DISAGREE, GAINED, LOST, Answers, answers, difference, outcome, pick
from kd.errors import UsageError
from kd.runs import Run, write_json


def given(predicted: list[int], labels: list[int]) -> Answers:
    return Answers(np.array(predicted), np.array(labels), tuple(map(str, range(len(labels)))))


def answered(path: Path, predicted: list[int], labels: list[int], **summary: float) -> Run:
    """A run folder with answers on disk, and a summary where one is given."""
    path.mkdir()
    np.savez(path / "predictions.npz", logits=np.eye(3)[predicted], labels=np.array(labels),
             names=np.array([f"{number}.png" for number in range(len(labels))]))
    if summary:
        write_json(path / "summary.json", {"macro_f1": 0.5, "seconds": 10.0, **summary})
    return Run(path)


def test_answers_are_read_as_they_were_written(tmp_path: Path):
    found = answers(answered(tmp_path / "run", [0, 2, 1], [0, 1, 1]))
    assert found is not None
    assert found.predicted.tolist() == [0, 2, 1]
    assert found.right.tolist() == [True, False, True]
    assert found.names == ("0.png", "1.png", "2.png")


def test_no_answers_before_the_test(tmp_path: Path):
    assert answers(Run(tmp_path)) is None


@pytest.mark.parametrize(("case", "expected"), [(ALL, [0, 1, 2, 3, 4]), (LOST, [1]), (GAINED, [2]),
                                                (BOTH_WRONG, [3, 4]), (DISAGREE, [1, 2, 4])])
def test_each_case_picks_its_images(case: str, expected: list[int]):
    teacher, student = given([0, 0, 1, 1, 1], [0] * 5), given([0, 1, 0, 1, 2], [0] * 5)
    assert pick(case, teacher, student).tolist() == expected


def test_right_and_wrong_cases_part_the_images():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 60).tolist()
    teacher, student = (given(generator.integers(0, 3, 60).tolist(), labels) for _ in range(2))
    parted = [number for case in (LOST, GAINED, BOTH_WRONG) for number in pick(case, teacher, student)]
    assert len(parted) == len(set(parted)) == 60 - int((teacher.right & student.right).sum())


def test_unknown_case_says_which_there_are():
    with pytest.raises(UsageError, match=CASES[1]):
        pick("teacher wrong", given([0], [0]), given([0], [0]))


def test_a_model_does_not_differ_from_itself():
    one = given([0, 1, 2, 0], [0, 1, 1, 1])
    assert difference(one, one).points == difference(one, one).margin == 0


def test_the_difference_is_in_points_and_changes_sign():
    better, worse = given([0] * 9 + [1], [0] * 10), given([0] * 5 + [1] * 5, [0] * 10)
    assert difference(better, worse).points == pytest.approx(40)
    assert difference(worse, better).points == pytest.approx(-40)


def test_one_image_in_ten_may_be_chance_but_not_one_hundred_in_a_thousand():
    few = difference(given([0] * 10, [0] * 10), given([0] * 9 + [1], [0] * 10))
    many = difference(given([0] * 1000, [0] * 1000), given([0] * 900 + [1] * 100, [0] * 1000))
    assert few.points == pytest.approx(many.points)
    assert not few.told
    assert many.told


def test_the_margin_is_the_paired_one():
    """95 % of n=100 with 10 discordant pairs: 1.96·sqrt(b + c − (b − c)²/n)/n, up to the n−1 of the sample variance."""
    first, second = given([0] * 92 + [1] * 8, [0] * 100), given([1] * 2 + [0] * 98, [0] * 100)
    expected = 196 * np.sqrt((8 + 2) - (8 - 2) ** 2 / 100) / 100
    assert difference(first, second).margin == pytest.approx(expected, rel=0.01)


def test_outcome_sets_the_three_beside_each_other(tmp_path: Path):
    labels = [0] * 4
    runs = [answered(tmp_path / name, right, labels, accuracy=accuracy, flops=flops, parameters=100)
            for name, right, accuracy, flops in (("teacher", [0, 0, 0, 0], 1.0, 800), ("control", [0, 1, 1, 1], .25, 8),
                                                 ("student", [0, 0, 0, 1], .75, 8))]
    found = outcome(*runs)
    assert found is not None
    assert [arm.role for arm in found.arms] == ["teacher", "control", "student"]
    assert found.student.gain == pytest.approx(-25)
    assert found.student.lighter == 100
    assert found.kept.points == pytest.approx(-25)
    assert found.bought.points == pytest.approx(50)


def test_no_outcome_until_all_three_have_finished(tmp_path: Path):
    done = [answered(tmp_path / name, [0], [0], accuracy=1.0, flops=1, parameters=1) for name in ("a", "b")]
    assert outcome(*done, answered(tmp_path / "c", [0], [0])) is None
