"""KD-FMV's own pair and its grid: DenseNet121 and a student of five layers, both from random weights, α × T.

Each seed has a teacher of its own; control and students differ in the teacher alone, and all grid cells share teacher
and control. Accuracies and NLL: means over the seeds on the test images, with 95 % bootstrap intervals of the
differences over test images, or patients. The cell with the best macro F1 on validation is named below the table, with
the medians of the times that an explanation of one image takes: the teacher's Grad-CAM, and all of the student's stage
maps.
"""

import argparse
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Any

from benchmarks.maps_runs import opened_store, table
from benchmarks.recipes_students import gap, predictions, train
from kd import datasets
from kd.experiments.differences import difference, nll_difference
from kd.experiments.plan import DistillSpec
from kd.experiments.presets import distillation_settings
from kd.inspection.compare import compare
from kd.store.groups import Distillation
from kd.store.runs import Store

HEADER = ("α", "T", "teacher, %", "control, %", "student, %", "student − teacher", "student − control",
          "NLL, student − control", "validation, %")
ALPHAS, TEMPERATURES = (0.4, 0.7), (5.0, 10.0, 15.0)
TEACHER, PRESET = "densenet121", "few-random"
REPEATS = 51  # of the timed explanations


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The table's own arguments."""
    verb.add_argument("--data", required=True, metavar="PATH", help="The data set.")
    verb.add_argument("--model", default=TEACHER, help=f"The teacher, a timm model (default {TEACHER}).")
    verb.add_argument("--size", type=int, default=64, help="Working size in pixels (default 64).")
    verb.add_argument("--views", type=int, default=8, help="Augmented views per image of the students (default 8).")
    verb.add_argument("--epochs", type=int, help="Epochs of all models, for a trial (default the preset's).")
    verb.add_argument("--seeds", type=int, default=1, help="Seeds of teacher, control and students (default 1).")


def lines(options: argparse.Namespace) -> Iterator[str]:
    """The table in Markdown, line by line; trains what is missing."""
    yield from table(HEADER, [])
    store, found = opened_store(options), {}
    for alpha in ALPHAS:
        for temperature in TEMPERATURES:
            cell = [train(request(options, alpha, temperature, seed), store) for seed in range(options.seeds)]
            found[alpha, temperature] = cell
            yield f"| {' | '.join((f'{alpha:g}', f'{temperature:g}', *row(cell)))} |"
    alpha, temperature = max(found, key=lambda cell: validation(found[cell]))
    chosen = found[alpha, temperature]
    cost = [(one.teacher.summary or {})["flops"] / (one.student.summary or {})["flops"] for one in chosen]
    yield f"\nChosen on validation: α = {alpha:g}, T = {temperature:g}, at 1/{mean(cost):.0f} of the FLOPs."
    yield times(chosen[0], store)


def request(options: argparse.Namespace, alpha: float, temperature: float, seed: int) -> DistillSpec:
    """The distillation of one cell and seed."""
    settings: dict[str, Any] = {**distillation_settings(PRESET, {"teacher": options.model}), "teacher": options.model,
                                "data": options.data, "image_size": options.size, "views": options.views, "seed": seed,
                                "threads": 1, "method_args": {"alpha": alpha, "temperature": temperature}}
    if options.epochs:
        settings |= {"epochs": options.epochs, "teacher_epochs": options.epochs}
    return DistillSpec(**settings)


def row(found: Sequence[Distillation]) -> tuple[str, ...]:
    """A cell's results over its seeds."""
    teachers, controls, students = (predictions([getattr(one, role) for one in found])
                                    for role in ("teacher", "control", "student"))
    return (*(f"{100 * mean(one.right.mean() for one in part):.1f}" for part in (teachers, controls, students)),
            gap(difference(students, teachers)), gap(difference(students, controls)),
            gap(nll_difference(students, controls)), f"{100 * validation(found):.1f}")


def validation(found: Sequence[Distillation]) -> float:
    """Mean macro F1 of the students on validation."""
    return mean((one.student.summary or {})["val_macro_f1"] for one in found)


def times(runs: Distillation, store: Store) -> str:
    """The times of both models' explanations of one test image, measured in turn."""
    data = datasets.open_dataset(runs.student.spec.data, runs.student.spec.image_size, store.paths)
    panels = compare(store, runs.student, data.test.images[0], repeats=REPEATS)
    assert panels.student.stage_maps is not None, "a plain student has stage maps"
    cam, maps = panels.teacher.explanation.timing.median, panels.student.stage_maps.timing.median
    return (f"Explanation of one image: the teacher's Grad-CAM {1000 * cam:.1f} ms, all of the student's stage maps "
            f"{1000 * maps:.2f} ms, 1/{cam / maps:.0f}.")
