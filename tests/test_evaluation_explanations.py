import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_runs import CONTROL, made, student_spec
from small import DATA, distilled, request

from kd.datasets import open_dataset
from kd.datasets.tensors import to_tensor
from kd.errors import Stopped, UsageError
from kd.evaluation import explanation_store, predict
from kd.evaluation.explanation_store import AGREEMENT, EVIDENCE, FAITHFULNESS, LOCALISATION, POSTHOC, EvalKey
from kd.evaluation.explanations import evaluate_explanations
from kd.experiments.plan import plan_first_seed
from kd.explainers import EXPLAINERS
from kd.explanation_metrics.image_only import IMAGE_ONLY
from kd.explanation_metrics.sanity_checks import explain_batchwise
from kd.jobs.queue import execute
from kd.jobs.tasks import TASKS
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.files import write_json
from kd.store.groups import Distillation
from kd.store.runs import Run, Store


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> tuple[Store, Distillation]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("trio")
    store = Store(Paths(root))
    return store, distilled(store)


@pytest.fixture(scope="module")
def explained_once(made_once) -> Distillation:
    """A student behind a mask, beside the same teacher and control."""
    store = made_once[0]
    trio = plan_first_seed(request(method="medtex"), store)
    assert trio.runs[:2] == made_once[1].runs[:2]
    assert execute(trio.student, store) == "finished", trio.student.failure_reason
    return trio


@pytest.fixture
def store(made_once) -> Store:
    return made_once[0]


@pytest.fixture
def student(made_once) -> Run:
    return forgotten(made_once[1])


@pytest.fixture
def explained(explained_once) -> Run:
    return forgotten(explained_once)


def forgotten(trio: Distillation) -> Run:
    """The student, with nothing appraised yet."""
    for run in trio.runs:
        for path in sorted(run.path.glob("appraisals/*/*")):
            path.unlink()
    return trio.student


def test_a_student_is_judged_with_teacher_and_control(store, student):
    told = []
    found = evaluate_explanations(store, student, faithfulness=True, limit=8,
                     progress=lambda phase, share: told.append((phase, share)))
    json.dumps(found, allow_nan=False)
    one = found["explainers"]["grad-cam"]
    roles = ["teacher", "control", "student"]
    assert list(one["models"]) == list(one["localisation"]) == list(one["faithfulness"]) == roles
    assert list(one["cost"]["models"]) == roles
    assert list(one["agreement"]["maps"]) == list(one["agreement"]["classes"]) == roles[1:]
    assert set(one["agreement"]["gain"]) >= {"spearman", "iou_5"}
    assert one["agreement"]["images"] == 8
    assert len(one["faithfulness"]["student"]["sanity"]["rows"]) == 3  # the head and two stages
    assert found["notes"] == []
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1
    assert any("faithfulness of the teacher" in phase for phase, _ in told)


def test_what_is_stored_is_not_computed_again_and_stays_with_its_run(store, student, monkeypatch):
    first = evaluate_explanations(store, student, limit=8)
    teacher = store[student.spec.teacher]
    assert explanation_store.load_all(store, teacher, EvalKey(limit=8))["localisation"]["model"] == (
        first["explainers"]["grad-cam"]["localisation"]["teacher"])
    monkeypatch.setattr(predict, "load", lambda *_: pytest.fail("a model was loaded"))
    assert evaluate_explanations(store, student, limit=8) == first
    with pytest.raises(pytest.fail.Exception):
        evaluate_explanations(store, student, limit=9)


def test_changed_weights_are_judged_anew(store, student):
    before = evaluate_explanations(store, student, localisation=False, limit=8)
    content = student.weights.read_bytes()
    try:
        model = predict.load(student, 4)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.neg_()
        from kd.models import weights

        weights.save(model, student.weights)
        assert explanation_store.load_all(store, student, EvalKey(limit=8)) is None
        after = evaluate_explanations(store, student, localisation=False, limit=8)
    finally:
        student.weights.write_bytes(content)
    assert after["explainers"]["grad-cam"]["agreement"] != before["explainers"]["grad-cam"]["agreement"]


def test_values_per_image_are_those_of_the_maps(store, student):
    evaluate_explanations(store, student, limit=8, cost=False)
    found = explanation_store.load_arrays(
        student, EvalKey(limit=8), AGREEMENT, explanation_store.compared_runs(store, student)
    )
    data = open_dataset(DATA, 32, store.paths)
    images = np.asarray(data.test.images[found["index"]])
    assert [data.test.names[number] for number in found["index"]] == found["names"].tolist()
    teacher, mine = (predict.load(run, 4) for run in (store[student.spec.teacher], student))
    asked = predict.predict(teacher, data.test)[found["index"]].argmax(axis=1)
    from kd.metrics.agreement import map_agreement

    (left, no_left), (right, no_right) = (explain_batchwise(EXPLAINERS["grad-cam"], model, images, asked)
                                          for model in (teacher, mine))
    laid = tuple(EXPLAINERS["grad-cam"].placement(model, -1, 32) for model in (teacher, mine))
    expected = map_agreement(left, right, no_left, no_right, placements=laid).values
    for name, values in expected.items():
        assert found[f"student_{name}"] == pytest.approx(values, nan_ok=True, abs=1e-5)


def test_localisation_asks_about_the_true_class_of_images_with_evidence(store, student):
    evaluate_explanations(store, student, agreement=False, cost=False)
    found = explanation_store.load_arrays(student, EvalKey().of(student), LOCALISATION, {"student": student})
    data = open_dataset(DATA, 32, store.paths)
    told = np.flatnonzero([mask.any() for mask in data.test.evidence])
    assert np.array_equal(np.flatnonzero(np.isfinite(found["area"])), told)
    said = explanation_store.load_all(store, student, EvalKey())["localisation"]["student"]
    assert said["images"] == len(told)
    assert set(said["per_class"]) == {data.classes[label] for label in data.test.labels[told]}


def test_the_evidence_is_blurred_away_with_every_localisation_and_on_request(store, student):
    with_scores = evaluate_explanations(store, student, agreement=False, cost=False)["explainers"]["grad-cam"]
    said = with_scores["evidence"]
    assert list(said) == ["teacher", "control", "student"]
    assert said["student"]["images"] == with_scores["localisation"]["student"]["images"]
    found = explanation_store.load_arrays(student, EvalKey().of(student).stored(EVIDENCE, student), EVIDENCE,
                                          {"student": student})
    assert np.nanmean(found["without"]) == pytest.approx(said["student"]["kept"]["without"]["mean"])
    energy = with_scores["localisation"]["student"]["scores"]["energy"]
    assert set(energy["image_only"]) == set(energy["over_image_only"]) == set(IMAGE_ONLY)
    forgotten(Distillation(*(explanation_store.compared_runs(store, student)[role] for role in (
        "teacher", "control", "student"))))
    alone = evaluate_explanations(store, student, agreement=False, localisation=False, evidence=True, cost=False)
    one = alone["explainers"]["grad-cam"]
    assert one["evidence"] == said
    assert one["localisation"] is None


def test_sensitivity_is_evaluated_at_each_models_own_fine_stage(store, student):
    found = evaluate_explanations(store, student, ("sensitivity",), agreement=False, cost=False, limit=20)
    one = found["explainers"]["sensitivity"]
    assert one["choice"]["stage"] == "default"
    assert {tuple(own["grid"]) for own in one["localisation"].values()} == {(8, 8)}  # a quarter of 32 px
    last = evaluate_explanations(store, student, ("sensitivity",), agreement=False, cost=False, limit=20, stage=-1)
    assert last["explainers"]["sensitivity"]["localisation"]["teacher"]["grid"] != [8, 8]


def test_a_run_without_teacher_is_judged_alone_and_says_so(store, student):
    teacher = store[student.spec.teacher]
    found = evaluate_explanations(store, teacher, ("grad-cam", "stage-maps"), limit=8)
    for one in found["explainers"].values():
        assert one["agreement"] is None
        assert list(one["localisation"]) == list(one["cost"]["models"]) == ["model"]
    assert "learnt without a teacher" in found["notes"][0]


def test_a_run_agrees_with_its_twin_perfectly(own_root):
    store = Store(Paths(own_root))
    spec = replace(CONTROL, data=DATA, image_size=32)
    classes = open_dataset(DATA, 32, store.paths).classes
    teacher = made(store, spec, classes)
    twin = made(store, student_spec_of(teacher), classes)
    for run in (teacher, twin):
        write_json(run.path / "evaluation.json", {"images": 12})
    maps = evaluate_explanations(store, twin, localisation=False, cost=False)["explainers"]["grad-cam"]["agreement"]
    student = maps["maps"]["student"]
    assert student["all"]["spearman"]["value"]["mean"] == pytest.approx(1)
    assert student["all"]["distance"]["value"]["mean"] == pytest.approx(0, abs=1e-9)
    assert student["other class"]["spearman"]["value"]["n"] == 0
    assert maps["classes"]["student"]["agreement"]["mean"] == 1
    assert maps["classes"]["student"]["kl"]["mean"] == pytest.approx(0, abs=1e-9)


def student_spec_of(teacher: Run) -> RunSpec:
    """The same network with the same seed, so the same weights, but a student of it."""
    return replace(teacher.spec, method="kd", method_args=student_spec(teacher).method_args, teacher=teacher.id)


def test_a_stopped_computation_keeps_what_it_had_and_goes_on(store, student):
    seen = []

    def progress(phase, share):
        seen.append(phase)

    with pytest.raises(Stopped):
        evaluate_explanations(store, student, faithfulness=True, limit=8, progress=progress,
                 should_stop=lambda: any("faithfulness" in phase for phase in seen))
    found = explanation_store.load_all(store, student, EvalKey(limit=8))
    assert found["agreement"] and found["localisation"] and found["faithfulness"] is None
    assert evaluate_explanations(store, student, faithfulness=True, limit=8)["explainers"]["grad-cam"][FAITHFULNESS]


def test_models_are_left_as_they_were_on_disk_and_no_part_files_remain(store, student):
    before = student.weights.read_bytes()
    evaluate_explanations(store, student, faithfulness=True, limit=8)
    assert student.weights.read_bytes() == before
    assert not list(student.path.rglob("*.part"))


def test_bad_wishes_are_named(store, student):
    with pytest.raises(UsageError, match="Did you mean 'grad-cam'"):
        evaluate_explanations(store, student, ("gradcam",))
    with pytest.raises(UsageError, match="no stage 9"):
        evaluate_explanations(store, student, stage=9)
    unfinished = store.create(RunSpec(data=DATA, image_size=32, seed=77))
    with pytest.raises(UsageError, match="not finished"):
        evaluate_explanations(store, unfinished)


def test_the_queue_knows_it(store, student):
    TASKS["appraisal"](store, student, {"limit": 8, "explainers": ["stage-maps"], "cost": False},
                       lambda phase, share: None, lambda: False)
    assert explanation_store.load_all(store, student, EvalKey("stage-maps", limit=8))["agreement"]


def test_an_explained_student_is_judged_by_its_mask_and_the_others_by_grad_cam(store, explained):
    told = []
    found = evaluate_explanations(store, explained, ("mask",), faithfulness=True, posthoc=True, limit=8,
                     progress=lambda phase, share: told.append((phase, share)))
    json.dumps(found, allow_nan=False)
    one = found["explainers"]["mask"]
    roles = ["teacher", "control", "student"]
    assert [one["models"][role]["explainer"] for role in roles] == ["grad-cam", "grad-cam", "mask"]
    assert list(one["localisation"]) == list(one["faithfulness"]) == list(one["cost"]["models"]) == roles
    assert one["localisation"]["student"]["grid"] == [32, 32]
    assert one["localisation"]["teacher"]["grid"] != [32, 32]
    assert list(one["agreement"]["maps"]) == ["control", "student"]
    assert "gain" not in one["agreement"]
    assert found["notes"] == one["notes"] and len(found["notes"]) == 2
    assert one["faithfulness"]["student"]["sanity"]["rows"][-1]["down_to"] == "explainer"
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[-1] <= 1
    phases = {phase for phase, _ in told}
    assert {"Grad-CAM: localisation of the teacher", "Mask: localisation of the student", "Mask: post-hoc"} <= phases


def test_posthoc_agreement_is_that_of_every_map_at_the_masks_area(store, explained):
    said = evaluate_explanations(
        store, explained, ("mask",), agreement=False, localisation=False, cost=False, posthoc=True, limit=8
    )["explainers"]["mask"][POSTHOC]
    assert list(said["maps"]) == ["mask", "grad-cam", "layer-cam", "gradient-shap", "centre", "random"]
    assert set(said["maps"]["mask"]["over"]) == {"grad-cam", "layer-cam", "gradient-shap", "centre", "random"}
    assert set(said["blank"]) == {"grad-cam", "layer-cam", "gradient-shap"}
    runs = explanation_store.compared_runs(store, explained)
    told = explanation_store.load_arrays(explained, EvalKey("mask", limit=8), POSTHOC,
                             {role: runs[role] for role in ("teacher", "student")})
    assert said["maps"]["grad-cam"]["kept"]["mean"] == pytest.approx(told["grad-cam_kept"].mean())
    data = open_dataset(DATA, 32, store.paths)
    with torch.no_grad():
        masks = predict.load(explained, 4).predict_mask(to_tensor(np.asarray(data.test.images[told["index"]])))
    assert told["shown"] == pytest.approx(masks.mean(dim=(1, 2)).numpy(), abs=1e-5)
    assert said["area"]["mean"] == pytest.approx(told["shown"].mean())
    student = said["student"]
    assert set(student["scores"]) == set(student["over_control"]) == {"mask", "fill"}
    assert student["target"] == "sensitivity" and 0 < student["majority"] < 1
    scored = np.argmax(predict.predict(predict.load(explained, 4), data.test)[told["index"]], axis=1)
    assert student["scores"]["mask"]["mean"] == pytest.approx((scored == data.test.labels[told["index"]]).mean())


def test_mask_and_grad_cam_are_set_side_by_side_on_the_evidence_of_the_same_images(store, explained):
    one = evaluate_explanations(store, explained, ("mask",), agreement=False, cost=False, posthoc=True)["explainers"][
        "mask"
    ]
    beside = one[POSTHOC]["evidence"]
    assert set(beside["scores"]) == {"mask", "grad-cam", "layer-cam"}
    assert set(beside["over"]) == {"grad-cam", "layer-cam"}
    for name, role in (("mask", "student"), ("grad-cam", "teacher")):
        for score in ("pointing", "energy"):
            expected = one["localisation"][role]["scores"][score]["value"]  # computed in other batches
            assert beside["scores"][name][score] == pytest.approx(expected, abs=1e-4)
    runs = explanation_store.compared_runs(store, explained)
    mask, cam = (
        explanation_store.load_arrays(runs[role], EvalKey(name).of(explained), LOCALISATION, {role: runs[role]})[
            "energy"
        ]
        for role, name in (("student", "mask"), ("teacher", "grad-cam"))
    )
    assert beside["over"]["grad-cam"]["energy"]["n"] == np.isfinite(mask - cam).sum()
    if np.isfinite(mask - cam).any():
        assert beside["over"]["grad-cam"]["energy"]["mean"] == pytest.approx(np.nanmean(mask - cam))


def test_grad_cam_of_the_others_is_shared_between_the_choices(store, explained, monkeypatch):
    told = []
    evaluate_explanations(store, explained, ("mask", "grad-cam"), limit=8, agreement=False, cost=False,
             progress=lambda phase, _: told.append(phase))
    assert list(dict.fromkeys(told))[1:] == [
        "Grad-CAM: localisation of the teacher", "Grad-CAM: localisation of the control",
        "Mask: localisation of the student", *(f"Need of the evidence of the {role}" for role in (
            "teacher", "control", "student")), "Grad-CAM: localisation of the student"]
    monkeypatch.setattr(predict, "load", lambda *_: pytest.fail("a model was loaded"))
    teacher = store[explained.spec.teacher]
    assert evaluate_explanations(store, teacher, limit=8, agreement=False, cost=False)["explainers"]["grad-cam"][
        "localisation"
    ]


def test_what_is_not_of_the_mask_needs_no_mask(store, explained):
    one = evaluate_explanations(store, explained, ("grad-cam",), limit=8, localisation=False, cost=False)["explainers"][
        "grad-cam"
    ]
    assert "gain" in one["agreement"]
    assert (one["notes"], one[POSTHOC]) == ([], None)


def test_a_mask_that_nobody_has_is_refused(store, student):
    for names, posthoc in ((("mask",), False), (("grad-cam",), True)):
        with pytest.raises(UsageError, match="has no mask to evaluate"):
            evaluate_explanations(store, student, names, posthoc=posthoc)


def test_posthoc_agreement_may_be_stopped_in_the_middle(store, explained):
    seen = []

    def progress(phase, share):
        seen.append((phase, share))

    with pytest.raises(Stopped):
        evaluate_explanations(store, explained, ("mask",), posthoc=True, limit=8, progress=progress,
                 should_stop=lambda: len([phase for phase, _ in seen if "post-hoc" in phase]) > 3)
    assert explanation_store.load_all(store, explained, EvalKey("mask", limit=8))[POSTHOC] is None
