"""What distilling buys on a data set, recipe by recipe: teacher, control and student, trained with every seed.

Each seed has a teacher of its own, from the preset for pretrained weights and few images; control and student differ in
the teacher alone. Accuracies and NLL: means over the seeds on the test images. Intervals: 95 % bootstrap intervals over
test images, or patients, paired by image. FLOPs: the student's share of the teacher's. Validation: macro F1 of the
student, by which a recipe is chosen. Where the unlabelled rest is used, and where soft targets are changed, the control
is the same as without. Seconds: of processor time on one thread, of control and student together; runs that have
finished are used again and not counted.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from benchmarks.maps_runs import opened_store, table
from kd import datasets
from kd.experiments.differences import PairedDifference, between, difference, nll_difference, signed
from kd.experiments.plan import DistillSpec, plan_first_seed
from kd.experiments.presets import with_preset
from kd.experiments.results import test_predictions
from kd.experiments.working_size import with_sizes
from kd.jobs.queue import train_now
from kd.store.groups import Distillation
from kd.store.predictions import Predictions
from kd.store.runs import FINISHED, Run, Store

HEADER = ("data", "recipe", "FLOPs", "teacher, %", "control, %", "student, %", "student − teacher",
          "student − control", "NLL, control", "NLL, student", "NLL, student − control", "validation, %", "seconds")
PRESET = "few-pretrained"


@dataclass(frozen=True)
class StudentRecipe:
    """A row. settings: fields of `DistillSpec` that differ from the preset's."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)


PLAIN = {"student": "plain", "student_size": 96}
FEW_LABELS = {"data_fraction": 0.1, "equal_steps": 0.5}
RECIPES = (
    StudentRecipe("the preset"),
    StudentRecipe("plain student", PLAIN),
    StudentRecipe("a tenth of the labels", FEW_LABELS),
    StudentRecipe("a tenth of the labels, the rest unlabelled", {**FEW_LABELS, "unlabelled": "rest"}),
    StudentRecipe("α = .7, T = 10", {"method_args": {"alpha": 0.7, "temperature": 10.0}}),
    StudentRecipe("α = 0", {"method_args": {"alpha": 0.0}}),
    StudentRecipe("logit standardisation", {"method": "logit-std"}),
    StudentRecipe("mixup", {"mixup": 0.2}),
    StudentRecipe("twenty views", {"views": 20}),
    StudentRecipe("out-of-fold targets", {"soft_targets": "out-of-fold"}),
    StudentRecipe("out-of-fold targets, uncorrected", {"soft_targets": "out-of-fold-uncorrected"}),
    StudentRecipe("the teacher's labels smoothed by .1", {"teacher_label_smoothing": 0.1}),
    StudentRecipe("twenty views, α = .7, T = 10",
                  {"views": 20, "method_args": {"alpha": 0.7, "temperature": 10.0}}),
)


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The table's own arguments."""
    verb.add_argument("--data", required=True, nargs="+", metavar="PATH", help="The data sets.")
    verb.add_argument("--weights", required=True, metavar="FILE", help="Pretrained weights of the teacher.")
    verb.add_argument("--model", default="mobilenetv2_100", help="A timm model (default mobilenetv2_100).")
    verb.add_argument("--normalisation", default="model", help="Scaling that the weights expect (default model).")
    verb.add_argument("--size", type=int, default=224, help="Working size in pixels (default 224).")
    verb.add_argument("--seeds", type=int, default=1, help="Seeds of each recipe (default 1).")
    verb.add_argument("--rows", type=int, nargs="+", metavar="N", help="Only these rows, from 1.")


def lines(options: argparse.Namespace) -> Iterator[str]:
    """The table in Markdown, line by line; trains what is missing."""
    yield from table(HEADER, [])
    store = opened_store(options)
    chosen = [recipe for number, recipe in enumerate(RECIPES, 1) if number in (options.rows or (number,))]
    for data in options.data:
        for recipe in chosen:
            began = time.process_time()
            found = [trained(recipe, data, seed, options, store) for seed in range(options.seeds)]
            cells = (store_name(data), recipe.name, *row(found), f"{time.process_time() - began:.0f}")
            yield f"| {' | '.join(cells)} |"


def store_name(data: str) -> str:
    """The last part of a data set's path."""
    return data.rstrip("/").rpartition("/")[2]


def trained(recipe: StudentRecipe, data: str, seed: int, options: argparse.Namespace, store: Store) -> Distillation:
    """The finished runs of a recipe and a seed."""
    chosen = {"data": data, "teacher": options.model, "image_size": options.size, "teacher_weights": options.weights,
              "normalisation": options.normalisation, "seed": seed, "threads": 1, **recipe.settings}
    about = datasets.inspect(data, store.paths)
    settings = with_preset(PRESET, chosen, about, store)
    request, _ = with_sizes(DistillSpec(**settings), settings, store, about)
    return train(request, store)


def train(request: DistillSpec, store: Store) -> Distillation:
    """The runs of a request's first seed, trained where they have not finished."""
    runs = plan_first_seed(request, store)
    for run in runs.runs:
        if run.status != FINISHED:
            train_now(run, store)
    return runs


def row(found: Sequence[Distillation]) -> tuple[str, ...]:
    """One recipe's results over its seeds."""
    teachers, controls, students = ([getattr(one, role) for one in found] for role in ("teacher", "control", "student"))
    flops = mean(_summary(one.student)["flops"] / _summary(one.teacher)["flops"] for one in found)
    of = [predictions(runs) for runs in (teachers, controls, students)]
    return (f"1/{1 / flops:.1f}", *(f"{100 * mean(one.right.mean() for one in part):.1f}" for part in of),
            gap(difference(of[2], of[0])), gap(difference(of[2], of[1])),
            *(f"{mean((run.evaluation or {})['loss'] for run in runs):.2f}" for runs in (controls, students)),
            gap(nll_difference(of[2], of[1])),
            f"{100 * mean(_summary(run)['val_macro_f1'] for run in students):.1f}")


def gap(found: PairedDifference) -> str:
    """A difference with its interval: `+1.2 [−.3 to +2.7]`."""
    return f"{signed(found.value, found.measure.digits)} [{between(found)}]"


def _summary(run: Run) -> dict[str, Any]:
    return run.summary or {}


def predictions(runs: Sequence[Run]) -> list[Predictions]:
    """The test predictions of finished runs."""
    return [found for run in runs if (found := test_predictions(run))]
