"""What a distillation came to over its seeds: against cases computed by hand and coverage on drawn answers."""

import json

import numpy as np
import pytest
from fabricate import summarise

from kd.experiments.differences import (
    BETTER,
    NOT_SIGNIFICANT,
    WORSE,
    SeedScores,
    between,
    difference,
    ece_difference,
    nll_difference,
)
from kd.experiments.results import comparison, distillation_result, rows, sentence
from kd.metrics.classification import reliability, softmax
from kd.spec import RunSpec
from kd.store.groups import Replicates
from kd.store.predictions import Predictions
from kd.store.runs import Run, Store


def right(pattern: list[int] | np.ndarray, people: list[str] | None = None) -> Predictions:
    """Answers to images of class 0, right where the pattern is 1."""
    predicted = 1 - np.asarray(pattern)
    return Predictions(np.eye(2)[predicted], np.zeros_like(predicted), tuple(map(str, range(len(predicted)))),
                   tuple(people) if people else None)


def test_a_model_does_not_differ_from_itself():
    one = right([1, 0, 1, 1, 0])
    found = difference([one, one], [one, one])
    unseen = 100 * (1 - 0.025 ** (1 / 5))  # five images say little on all the others
    assert (found.value, found.low, found.high) == (0, pytest.approx(-unseen), pytest.approx(unseen))
    assert found.by_seed == SeedScores((0.0, 0.0))
    assert found.verdict == NOT_SIGNIFICANT


def test_all_right_against_half_right_is_the_share_that_differs():
    better, worse = right([1] * 200), right([1, 0] * 100)
    found = difference([better], [worse])
    # The difference of a draw is a binomial share of 1/2 over 200 images: its 2.5 % and 97.5 % points.
    assert found.value == pytest.approx(50)
    assert found.low == pytest.approx(43, abs=1.01)
    assert found.high == pytest.approx(57, abs=1.01)
    assert found.verdict == BETTER
    turned = difference([worse], [better])
    assert (turned.value, turned.verdict) == (pytest.approx(-50), WORSE)


def test_five_images_by_hand():
    """Of five images one differs: a draw has it not at all with 33 %, and three times or more with 6 %."""
    found = difference([right([1] * 5)], [right([1] * 4 + [0])])
    assert (found.value, found.low, found.high) == (pytest.approx(20), 0, pytest.approx(60))
    assert found.verdict == NOT_SIGNIFICANT


@pytest.mark.parametrize(("answers", "groups", "of"), [([1, 1], None, "images"), ([1] * 40, ["one"] * 40, "patients")])
def test_too_few_are_never_enough_for_better(answers, groups, of):
    found = difference([right(answers, groups)], [right([0] * len(answers), groups)])
    assert (found.value, found.low, found.high, found.verdict) == (100, None, None, NOT_SIGNIFICANT)
    assert between(found) == f"too few {of} for an interval"
    json.dumps(found.to_json(), allow_nan=False)


def test_what_both_get_right_or_wrong_adds_no_noise():
    """96 images alike and 4 that differ are as sure as the pair says, not as two separate tests of 100 would be."""
    first, second = np.arange(100) % 2, np.arange(100) % 2
    second = np.where(np.isin(np.arange(100), (1, 3, 5, 7)), 0, second)
    found = difference([right(first)], [right(second)])
    assert found.value == pytest.approx(4)
    assert found.high - found.low == pytest.approx(2 * 196 * np.sqrt(0.04 * 0.96 / 100), rel=0.2)


def test_people_whose_pictures_agree_widen_the_interval():
    rng = np.random.default_rng(1)
    gains = np.repeat(rng.integers(0, 2, 20), 10)
    people = [f"person {number // 10}" for number in range(200)]
    none = np.zeros(200, int)
    alone, together = (difference([right(gains, known)], [right(none, known)]) for known in (None, people))
    assert alone.value == together.value
    # Ten pictures that always agree are one: the interval is about the square root of ten wider.
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(10**0.5, rel=0.2)
    assert (alone.people, together.people) == (None, 20)


def test_seeds_are_averaged_within_a_draw_and_their_spread_stands_beside():
    control = [right([1, 1, 0, 0] * 25)] * 3
    students = [right([1, 1, 1, 0] * 25), right([1, 1, 0, 0] * 25), right([1, 0, 0, 0] * 25)]
    found = difference(students, control)
    assert found.by_seed.values == (25, 0, -25)
    assert found.value == pytest.approx(0)
    assert found.by_seed.sd == pytest.approx(25)
    assert found.verdict == NOT_SIGNIFICANT
    # An image counts by the mean over seeds of its change: +1/3 and −1/3 for a quarter each.
    assert found.high == pytest.approx(196 * np.sqrt(0.5 / 9 / 100), rel=0.15)


def sure(wrong: int, confidence: float, images: int = 100, people: list[str] | None = None) -> Predictions:
    """Answers of one confidence to images of class 0, the first of them wrong."""
    odds = np.log(confidence / (1 - confidence))
    logits = np.where(np.arange(images)[:, None] < wrong, (0.0, odds), (odds, 0.0))
    return Predictions(logits, np.zeros(images, int), tuple(map(str, range(images))), tuple(people) if people else None)


def test_the_difference_in_likelihood_by_hand():
    """Of ten images in a hundred, wrong at confidence .9 and at .6: ten times log(.4 / .1) nats, and the rest."""
    found = nll_difference([sure(10, 0.9)], [sure(10, 0.6)])
    assert found.value == pytest.approx(0.1 * np.log(0.4 / 0.1) - 0.9 * np.log(0.9 / 0.6))
    assert found.low < found.value < found.high < 0
    assert (found.verdict, found.measure.unit) == (BETTER, "nats")
    turned = nll_difference([sure(10, 0.6)], [sure(10, 0.9)])
    assert (turned.value, turned.verdict) == (pytest.approx(-found.value), WORSE)


def test_equal_likelihoods_have_no_interval():
    found = nll_difference([sure(10, 0.9)], [sure(10, 0.9)])
    assert (found.value, found.low, found.verdict) == (0, None, NOT_SIGNIFICANT)
    assert between(found) == "no interval: the same in every resample"


def test_the_difference_in_calibration_by_hand():
    """At confidence .9, 10 % wrong is calibrated and 30 % wrong is off by 20 points."""
    found = ece_difference([sure(10, 0.9), sure(10, 0.9)], [sure(30, 0.9), sure(30, 0.9)])
    assert found.value == pytest.approx(-20)
    assert found.by_seed.values == pytest.approx((-20, -20))
    assert found.verdict == BETTER
    # The 20 images that differ are a binomial share; a resample of the calibrated model is off too, by 2.4 points.
    assert found.low == pytest.approx(-20 - 1.96 * 4, abs=3)
    assert found.high == pytest.approx(-20 + 1.96 * (4 + 2.4), abs=3)


def test_calibration_is_resampled_by_patient():
    people = [f"person {number // 10}" for number in range(100)]
    alone, together = (ece_difference([sure(10, 0.9, people=known)], [sure(30, 0.9)]) for known in (None, people))
    assert alone.value == pytest.approx(together.value)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together.people == 10


def test_the_difference_in_calibration_is_that_of_the_reliability_diagrams():
    rng = np.random.default_rng(0)
    first, second = (Predictions(rng.normal(size=(60, 3)), labels, tuple(map(str, range(60))))
                     for labels in [rng.integers(0, 3, 60)] for _ in range(2))
    own, others = (reliability(softmax(one.logits), one.labels).ece for one in (first, second))
    assert ece_difference([first], [second]).value == pytest.approx(100 * (own - others))


def coverage(people: int, pictures: int, known: bool) -> float:
    """Share of 300 test sets whose interval holds the true 8 points; a person's pictures all agree."""
    rng, hits = np.random.default_rng(3), 0
    names = [f"person {number // pictures}" for number in range(people * pictures)]
    for _ in range(300):
        case = np.repeat(rng.choice(4, people, p=(0.65, 0.15, 0.07, 0.13)), pictures)
        student, control = np.isin(case, (0, 1)).astype(int), np.isin(case, (0, 2)).astype(int)
        found = difference([right(student, names if known else None)], [right(control)])
        hits += found.low <= 8.0 <= found.high
    return hits / 300


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    assert 0.92 <= coverage(100, 1, known=False) <= 0.98


def test_without_the_people_the_interval_promises_too_much():
    assert 0.90 <= coverage(50, 4, known=True) <= 0.98
    assert coverage(50, 4, known=False) < 0.8


def test_spread_over_seeds():
    found = SeedScores((0.8, 0.9, 0.7))
    assert (found.mean, found.sd, found.n) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    assert SeedScores((0.8,)).sd is None


LABELS = np.zeros(40, int)


def finished(store: Store, wrong: int, people: bool = False, **settings) -> Run:
    """A finished run that got its first images wrong."""
    run = store.create(RunSpec(**settings))
    logits = np.eye(2)[(np.arange(40) < wrong).astype(int)]
    groups = [f"person {number % 10}" for number in range(40)] if people else []
    np.savez(run.path / "predictions.npz", logits=logits, labels=LABELS, groups=groups,
             names=[f"{number}.png" for number in range(40)])
    score, cost = 1 - wrong / 40, 800 if settings.get("model") else 8
    return summarise(run, classes=["a", "b"], accuracy=score, macro_f1=score / 2, val_macro_f1=score / 4, seconds=10.0,
                     parameters=10 * cost, flops=cost)


def made(wrong: list[tuple[int, int]], people: bool = False) -> Replicates:
    """A series whose teacher got 4 of 40 wrong, and control and student of each seed so many."""
    store = Store()
    teacher = finished(store, 4, people, model="resnet10t")
    return Replicates(teacher, tuple(
        (finished(store, first, people, seed=seed),
         finished(store, second, people, seed=seed, method="kd", teacher=teacher.id))
        for seed, (first, second) in enumerate(wrong)))


def test_outcome_of_one_seed():
    found = distillation_result(made([(20, 8)]))
    assert found is not None
    assert [arm.role for arm in found.arms] == ["teacher", "control", "student"]
    assert (found.student.flops_ratio, found.student.params_ratio) == (100, 100)
    assert (found.student.gain, found.vs_teacher.value, found.vs_control.value) == pytest.approx((-10, -10, 30))
    assert (found.student.accuracy.sd, found.seeds, found.left_out) == (None, (0,), 0)
    assert sentence(found).startswith("On 40 test images the student is 10.0 points below its teacher (−")
    assert "30.0 points above the control (+" in sentence(found)
    assert "at 1 % of the teacher's FLOPs; its cross-entropy is better than the control's (−0.300 nats, −" in (
        sentence(found))


def test_outcome_over_seeds_keeps_validation_apart():
    found = distillation_result(made([(20, 8), (16, 12), (12, 16)], people=True))
    assert found is not None
    _, control, student = found.arms
    assert student.accuracy.values == pytest.approx((0.8, 0.7, 0.6))
    assert (student.accuracy.mean, student.accuracy.sd) == pytest.approx((0.7, 0.1))
    assert student.macro_f1.mean == pytest.approx(0.35)
    assert student.val_macro_f1.mean == pytest.approx(0.175)
    assert control.accuracy.mean == pytest.approx(0.6)
    assert found.vs_control.by_seed.values == pytest.approx((30, 10, -10))
    assert (found.vs_control.value, found.vs_control.people) == (pytest.approx(10), 10)
    assert "40 test images of 10 patients the student is, on average over 3 seeds," in sentence(found)
    losses = [np.log(1 + np.exp(1)) - 1 + wrong / 40 for wrong in (20, 16, 12, 8, 12, 16)]  # of logits 0 and 1
    assert (*control.nll.values, *student.nll.values) == pytest.approx(losses)
    assert found.nll_vs_control.value == pytest.approx(-0.1)
    assert found.ece_vs_control.by_seed.values == pytest.approx(
        [100 * (second - first) for first, second in zip(control.ece.values, student.ece.values, strict=True)])
    assert [row["seed"] for row in rows(found)] == ["0", "1", "2", "all"]
    assert [row[""] for row in comparison(found)] == ["Accuracy, %", "Macro-F1, %", "NLL, nats", "ECE, %"]
    told = found.to_json()
    assert told["student_minus_control_nll"]["nats"] == pytest.approx(-0.1)
    assert told["student_minus_control_ece"]["points"] == pytest.approx(found.ece_vs_control.value)
    assert rows(found)[-1]["student"] == "70.0 ± 10.0"


def test_a_seed_that_has_not_finished_is_left_out_and_counted():
    series = made([(20, 8), (20, 30)])
    (series.pairs[1][0].path / "summary.json").unlink()
    found = distillation_result(series)
    assert found is not None
    assert (found.seeds, found.left_out, found.student.accuracy.n) == ((0,), 1, 1)
    (series.teacher.path / "summary.json").unlink()
    assert distillation_result(series) is None


def test_a_seed_tested_on_other_images_is_left_out():
    series = made([(20, 8), (20, 8)])
    with np.load(series.pairs[0][1].path / "predictions.npz") as stored:
        changed = {**stored, "names": stored["names"][::-1]}
    np.savez(series.pairs[0][1].path / "predictions.npz", **changed)
    found = distillation_result(series)
    assert found is not None
    assert (found.seeds, found.left_out) == ((1,), 1)


@pytest.mark.parametrize(("wrong", "words"), [
    ((8, 8), "level with the control (−8.8 to +8.8, not significant)"),
    ((9, 8), "2.5 points above the control (+0.0 to +7.5, not significant)"),
    ((40, 0), "100.0 points above the control (+82.4 to +100.0)"),
    ((0, 40), "100.0 points below the control (−100.0 to −82.4)")])
def test_the_sentence_claims_no_more_than_the_interval(wrong, words):
    found = distillation_result(made([wrong]))
    assert found is not None
    assert words in sentence(found)
    assert ("its cross-entropy is" in sentence(found)) == (found.nll_vs_control.verdict != NOT_SIGNIFICANT)
    assert ("not significant" in words) == (found.vs_control.verdict == NOT_SIGNIFICANT)
