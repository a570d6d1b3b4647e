"""Masks of masked students: whether they point at the evidence, and what teacher and student make of the masked image.

Of every finished MED-TEX student whose mask has a set area, all seeds of the same settings in one row; or of those
named. `--weights FILE` first trains what is missing of each `--data`: a teacher under random masks, the control, and
students that are shown a tenth of the image, with targets from the teacher's sensitivity and from training outlines.

Numbers are of the test images: means over the seeds, with 95 % bootstrap intervals over images (or patients).

- pointing: whether the place with the largest log-odds lies on the evidence; beside it, that of the image's middle.
- kept: whether the teacher decides on the masked image as on the whole one; beside it, for a random mask of that area.
- cut mask − control: accuracy of the student under its mask, which hides entirely, minus the control's on the whole
  image.
- fill only: the student's accuracy with everything hidden; where it is far above the most frequent class's share, the
  fill tells the class.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import kd
from benchmarks.maps_runs import chosen_runs, opened_store, short, spelt, table
from kd.datasets.base import Dataset
from kd.errors import UsageError
from kd.evaluation import predict
from kd.explainers import EXPLAINERS
from kd.explanation_metrics import localisation, posthoc
from kd.explanation_metrics.sanity_checks import explain_batchwise
from kd.metrics.bootstrap import GAP_SPAN, SHARE_SPAN, bootstrap_ci
from kd.models.masked_student import MaskedStudent
from kd.spec import RunSpec
from kd.store.groups import Distillation, distillation_of
from kd.store.runs import Run, Store

HEADS = ("data", "student", "target of the mask", "seeds", "area", "pointing", "middle", "kept", "random mask",
         "cut mask − control", "fill only", "most frequent class")
TARGETS = ("sensitivity", "outlines")
RECIPE: dict[str, Any] = {
    "teacher": "mobilenetv2_100", "teacher_epochs": 5, "teacher_random_masks": 0.5, "frozen_stages": 3,
    "image_size": 224, "student": "plain", "depth": 5, "width": 16, "student_size": 96, "epochs": 30, "batch_size": 32,
    "learning_rate": 4e-3, "views": 4, "method": "medtex", "threads": 1}


class Scores(NamedTuple):
    """Scores of one student, by test image [N]; pointing and middle by image with evidence [M]."""

    area: NDArray[np.float64]
    pointing: NDArray[np.float64]
    middle: NDArray[np.float64]
    kept: NDArray[np.float64]
    random: NDArray[np.float64]
    gap: NDArray[np.float64]
    fill: NDArray[np.float64]


def add_arguments(parser: ArgumentParser) -> None:
    """The flags of this table."""
    parser.add_argument("--weights", metavar="FILE", help="Train what is missing, the teacher from these weights.")
    parser.add_argument("--seeds", type=int, default=1, help="Students and controls to train (default: 1).")
    parser.add_argument("--targets", default=",".join(TARGETS), help="Targets to train (default: both).")


def lines(chosen: Namespace) -> Iterator[str]:
    """The table as Markdown."""
    if chosen.weights:
        for data in chosen.data:
            for target in chosen.targets.split(","):
                kd.distill(data, root=chosen.root, seeds=chosen.seeds, teacher_weights=chosen.weights,
                           mask_target=target, **RECIPE)
    store = opened_store(chosen)
    by_settings: dict[RunSpec, list[Run]] = {}
    for run in chosen_runs(store, chosen, lambda run: run.spec.mask_area > 0):
        by_settings.setdefault(replace(run.spec, seed=0), []).append(run)
    yield from table(HEADS, (_row(store, runs) for runs in by_settings.values()))


def _row(store: Store, runs: Sequence[Run]) -> list[str]:
    data, spec = predict.data_of(runs[0], store), runs[0].spec
    found = [scores(_trio(store, run), data) for run in runs]
    mean = {name: np.mean([getattr(one, name) for one in found], axis=0) for name in Scores._fields}
    outlined = localisation.masked(data.test, np.arange(len(data.test)))

    def told(name: str, span: float = SHARE_SPAN) -> str:
        index = outlined if name == "pointing" else np.arange(len(data.test))
        groups = None if data.test.groups is None else [data.test.groups[number] for number in index]
        return spelt(bootstrap_ci(mean[name], groups, span=span), signed=span == GAP_SPAN)

    majority = np.bincount(data.test.labels).max() / len(data.test)
    return [data.name, spec.model_label, spec.mask_target, str(len(runs)), short(float(mean["area"].mean())),
            told("pointing"), short(float(mean["middle"].mean())), told("kept"), told("random"), told("gap", GAP_SPAN),
            told("fill"), short(float(majority))]


def _trio(store: Store, run: Run) -> Distillation:
    trio = distillation_of(store, run)
    if trio is None:
        raise UsageError(f"The teacher or the control of {run.id} was deleted, so its mask cannot be measured.")
    return trio


def scores(trio: Distillation, data: Dataset) -> Scores:
    """Scores of one seed's student on the test images, of which some have evidence."""
    teacher, control, student = (predict.load(run, len(data.classes)).requires_grad_(False)
                                 for run in (trio.teacher, trio.control, trio.student))
    assert isinstance(student, MaskedStudent), "its mask has an area"
    test = data.test
    images, outlined = np.asarray(test.images), localisation.masked(test, np.arange(len(test)))
    if test.evidence is None or not len(outlined):
        raise UsageError(f"No test image of {data.name} has a mask of its evidence.")
    maps, blank = explain_batchwise(EXPLAINERS["mask"], student, images[outlined], test.labels[outlined])
    placed = localisation.localisation(maps, blank, np.asarray(test.evidence)[outlined])
    agreed = posthoc.posthoc(teacher, student, images, {})
    right = posthoc.student_correct(student, images, test.labels)
    alone = predict.predict(control, test).argmax(axis=1) == test.labels
    return Scores(agreed.area, placed.scores["pointing"], placed.centre["pointing"],
                  agreed.same_on_mask[posthoc.MASK].astype(float), agreed.same_on_mask[posthoc.RANDOM].astype(float),
                  right[posthoc.MASK].astype(float) - alone, right[posthoc.FILL].astype(float))
