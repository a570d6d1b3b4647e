"""Evaluation of explanations on a run's test split: agreement, localisation, need of the evidence, post-hoc agreement,
faithfulness, cost.

A student is evaluated with its teacher and control. Stored results for the same weights, data and choice are used
again; each section is stored when it is complete, so a stopped computation can be continued.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.errors import UsageError
from kd.evaluation import explanation_store, predict
from kd.evaluation.context import EvalContext
from kd.evaluation.explanation_store import (
    AGREEMENT,
    ANY,
    COST,
    EVIDENCE,
    FAITHFULNESS,
    LOCALISATION,
    MODEL,
    POSTHOC,
    EvalKey,
)
from kd.explainers import DEFAULT_STAGE, EXPLAINERS, StageChoice, require_offered, stage_key
from kd.explanation_metrics import faithfulness, localisation, posthoc
from kd.explanation_metrics.evidence_need import evidence_need
from kd.explanation_metrics.runtime import IMAGES, execution
from kd.explanation_metrics.sanity_checks import randomisation_test
from kd.metrics import agreement as agreeing
from kd.metrics.bootstrap import GAP_SPAN, SHARE_SPAN, bootstrap_ci, random_maps, scatter_back, stratified_sample
from kd.models.masked_student import MaskedStudent
from kd.placement import Placement
from kd.progress import PhaseProgress, ProgressCallback, no_progress
from kd.roles import CONTROL, STUDENT, TEACHER
from kd.store.runs import FINISHED, Run, Store

SANITY_IMAGES = 32
# Approximate relative times.
WEIGHTS = {COST: 1.0, LOCALISATION: 2.0, EVIDENCE: 2.0, AGREEMENT: 3.0, POSTHOC: 15.0, FAITHFULNESS: 20.0}
CAM, EARLIER, SHAP = "grad-cam", "layer-cam", "gradient-shap"  # of the teacher, compared with the student's mask
PLACED = ("pointing", "energy")  # the scores by which the mask is compared with the teacher's maps

NO_EVIDENCE = {"images": 0, "reason": "No test image comes with a mask of its evidence."}

Found = tuple[dict[str, Any], dict[str, NDArray[Any]]]
Part = tuple[EvalKey, str, str]  # choice, section, role


def evaluate_explanations(
        store: Store, run: Run, explainers: Sequence[str] = ("grad-cam",), *, agreement: bool = True,
        faithfulness: bool = False, localisation: bool = True, evidence: bool = False, cost: bool = True,
        posthoc: bool = False, stage: StageChoice = DEFAULT_STAGE, limit: int = 0, seed: int = 0,
        progress: ProgressCallback = no_progress,
        should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Compute the chosen sections for each explainer, store them with the runs, and return all stored results.

    stage: of every model, from 0 or from the end where negative; by default the explainer's own. evidence: always with
    localisation, because a map of a model that does not need the evidence need not point at it. limit: at most so many
    test images, drawn per class with `seed`; 0: all. progress: called with the phase and the share of the whole. For
    the explainer mask, models without one are explained by Grad-CAM; posthoc needs that explainer. Raises Stopped when
    `should_stop`, called between batches, returns True, and UsageError when a run is not finished, its data set is gone
    or has changed, an explainer or stage is unknown or not possible with an 8-bit student, or no run has a mask for the
    explainer mask.
    """
    wanted = {AGREEMENT: agreement, LOCALISATION: localisation, EVIDENCE: evidence or localisation, POSTHOC: posthoc,
              FAITHFULNESS: faithfulness, COST: cost}
    asked = [section for section, on in wanted.items() if on]
    runs = explanation_store.compared_runs(store, run)
    require_offered(explainers, runs.values())
    explanation_store.require_mask(runs, explainers, posthoc)
    for one in runs.values():
        _require_finished(one)
    keys = {name: EvalKey(name, stage_key(name, stage), limit, seed) for name in explainers}
    todo = _missing(run, runs, [key.of(run) for key in keys.values()], asked)
    if todo:
        _work(store, run, runs, todo, progress, should_stop)
    found = {name: explanation_store.load_all(store, run, key) for name, key in keys.items()}
    notes = list(dict.fromkeys(note for one in found.values() if one for note in one["notes"]))
    if agreement and MODEL in runs:
        notes.append(f"{run.id} learnt without a teacher, so there are no maps to agree with.")
    if STUDENT in runs and CONTROL not in runs:
        notes.append("There is no finished control (the same student without a teacher) to compare with.")
    return {"run": run.id, "explainers": found, "notes": notes}


def _missing(run: Run, runs: dict[str, Run], choices: Sequence[EvalKey], asked: Sequence[str]) -> list[Part]:
    """Requested parts that are not stored; the role is empty for shared sections."""
    found: dict[tuple[EvalKey, str, str], Part] = {}
    for choice in choices:
        for section in asked:
            if section in explanation_store.PER_MODEL:
                for role, one in runs.items():
                    key = choice.stored(section, one)
                    if explanation_store.load(one, key, section, {role: one}) is None:
                        found.setdefault((key, section, role), (choice, section, role))
            elif (whose := explanation_store.depends_on(choice, section, runs)) and (
                    explanation_store.load(run, choice, section, whose) is None):
                found[choice, section, ""] = choice, section, ""
    return list(found.values())


def _work(store: Store, run: Run, runs: dict[str, Run], todo: list[Part], progress: ProgressCallback,
          should_stop: Callable[[], bool]) -> None:
    progress("opening the data", 0.0)
    pulse = PhaseProgress(progress, should_stop, sum(WEIGHTS[section] for _, section, _ in todo))
    data = predict.data_of(run, store, lambda phase, share: progress(phase, 0.02 * share))
    context: EvalContext | None = None
    for choice, section, role in todo:
        if context is None or context.choice != choice:
            kinds = {section for one, section, _ in todo if one == choice}
            context = EvalContext(runs, data, choice, pulse, kinds, context, store.paths)
        owner = runs[role] if role else run
        used = choice.stored(section, owner) if role else choice
        with pulse.phase(_phrase(used, section, role), WEIGHTS[section]):
            result, arrays = _COMPUTE[section](context, role)
        whose = {role: owner} if role else explanation_store.depends_on(choice, section, runs)
        shared = {"index": context.index, "names": np.array([data.test.names[number] for number in context.index])}
        explanation_store.save(owner, used, section, whose, result, {**shared, **arrays})


def _phrase(choice: EvalKey, section: str, role: str) -> str:
    of = f" of the {role}" if role else ""
    if choice.explainer == ANY:
        return f"Need of the {section}{of}"
    return f"{EXPLAINERS[choice.explainer].info.title}: {section}{of}"


def _agreement(context: EvalContext, _: str) -> Found:
    teacher, others = context.heatmaps(TEACHER, AGREEMENT), [role for role in context.runs if role != TEACHER]
    found = {role: agreeing.map_agreement(teacher.maps, own.maps, teacher.blank, own.blank, context.choice.seed,
                                          (teacher.placement, own.placement))
             for role in others for own in [context.heatmaps(role, AGREEMENT)]}
    logits = context.logits(TEACHER)
    same = {role: logits.argmax(axis=1) == context.logits(role).argmax(axis=1) for role in others}
    result: dict[str, Any] = {
        "images": len(context.index), "rounds": agreeing.ROUNDS,
        "classes": {role: agreeing.class_agreement(logits, context.logits(role), context.labels, context.groups)
                    for role in others},
        "maps": {role: found[role].to_json(same[role], context.groups) for role in others}}
    if CONTROL in found and context.explainer_name(CONTROL) == context.explainer_name(STUDENT):
        result["gain"] = agreeing.gain_vs_control(found[STUDENT], found[CONTROL], context.groups)
    arrays = {f"{role}_{name}": values for role, one in found.items() for name, values in one.arrays().items()}
    return result, {**arrays, **{f"{role}_kl": agreeing.divergence(logits, context.logits(role)) for role in others}}


def _localisation(context: EvalContext, role: str) -> Found:
    with_evidence = context.evidence
    if not len(with_evidence):
        return NO_EVIDENCE, {}
    maps, blank, laid = context.heatmaps(role, LOCALISATION)
    found = localisation.localisation(maps[with_evidence], blank[with_evidence], context.evidence_masks,
                                      context.choice.seed, context.image_only, laid)
    result = {"grid": list(maps.shape[1:]),
              **found.to_json(context.labels[with_evidence], context.data.classes, context.groups_of(with_evidence))}
    arrays = {score: scatter_back(values, with_evidence, len(context.index)) for score, values in found.scores.items()}
    return result, {**arrays, "area": scatter_back(found.area, with_evidence, len(context.index))}


def _evidence(context: EvalContext, role: str) -> Found:
    with_evidence = context.evidence
    if not len(with_evidence):
        return NO_EVIDENCE, {}
    found = evidence_need(context.answering(role), context.images[with_evidence], context.evidence_masks, context.pulse)
    arrays = {name: scatter_back(values.astype(float), with_evidence, len(context.index))
              for name, values in found.arrays().items()}
    return found.to_json(context.groups_of(with_evidence)), arrays


def _posthoc(context: EvalContext, _: str) -> Found:
    teacher, student = context.model(TEACHER), context.model(STUDENT)
    assert isinstance(student, MaskedStudent), "there is no post-hoc agreement without a mask"
    stage = context.stage
    before = EXPLAINERS[CAM].stage_of(teacher, stage) - 1
    asked: dict[str, StageChoice] = {CAM: stage, **({EARLIER: before} if before >= 0 else {}), SHAP: stage}
    context.heatmaps(TEACHER, AGREEMENT, SHAP, stage)  # first, because it takes most of the time
    heat = {name: context.heatmaps(TEACHER, AGREEMENT, name, at) for name, at in asked.items()}
    found = posthoc.posthoc(context.answering(TEACHER), student, context.images,
                            {name: one.maps for name, one in heat.items()},
                            context.choice.seed, lambda share: context.pulse(0.5 + 0.5 * share),
                            {name: one.placement for name, one in heat.items()})
    result = {**found.to_json(context.groups), "blank": {name: int(one.blank.sum()) for name, one in heat.items()},
              "stage": {name: teacher.stages[EXPLAINERS[name].stage_of(teacher, at)].name
                        for name, at in asked.items() if name != SHAP},
              "student": _student_scores(context, student),
              "evidence": _beside(context, {name: at for name, at in asked.items() if name != SHAP})}
    return result, found.arrays()


def _student_scores(context: EvalContext, student: MaskedStudent) -> dict[str, Any]:
    """Accuracy of the student under its mask and by the fill alone, and its difference from the control's."""
    correct = posthoc.student_correct(student, context.images, context.labels, context.choice.seed)
    scores = {name: bootstrap_ci(own.astype(float), context.groups, span=SHARE_SPAN).to_json()
              for name, own in correct.items()}
    over = {}
    if CONTROL in context.runs:
        control = (context.logits(CONTROL).argmax(axis=1) == context.labels).astype(float)
        over = {name: bootstrap_ci(own - control, context.groups, span=GAP_SPAN).to_json()
                for name, own in correct.items()}
    return {"scores": scores, "over_control": over,
            "majority": float(np.bincount(context.labels).max() / len(context.labels)),
            "target": context.runs[STUDENT].spec.mask_target}


def _beside(context: EvalContext, theirs: dict[str, StageChoice]) -> dict[str, Any] | None:
    """Localisation of the student's mask and of the teacher's maps of the true class, where evidence is annotated:
    scores, and the mask's gain on the same images."""
    with_evidence = context.evidence
    if not len(with_evidence):
        return None
    heat = {posthoc.MASK: context.heatmaps(STUDENT, LOCALISATION, posthoc.MASK),
            **{name: context.heatmaps(TEACHER, LOCALISATION, name, at) for name, at in theirs.items()}}
    scores = {name: localisation.nan_where_blank(one.maps[with_evidence], one.blank[with_evidence],
                                                 context.evidence_masks, one.placement)
              for name, one in heat.items()}
    groups, mask = context.groups_of(with_evidence), scores[posthoc.MASK]
    return {"images": len(with_evidence),
            "scores": {name: {score: bootstrap_ci(one[score], groups, span=SHARE_SPAN).to_json() for score in PLACED}
                       for name, one in scores.items()},
            "over": {name: {score: bootstrap_ci(mask[score] - scores[name][score], groups, span=GAP_SPAN).to_json()
                            for score in PLACED}
                     for name in theirs}}


def _faithfulness(context: EvalContext, role: str) -> Found:
    model, targets, pulse = context.answering(role), context.targets(role, FAITHFULNESS), context.pulse
    maps, blank, laid = context.heatmaps(role, FAITHFULNESS)
    explainer, choice = EXPLAINERS[context.explainer_name(role)], context.choice

    def judge(heat: NDArray[np.float32], empty: NDArray[np.bool_] | None, start: float,
              placement: Placement | None = None) -> faithfulness.Faithfulness:
        return faithfulness.faithfulness(model, context.images, targets, heat, empty, choice.seed,
                                         lambda share: pulse(start + 0.25 * share), placement)

    found = judge(maps, blank, 0.1, laid)
    if role not in context.chance:
        count = len(context.index)
        context.chance[role] = {"random": judge(random_maps(count, choice.seed), None, 0.35),
                              "centre": judge(faithfulness.centred_maps(count, 32), None, 0.6)}
    few = stratified_sample(context.labels, SANITY_IMAGES, choice.seed)
    result = {"grid": list(maps.shape[1:]), **faithfulness.summary(found, context.chance[role], context.groups)}
    bare = context.model(role)
    if bare.differentiable:  # an 8-bit student has no layers that could be randomised
        result["sanity"] = randomisation_test(explainer, bare, context.images[few], targets[few], context.stage,
                                              choice.seed, lambda share: pulse(0.85 + 0.15 * share))
    return result, {score: getattr(found, score) for score in faithfulness.SCORES}


def _cost(context: EvalContext, _: str) -> Found:
    most = max(IMAGES.values())
    few = stratified_sample(context.labels, most, context.choice.seed)[:most]
    models = {role: context.model(role) for role in context.runs}
    targets = {role: context.targets(role, FAITHFULNESS)[few] for role in models}
    explainers = {role: EXPLAINERS[context.explainer_name(role)] for role in models}
    return execution(models, explainers, context.images[few], targets, context.stage, progress=context.pulse), {}


_COMPUTE: dict[str, Callable[[EvalContext, str], Found]] = {
    AGREEMENT: _agreement, LOCALISATION: _localisation, EVIDENCE: _evidence, POSTHOC: _posthoc,
    FAITHFULNESS: _faithfulness, COST: _cost}


def _require_finished(run: Run) -> None:
    if run.status != FINISHED:
        raise UsageError(f"{run.id} is {run.status}, not finished, so its explanations cannot be evaluated yet. "
                         "Wait for its end, or resume it.")
