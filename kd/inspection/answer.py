"""Answer of a comparison: the models' maps against the teacher's, their baseline, and the outlined evidence.

The agreement is the one that `kd.metrics.agreement` measures over a test set. Its baseline of one image compares the
teacher's map of it with the other model's maps of other test images, for the classes that the teacher predicts there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.datasets.base import Dataset
from kd.errors import UsageError
from kd.evaluation import explanation_store, predict
from kd.explainers import DEFAULT_STAGE, EXPLAINERS, StageChoice, stage_key
from kd.explanation_metrics import localisation
from kd.explanation_metrics.sanity_checks import explain_batchwise
from kd.inspection.agreement_sentence import FEWEST, Answer, RoleAnswer
from kd.inspection.compare import MASK, Comparison, ModelPanel
from kd.inspection.heat_map import HeatMap
from kd.inspection.model_pool import ModelPool, load_model
from kd.metrics.agreement import nanmean, shared_grid
from kd.metrics.bootstrap import stratified_sample
from kd.metrics.grids import is_coarse
from kd.metrics.map_similarity import spearman, to_grid
from kd.roles import TEACHER
from kd.store.predictions import load
from kd.store.runs import Run, Store

OTHERS = 24  # test images of the baseline


@dataclass(frozen=True, eq=False)
class OtherMaps:
    """One model's maps of other test images: maps [n, h, w] in 0..1, which are blank [n], and the images
    [n, S, S, 3]."""

    maps: NDArray[np.float32]
    blank: NDArray[np.bool_]
    images: NDArray[np.uint8]


def other_maps(run: Run, teacher: Run, data: Dataset, explainer: str, stage: int,
               pool: ModelPool | None = None) -> OtherMaps | None:
    """A model's maps of OTHERS test images, drawn per class, for the classes that the teacher predicts there, or the
    true ones before it was tested. None for an explainer that takes longer than a few forward passes, and for a data
    set with classes that the model does not know."""
    if EXPLAINERS[explainer].info.cost != "instant":
        return None
    subject, known, test = load_model(run, pool), load(teacher), data.test
    index = stratified_sample(test.labels, OTHERS)
    labels, classes = test.labels, data.classes
    if known is not None and len(known.labels) == len(test):
        labels, classes = known.predicted, tuple((teacher.summary or {})["classes"])
    if not set(classes) <= set(subject.classes):
        return None
    targets = np.array([subject.class_number(classes[labels[number]]) for number in index], np.int64)
    images = np.asarray(test.images[index])
    return OtherMaps(*explain_batchwise(EXPLAINERS[explainer], subject.model, images, targets, stage), images)


def answer(comparison: Comparison, others: Mapping[str, OtherMaps], evidence: NDArray[np.uint8] | None = None,
           tested: Mapping[str, Any] | None = None) -> Answer:
    """Answer of a comparison. others: by role; without those of a role it has no baseline. evidence: mask [S, S] of the
    image, where it is known. tested: from `stored_agreement`."""
    teacher = comparison.teacher
    pupils = (comparison.student, *(part for part in comparison.panels
                                    if part is not teacher and part is not comparison.student))
    first = RoleAnswer(TEACHER, _map(teacher).shape, hit=_hit(_map(teacher), evidence))
    return Answer((first, *(_of_role(_map(teacher), part, others.get(part.role), evidence) for part in pupils)), tested)


def answered(store: Store, comparison: Comparison, stage: StageChoice = DEFAULT_STAGE,
             pool: ModelPool | None = None) -> Comparison:
    """The comparison with its answer, for an image without outlined evidence. stage: as of `compare`. Without a
    baseline where the data set is gone."""
    teacher = comparison.teacher.explanation.run
    try:
        data = predict.data_of(teacher, store)
    except UsageError:
        data = None
    found = {} if data is None else {part.role: other_maps(part.explanation.run, teacher, data, *asked(part), pool)
                                     for part in comparison.panels if part is not comparison.teacher}
    others = {role: maps for role, maps in found.items() if maps is not None}
    return replace(comparison, answer=answer(comparison, others, None, stored_agreement(store, comparison, stage)))


def asked(part: ModelPanel) -> tuple[str, int]:
    """Explainer and stage, from 0, of a panel's map."""
    return part.explanation.explainer, _map(part).stage


def stored_agreement(store: Store, comparison: Comparison, stage: StageChoice = DEFAULT_STAGE) -> dict[str, Any] | None:
    """Stored agreement over the test images by the comparison's explainer and stage, of most images; None where it has
    not been evaluated."""
    run, name = comparison.student.explanation.run, MASK if MASK in comparison.explainers else comparison.explainer
    asked_for = (name, stage_key(name, stage))
    found = [key for key in explanation_store.choices(run) if (key.explainer, key.stage) == asked_for]
    for key in sorted(found, key=lambda one: (one.limit != 0, -one.limit)):
        stored = explanation_store.load_all(store, run, key)
        if stored is not None and stored[explanation_store.AGREEMENT]:
            return dict(stored[explanation_store.AGREEMENT])
    return None


def _map(part: ModelPanel) -> HeatMap:
    return part.explanation.maps[0]


def _positive(heat: HeatMap) -> NDArray[np.float32]:
    """Evidence for the class [1, h, w], as evaluations have it: without the negative part of a signed map."""
    values = np.clip(heat.scaled - 0.5, 0, None) if heat.signed else heat.scaled
    return np.asarray(values, np.float32)[None]


def _of_role(teacher: HeatMap, part: ModelPanel, others: OtherMaps | None,
             evidence: NDArray[np.uint8] | None) -> RoleAnswer:
    own = _map(part)
    grid, hit = shared_grid(teacher.shape, own.shape), _hit(own, evidence)
    left, right = to_grid(_positive(teacher), *grid, teacher.placement), to_grid(_positive(own), *grid, own.placement)
    value = float(spearman(left, right)[0])
    if teacher.blank or own.blank or not np.isfinite(value):
        return RoleAnswer(part.role, grid, hit=hit)
    chance = _chance(left, own, others, grid, part.explanation.image)
    if len(chance) < FEWEST:
        return RoleAnswer(part.role, grid, value, hit=hit)
    return RoleAnswer(part.role, grid, value, nanmean(chance), float((chance < value).mean()), hit)


def _chance(left: NDArray[np.float64], own: HeatMap, others: OtherMaps | None, grid: tuple[int, int],
            image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Agreement of the teacher's map [1, *grid] with the maps of every other image that has one."""
    if others is None:
        return np.empty(0)
    usable = ~others.blank & np.array([not np.array_equal(one, image) for one in others.images])
    right = to_grid(others.maps[usable], *grid, own.placement)
    values = spearman(np.broadcast_to(left, right.shape), right)
    return np.asarray(values[np.isfinite(values)])


def _hit(heat: HeatMap, evidence: NDArray[np.uint8] | None) -> bool | None:
    """Whether the map's peak, the centre of its brightest cell, is in the evidence."""
    if evidence is None or not evidence.any() or heat.blank or is_coarse(heat.shape):
        return None
    scores, _ = localisation.measure(_positive(heat), evidence[None], heat.placement)
    return bool(scores["pointing"][0] >= 0.5)  # ties share it
