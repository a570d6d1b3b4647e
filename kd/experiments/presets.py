"""Presets of a training: settings by what a person has, pretrained weights or not, few images or many.

A preset fills in settings that were not chosen; it is not a setting itself, so the runs are those of these settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kd.errors import unknown

FEW = 5000  # training images up to which a data set counts as few


@dataclass(frozen=True)
class Preset:
    """Settings of a network that is trained from the labels (a teacher, fields of `RunSpec` by name), and of student
    and control. summary: one sentence for whom it is and what it does."""

    title: str
    summary: str
    teacher: Mapping[str, Any]
    student: Mapping[str, Any]


# Measured on a set of a thousand images: a small student and its control gained 3.5 points by 60 epochs of larger
# batches at a higher rate; benchmarks.recipes measures the teachers.
_LONG = {"epochs": 60, "batch_size": 64, "learning_rate": 4e-3}

PRESETS = {
    "few-pretrained": Preset(
        "Pretrained weights, few images",
        "All stages of the teacher but the last stay as pretrained: their features are computed once, and the rest is "
        "trained on them in four epochs, on the images as they are.",
        {"frozen_stages": -1, "epochs": 4, "batch_size": 32, "learning_rate": 1e-3, "views": 0}, _LONG),
    "many-pretrained": Preset(
        "Pretrained weights, many images",
        "All of the teacher is fine-tuned, what was pretrained at a third of the new classifier's learning rate.",
        {"backbone_rate": 0.3, "epochs": 20, "batch_size": 32, "learning_rate": 1e-3}, {}),
    "few-random": Preset(
        "Random weights, few images",
        "Three times as many epochs as usual, for teacher, student and control.",
        {"epochs": 60}, _LONG),
    "many-random": Preset(
        "Random weights, many images", "The usual settings: 20 epochs for teacher, student and control.",
        {"epochs": 20}, {}),
}
_TEACHERS_OWN = ("frozen_stages", "backbone_rate")  # settings of a distillation that have the teacher's name already


def suggested(pretrained: bool, images: int) -> str:
    """Name of the preset for weights and a number of training images."""
    return f"{'few' if images <= FEW else 'many'}-{'pretrained' if pretrained else 'random'}"


def distillation_settings(name: str) -> dict[str, Any]:
    """The fields of `DistillSpec` that a preset sets. Raises UsageError for an unknown name."""
    preset = _preset(name)
    names = {field: field if field in _TEACHERS_OWN else f"teacher_{field}" for field in preset.teacher}
    return {**{names[field]: value for field, value in preset.teacher.items()}, **preset.student}


def run_settings(name: str, model: str) -> dict[str, Any]:
    """The fields of `RunSpec` that a preset sets for one network: a student's where it is plain, else a teacher's.
    Raises UsageError for an unknown name."""
    preset = _preset(name)
    return dict(preset.student if model == "plain" else preset.teacher)


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
