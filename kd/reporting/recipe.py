"""Commands that train a distillation again, read off its runs and checked against what they would plan."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from kd import datasets
from kd.errors import UsageError
from kd.experiments.plan import COMMON, MASK_NET_FIELDS, DistillSpec, plan_single_run, plan_specs
from kd.spec import IN_SAMPLE, OF_RUN, TRAIN_FLAGS, RunSpec
from kd.store.groups import Replicates
from kd.store.runs import Store

# Whose defaults of the command line are a forecast for the machine that runs it.
ALWAYS = ("data", "teacher", "student", "model", "image_size", "student_size", "input_size", "method", "seed")

LINE = 78  # characters, about


@dataclass(frozen=True)
class Recipe:
    """Commands that plan the runs of a distillation. exact: whether these are equal to the stored ones in every
    setting. note: what could not be checked, or what else is needed, in a sentence; mostly empty."""

    commands: tuple[str, ...]
    exact: bool
    note: str = ""


def recipe(series: Replicates, store: Store) -> Recipe:
    """The commands for all seeds: one where the teacher's settings follow from the distillation's, else its training
    first."""
    teacher, control, student = series.teacher.spec, *(run.spec for run in series.pairs[0])
    seeds = [pair[1].spec.seed for pair in series.pairs]
    request = _request(teacher, student, series.teacher.id, len(seeds) if seeds == _consecutive(seeds) else 1)
    try:
        data = datasets.inspect(student.data, store.paths)
        if data.fingerprint != student.data_fingerprint:
            return Recipe((_distill(request),), False, "The data set at this place has changed since the training, so "
                          "the command could not be checked.")
        wanted = (teacher, control, student)
        if _plans(request, wanted, store, data):
            return Recipe((_distill(request),), True)
        own = {**_teacherless(request), "teacher": series.teacher.id}
        first = _train(teacher)
        single = plan_single_run(first, store, data) == teacher
        commands = ((_command("train", first, RunSpec),) if single else ()) + (_distill(own),)
        if _plans(own, wanted, store, data):
            return Recipe(commands, single, "" if single else f"The teacher {series.teacher.id} is needed for it.")
    except UsageError as error:
        return Recipe((_distill(request),), False, f"The command could not be checked: {error}")
    return Recipe((_distill(request),), False, "The command does not plan exactly these runs, which were planned by "
                  "another version or another program; their settings are listed above.")


def _consecutive(seeds: list[int]) -> list[int]:
    return list(range(seeds[0], seeds[0] + len(seeds)))


def _plans(values: Mapping[str, Any], wanted: tuple[RunSpec, RunSpec, RunSpec], store: Store,
           data: datasets.DataRef) -> bool:
    """Whether a distillation with these settings would train exactly these runs. Raises UsageError where it cannot be
    planned here, as when a weights file is missing."""
    return plan_specs(DistillSpec(**values), store, data) == wanted


def _request(teacher: RunSpec, student: RunSpec, teacher_id: str, seeds: int) -> dict[str, Any]:
    """Settings of a distillation that trains these two and their control."""
    weights = "teacher" if student.pretrained == OF_RUN + teacher_id else student.pretrained
    masked = {name: getattr(student, name) for name in MASK_NET_FIELDS} if student.mask_net_depth else {}
    folds = {} if student.soft_targets == IN_SAMPLE else {"folds": student.folds}
    return {**{name: getattr(student, name) for name in (
                *COMMON, "data", "depth", "width", "method", "method_args", "soft_targets", "epochs", "learning_rate",
                "data_fraction", "unlabelled", "mixup")},
            "teacher": teacher.model, "teacher_weights": teacher.pretrained, "teacher_epochs": teacher.epochs,
            "teacher_learning_rate": teacher.learning_rate, "teacher_batch_size": teacher.batch_size,
            "teacher_views": teacher.views, "frozen_stages": teacher.frozen_stages,
            "backbone_rate": teacher.backbone_rate, "teacher_label_smoothing": teacher.label_smoothing,
            "teacher_random_masks": teacher.random_masks, "normalisation": teacher.normalisation,
            "student": student.model, "student_weights": weights, "student_size": student.input_size,
            "seeds": seeds, **masked, **folds}


def _teacherless(request: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those of the teacher's training."""
    own = ("frozen_stages", "backbone_rate", "normalisation")
    return {name: value for name, value in request.items() if not name.startswith("teacher") and name not in own}


def _train(spec: RunSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in ("data", "model", *TRAIN_FLAGS)}


def _distill(values: Mapping[str, Any]) -> str:
    return _command("distill", values, DistillSpec, "--preset none")


def _command(verb: str, values: Mapping[str, Any], settings: type, *more: str) -> str:
    """The command with a flag for each setting that is not the default."""
    flags = []
    for item in fields(settings):
        value = values.get(item.name, MISSING)
        if item.name == "method_args" and value is not MISSING:
            flags += [_flag(name, number) for name, number in value.items()]
        elif value is not MISSING and (value != item.default or item.name in ALWAYS):
            flags.append(_flag(item.name, value))
    return _wrapped([f"python -m kd {verb}", *flags, *more])


def _wrapped(words: list[str]) -> str:
    """The words on lines that a shell joins."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > LINE:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "    " if len(lines) > 1 else "") + word
    return " \\\n".join(lines)


def _flag(name: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return f"--{name.replace('_', '-')} {shlex.quote(text)}"
