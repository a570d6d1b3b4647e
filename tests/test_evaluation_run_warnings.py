"""Warnings of a run, each against a case by hand on either side of its threshold."""

import math

import numpy as np
import pytest
from fabricate import summarise

from kd.evaluation.run_warnings import (
    TARGET_LIMIT,
    above_majority_of,
    beats_majority,
    run_warnings,
    series_warnings,
    warnings_by_role,
)
from kd.spec import RunSpec
from kd.store.groups import Replicates
from kd.store.predictions import Predictions
from kd.store.runs import Run, Store

CHANCE = math.log(4)
TARGETS = {"temperature": 4.0, "entropy": 0.5, "entropy_t1": 0.02, "share": 0.36, "share_t1": 0.015, "right": 0.999,
           "images": 800}


def scored(right: int, images: int = 100, summary: dict | None = None, groups: list[str] | None = None, **spec) -> Run:
    """A finished run on a test set half of whose images are of class 0, right on the first of them."""
    run = Store().create(RunSpec(**spec))
    labels = np.arange(images) % 2
    predicted = np.where(np.arange(images) < right, labels, 1 - labels)
    np.savez(run.path / "predictions.npz", logits=np.eye(2)[predicted], labels=labels,
             names=[str(number) for number in range(images)], groups=groups or [])
    return summarise(run, classes=["0", "1"], **(summary or {}))


def titles(run: Run) -> list[str]:
    return [one.title for one in run_warnings(run)]


@pytest.mark.parametrize(("right", "beats"), [(50, False), (55, False), (75, True), (100, True), (20, False)])
def test_accuracy_must_be_significantly_above_the_majority_class(right, beats):
    run = scored(right)
    assert beats_majority(run) == beats
    assert titles(run) == [] if beats else ["no better than the majority class"]


def test_what_is_said_of_a_model_that_has_learnt_nothing():
    [one] = run_warnings(scored(55))
    assert "right on 55.0 % of 100 test images" in one.text
    assert "always answering the most frequent class is right on 50.0 % (difference +5.0 points, −" in one.text
    assert "Train it for longer" in one.text


def test_patients_are_drawn_whole():
    """Images of a patient that are all right or all wrong are fewer observations than images."""
    alone = scored(75, seed=1)
    together = scored(75, seed=2, groups=[f"p{number // 25}" for number in range(75)] + ["q", "r", "s"] * 8 + ["t"])
    first, second = (above_majority_of([_answers(run)]) for run in (alone, together))
    assert first.mean == second.mean
    assert second.high - second.low > first.high - first.low


def _answers(run: Run) -> Predictions:
    from kd.store.predictions import load

    found = load(run)
    assert found is not None
    return found


def test_nothing_is_said_before_the_test_or_of_a_handful_of_images():
    assert beats_majority(Store().create(RunSpec()))
    assert beats_majority(scored(2, images=4))


@pytest.mark.parametrize(("loss", "said"), [(CHANCE, False), (1.9 * CHANCE, False), (15.0, True)])
def test_a_start_far_above_chance(loss, said):
    run = Store().create(RunSpec())
    run.log("start_loss", loss=loss, chance=CHANCE)
    assert titles(run) == (["starting loss far above chance"] if said else [])
    if said:
        assert "a loss of 15, 10.8 times that of guessing (1.39)" in run_warnings(run)[0].text


@pytest.mark.parametrize(("share", "said"), [(TARGET_LIMIT, False), (0.049, True), (0.0, True)])
def test_targets_without_content(share, said):
    run = Store().create(RunSpec())
    run.log("targets", **{**TARGETS, "share_t1": share})
    assert titles(run) == (["soft targets say only the label"] if said else [])


def test_what_is_said_of_targets_without_content():
    run = Store().create(RunSpec())
    run.log("targets", **TARGETS)
    [one] = run_warnings(run)
    assert "at T = 1 their entropy is 1.5 % of ln K (36.0 % as softened by the method)" in one.text
    assert "the label of 99.9 % of the images" in one.text
    run.log("targets", **{**TARGETS, "temperature": 1.0, "right": None})
    [one] = run_warnings(run)
    assert "softened" not in one.text and "the label of" not in one.text


def test_a_finished_run_says_what_its_summary_has():
    run = scored(100, summary={"targets": TARGETS, "start_loss": {"loss": 15.0, "chance": CHANCE}})
    assert titles(run) == ["starting loss far above chance", "soft targets say only the label"]
    assert titles(scored(100, seed=3, summary={"mask": {"collapsed": "Mask collapsed."}})) == ["masks explain nothing"]


def test_seeds_with_the_same_warning_are_told_in_one_line():
    teacher = scored(100, model="resnet10t")
    pairs = tuple((scored(100, seed=seed), scored(50, seed=seed, method="kd", teacher=teacher.id)) for seed in range(3))
    [line] = series_warnings(Replicates(teacher, pairs))
    assert line.startswith("Student, seed 0: No better than the majority class")
    assert line.endswith("The same holds for seeds 1, 2.")
    [line] = warnings_by_role({"student": [pairs[0][1]]})
    assert line.startswith("Student: No better")
