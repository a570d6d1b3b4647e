"""Presets of a training: settings by what a person has, pretrained weights or not, few images or many.

A preset fills in settings that were not chosen; it is not a setting itself, so the runs are those of these settings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kd.datasets import DataRef
from kd.datasets.splits import TRAINED
from kd.errors import unknown
from kd.experiments.plan import DistillSpec
from kd.spec import timm_name
from kd.store.runs import Store

FEW = 5000  # training images up to which a data set counts as few
MOST_EPOCHS = 1000  # of a run
SUGGESTED, NO_PRESET = "suggested", "none"


@dataclass(frozen=True)
class Preset:
    """Settings of a network that is trained from the labels (a teacher, fields of `RunSpec` by name), and of student
    and control: from random weights, and from pretrained ones. summary: for whom it is and what it does. first_stages:
    whether the student, where none is chosen, is the teacher's first stages with their weights. least_steps: of the
    optimiser, for the teacher and for a student with pretrained weights; a small data set has more epochs for them."""

    title: str
    summary: str
    teacher: Mapping[str, Any]
    random_student: Mapping[str, Any]
    pretrained_student: Mapping[str, Any]
    first_stages: bool = False
    least_steps: tuple[int, int] = (0, 0)


# Measured by benchmarks.recipes on sets of a thousand images.
_LONG = {"epochs": 60, "batch_size": 64, "learning_rate": 4e-3}
_FINE_TUNED = {"epochs": 20, "batch_size": 32, "learning_rate": 1e-3}

PRESETS = {
    "few-pretrained": Preset(
        "Pretrained weights, few images",
        "All stages of the teacher but the last stay as pretrained: their features are computed once, and the rest is "
        "trained on them, on the images as they are, in four epochs or eighty steps. The student starts from the "
        "teacher's first stages.",
        {"frozen_stages": -1, "epochs": 4, "batch_size": 32, "learning_rate": 1e-3, "views": 0},
        {**_LONG, "views": 8},
        {**_FINE_TUNED, "views": 8}, first_stages=True, least_steps=(80, 440)),
    "many-pretrained": Preset(
        "Pretrained weights, many images",
        "All of the teacher is fine-tuned, what was pretrained at a third of the new classifier's learning rate. The "
        "student starts from the teacher's first stages.",
        {"backbone_rate": 0.3, "epochs": 20, "batch_size": 32, "learning_rate": 1e-3}, {}, _FINE_TUNED,
        first_stages=True),
    "few-random": Preset(
        "Random weights, few images",
        "The teacher is trained for 20 epochs; student and control for 60, in larger batches and steps.",
        {"epochs": 20}, {**_LONG, "views": 8}, _FINE_TUNED),
    "many-random": Preset(
        "Random weights, many images", "The usual settings: 20 epochs for teacher, student and control.",
        {"epochs": 20}, {}, _FINE_TUNED),
}
_TEACHERS_OWN = ("frozen_stages", "backbone_rate")  # settings of a distillation that have the teacher's name already


def suggested(pretrained: bool, images: int) -> str:
    """Name of the preset for weights and a number of training images."""
    return f"{'few' if images <= FEW else 'many'}-{'pretrained' if pretrained else 'random'}"


def with_preset(name: str, given: Mapping[str, Any], data: DataRef, store: Store) -> dict[str, Any]:
    """The given settings of a distillation, and those of a preset where they leave some open.

    given: fields of `DistillSpec` by name. name: of a preset; `suggested` for the one that fits data set and teacher,
    `none` for no preset. Raises UsageError for an unknown name, or an unknown teacher.
    """
    if name == NO_PRESET:
        return dict(given)
    teacher, run = given.get("teacher", DistillSpec.teacher), store.get(given.get("teacher", ""))
    if name == SUGGESTED:
        weights = run.spec.pretrained if run else given.get("teacher_weights", "none")
        name = suggested(weights != "none", _images(data))
    known = {**given, "teacher": run.spec.model if run else timm_name(teacher)}
    found = distillation_settings(name, known, _images(data))
    return {**found, **given}


def _images(data: DataRef) -> int:
    """Number of a data set's training images, about."""
    return max(round(TRAINED * data.images), 1)


def distillation_settings(name: str, given: Mapping[str, Any], images: int = FEW) -> dict[str, Any]:
    """The fields of `DistillSpec` that a preset sets beside the given ones.

    given: at least the teacher, a timm model. A student's settings follow from its family and starting weights, where
    they are given. images: number of training images. Raises UsageError for an unknown name, or an unknown teacher.
    """
    preset = _preset(name)
    # From random weights teacher and student are trained alike, so that the student's epochs are also the teacher's.
    own = [field for field in preset.teacher if preset.first_stages or field not in given]
    names = {field: field if field in _TEACHERS_OWN else f"teacher_{field}" for field in own}
    family = _first_stages(given) if preset.first_stages and given.get("student", "truncated") == "truncated" else {}
    weights = {**family, **given}.get("student_weights", "none")
    trained = _with_steps(preset.teacher, preset.least_steps[0], images)
    student = (preset.random_student if weights == "none" else
               _with_steps(preset.pretrained_student, preset.least_steps[1], images))
    return {**{names[field]: trained[field] for field in own}, **family, **student}


def _with_steps(settings: Mapping[str, Any], least: int, images: int) -> dict[str, Any]:
    """Settings with as many epochs as the least number of steps takes, or their own where these are more."""
    if not least:
        return dict(settings)
    epochs = min(math.ceil(least * settings["batch_size"] / images), MOST_EPOCHS)
    return {**settings, "epochs": max(settings["epochs"], epochs)}


def _first_stages(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a student that has all stages of its teacher but the last, with their weights."""
    from kd.models.timm_models import stages_after_stem  # torch

    return {"student": "truncated", "student_weights": "teacher",
            "depth": max(stages_after_stem(given["teacher"]) - 1, 1)}


def run_settings(name: str, model: str, pretrained: bool = False) -> dict[str, Any]:
    """The fields of `RunSpec` that a preset sets for one network: a student's where it is of a student's family, else a
    teacher's. Raises UsageError for an unknown name."""
    preset = _preset(name)
    student = preset.pretrained_student if pretrained else preset.random_student
    return dict(student if model in ("plain", "truncated") else preset.teacher)


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
