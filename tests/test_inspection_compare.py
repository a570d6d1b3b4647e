import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_runs import (
    CLASSES,
    CONTROL,
    TEACHER,
    explained_spec,
    made,
    made_explained_trio,
    made_trio,
    picture,
    student_spec,
)

from kd.datasets.tensors import to_tensor
from kd.errors import UsageError
from kd.explainers import offered
from kd.inspection.compare import compare
from kd.inspection.explain import explain
from kd.inspection.model_pool import ModelPool, load_model
from kd.store.files import write_json
from kd.store.runs import Store


@pytest.fixture
def store():
    return Store()


def test_all_are_asked_about_the_class_that_the_teacher_predicts(store):
    teacher, control, student = made_trio(store)
    found = compare(store, student, picture(), repeats=1)
    chosen = int(load_model(teacher).probabilities(picture()).argmax())
    assert found.target == CLASSES[chosen]
    assert [part.explanation.run for part in found.panels] == [teacher, control, student]
    for part in found.panels:
        alone = explain(part.explanation.run, picture(), "grad-cam", target=chosen, repeats=1)
        assert part.explanation.target == chosen
        assert np.array_equal(part.explanation.maps[0].values, alone.maps[0].values)
        assert np.array_equal(part.explanation.probabilities, alone.probabilities)


def test_the_hierarchy_has_every_stage_of_control_and_student(store):
    _, _, student = made_trio(store)
    found = compare(store, student, picture(), target="none", repeats=1)
    assert found.teacher.stage_maps is None
    for part in (found.control, found.student):
        alone = explain(part.explanation.run, picture(), "stage-maps", stage=None, repeats=1)
        for left, right in zip(part.stage_maps.maps, alone.maps, strict=True):
            assert np.array_equal(left.values, right.values)
    assert found.target == "none"


def test_ratios_set_teacher_beside_student(store):
    teacher, _, student = made_trio(store)
    found = compare(store, student, picture(), repeats=2)
    ratios = found.ratios()
    assert ratios["flops"] == teacher.summary["flops"] / student.summary["flops"]
    assert ratios["parameters"] == teacher.summary["parameters"] / student.summary["parameters"]
    assert ratios["stage-maps"] == found.teacher.explanation.timing.median / found.student.stage_maps.timing.median


def test_a_student_whose_teacher_is_its_twin_shows_the_same_map(store):
    teacher = made(store, CONTROL)
    found = compare(store, made(store, student_spec(teacher)), picture(), repeats=1)
    assert np.array_equal(found.teacher.explanation.maps[0].values, found.student.explanation.maps[0].values)


def test_without_a_control_the_rest_is_shown_and_the_lack_is_said(store):
    teacher = made(store, TEACHER)
    student = made(store, student_spec(teacher))
    found = compare(store, student, picture(), repeats=1)
    assert found.control is None
    assert "control" in found.notes[0]
    assert "control" not in found.to_json()
    store.create(CONTROL)
    assert "no weights yet" in compare(store, student, picture(), repeats=1).notes[0]


def test_classes_are_matched_by_name(store):
    teacher = made(store, TEACHER)
    turned = tuple(reversed(CLASSES))
    found = compare(store, made(store, student_spec(teacher), turned), picture(), target=0, repeats=1)
    assert found.student.explanation.classes[found.student.explanation.target] == CLASSES[0]


def test_bad_targets_are_named(store):
    _, _, student = made_trio(store)
    with pytest.raises(UsageError, match="class 'tumour'"):
        compare(store, student, picture(), target="tumour")


def test_saved_files_hold_what_was_found(store, tmp_path):
    _, _, student = made_trio(store)
    found = compare(store, student, picture(), repeats=1)
    paths = found.save(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"comparison.png", "maps.npz", "comparison.json"}
    said = json.loads(paths["comparison.json"].read_text())
    assert said == json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert said["student"]["stage-maps"]["timing"]["n"] == 1
    assert said["teacher"]["grad-cam"]["class_specific"] is True
    with np.load(paths["maps.npz"]) as stored:
        depth = len(found.student.stage_maps.maps)
        assert len(stored.files) == 1 + 2 * (3 + 1 + 2 * depth)  # each map has its placement beside it
        assert np.array_equal(stored["teacher_sensitivity_layer02"], found.teacher.sensitivity.maps[0].values)
        last = f"student_stage-maps_layer{depth:02d}"
        assert np.array_equal(stored[last], found.student.stage_maps.maps[-1].values)
    assert paths["comparison.png"].read_bytes().startswith(b"\x89PNG")
    assert found.picture(0.2, "viridis") != found.picture(0.8, "viridis")


def test_an_unfinished_student_is_compared_and_said_to_be_unfinished(store):
    teacher = made(store, TEACHER)
    student = made(store, replace(student_spec(teacher), seed=3), finished=False)
    student.log("cancelled")
    assert any("is cancelled" in note for note in compare(store, student, picture(), repeats=1).notes)


def test_the_teacher_has_a_sensitivity_map_beside_the_chosen_one(store):
    _, _, student = made_trio(store)
    found = compare(store, student, picture(), repeats=1)
    assert [one.explainer for one in found.teacher.main_maps] == ["grad-cam", "sensitivity"]
    assert all(len(part.main_maps) == 1 for part in (found.control, found.student))
    alone = explain(found.teacher.explanation.run, picture(), "sensitivity", found.target, repeats=1)
    assert np.array_equal(found.teacher.sensitivity.maps[0].values, alone.maps[0].values)
    assert found.to_json()["teacher"]["sensitivity"]["maps"][0]["stage"] == 1
    chosen = compare(store, student, picture(), repeats=1, explainer="sensitivity")
    assert chosen.teacher.sensitivity is None, "it is not asked twice"
    assert [part.explanation.maps[0].grid for part in chosen.panels] == ["8×8"] * 3


def test_another_explainer_and_stage_are_asked_of_all(store):
    _, _, student = made_trio(store)
    found = compare(store, student, picture(), repeats=1, explainer="stage-maps", stage=0)
    for part in found.panels:
        alone = explain(part.explanation.run, picture(), "stage-maps", stage=0, repeats=1)
        assert np.array_equal(part.explanation.maps[0].values, alone.maps[0].values)
    assert len(found.student.stage_maps.maps) > 1
    assert found.explainer == "stage-maps"
    assert found.picture().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no stage 9"):
        compare(store, student, picture(), stage=9)
    with pytest.raises(UsageError, match="explainer 'gradcam'"):
        compare(store, student, picture(), explainer="gradcam")


def test_further_students_stand_beside_it(store):
    teacher, _, student = made_trio(store)
    second = made(store, replace(student_spec(teacher), seed=7))
    found = compare(store, student, picture(), repeats=1, others=[second])
    assert [part.role for part in found.panels] == ["teacher", "control", "student", "student 2"]
    assert found.to_json()["student 2"]["run"] == second.id
    assert "student 2_stage-maps_layer01" in found.arrays()
    assert found.picture().startswith(b"\x89PNG")


def test_further_students_must_be_few_and_of_the_same_classes(store):
    teacher, _, student = made_trio(store)
    with pytest.raises(UsageError, match="at most 3"):
        compare(store, student, picture(), others=[student] * 4)
    other = made(store, replace(student_spec(teacher), seed=8), ("left", "right"))
    with pytest.raises(UsageError, match="other classes"):
        compare(store, student, picture(), others=[other])


def test_an_explained_students_mask_is_always_asked_for(store):
    teacher, control, student = made_explained_trio(store)
    found = compare(store, student, picture(), repeats=1)
    assert [part.explanation.run for part in found.panels] == [teacher, control, student]
    assert (found.explainer, found.explainers) == ("grad-cam", ("grad-cam",))
    assert found.teacher.mask is found.control.mask is found.teacher.masked_image is found.control.mask_area is None
    alone = explain(student, picture(), "mask", repeats=1)
    assert np.array_equal(found.student.mask.maps[0].values, alone.maps[0].values)
    assert found.student.mask_area == pytest.approx(0.2, abs=0.01)
    assert found.ratios()["mask"] == found.teacher.explanation.timing.median / found.student.mask.timing.median


def test_what_the_student_sees_is_the_picture_through_its_mask(store):
    _, _, student = made_explained_trio(store)
    found = compare(store, student, picture(), repeats=1)
    with torch.no_grad():
        mask = load_model(student).model.predict_mask(to_tensor(picture()[None]))[0].numpy()[..., None]
    assert mask.mean() == found.student.mask_area
    expected = 255 * (mask * (picture() / 255) + (1 - mask) * 0.5)  # the average of an untrained one is grey
    assert np.abs(found.student.masked_image - expected).max() <= 0.51
    with torch.no_grad():
        model = load_model(student).model
        logits = model.student(to_tensor(found.student.masked_image[None])).logits[0].softmax(0)
    assert np.allclose(logits.numpy(), found.student.explanation.probabilities, atol=0.02)


def test_grad_cam_stands_in_where_a_model_has_no_mask_and_everything_says_so(store, tmp_path):
    _, _, student = made_explained_trio(store)
    found = compare(store, student, picture(), repeats=1, explainer="mask", target="none")
    assert [part.explanation.explainer for part in found.panels] == ["grad-cam", "grad-cam", "mask"]
    assert (found.explainer, found.explainers) == ("grad-cam", ("grad-cam", "mask"))
    assert found.student.mask is found.student.explanation, "it is not asked twice"
    assert found.student.masked_image is not None
    assert {"teacher_grad-cam_layer03", "control_grad-cam_layer02", "student_mask_picture", "student_seen"} < {
        *found.arrays()}
    assert "student_grad-cam_layer02" not in found.arrays()
    said = json.loads(found.save(tmp_path)["comparison.json"].read_text())
    assert (said["student"]["mask"]["class_specific"], said["teacher"]["grad-cam"]["class_specific"]) == (False, True)
    assert said["student"]["shown"] == found.student.mask_area
    assert "shown" not in said["teacher"] and "grad-cam" not in said["student"] and "mask" not in said["teacher"]
    assert said["teacher_to_student"]["mask"] == found.faster(found.student.explanation)
    assert "grad-cam" not in said["teacher_to_student"]
    sheet = found.figure_spec()
    assert [[tile.label for tile in row.leads] for row in sheet.rows] == [
        ["Grad-CAM · 4×4", "Sensitivity · 8×8"], ["Grad-CAM · 8×8"], ["Mask · 32×32"]]
    assert sheet.notes[0].startswith("Grad-CAM, for “none”: Bright")
    assert sheet.notes[1].startswith("Mask: Bright")
    assert sheet.notes[2].startswith("Sensitivity, for “none”: Bright where the answer is sensitive")


def test_the_figure_has_the_mask_beside_the_map_and_says_what_it_costs(store):
    _, _, student = made_explained_trio(store)
    found = compare(store, student, picture(), repeats=1)
    sheet = found.figure_spec()
    last = sheet.rows[-1]
    assert [tile.label for tile in last.leads] == ["Grad-CAM · 8×8", "Mask · 32×32"]
    assert np.array_equal(last.leads[1].heat, found.student.mask.maps[0].values), "unscaled"
    assert len(last.tiles) == 2
    times = f"{found.ratios()['mask']:.1f} × as fast as the teacher's Grad-CAM"
    assert any("mask shows it" in note and times in note for note in sheet.notes)
    assert found.picture().startswith(b"\x89PNG")


def test_the_mask_is_offered_only_where_a_model_has_one(store):
    teacher, control, student = made_explained_trio(store)
    plain = made(store, student_spec(teacher))
    assert "mask" in offered([teacher, student])
    assert "mask" in offered([teacher, plain, student])
    assert "mask" not in offered([teacher, control, plain])
    with pytest.raises(UsageError, match="has a mask: .* Choose grad-cam"):
        compare(store, plain, picture(), explainer="mask")
    beside = compare(store, plain, picture(), explainer="mask", others=[student], repeats=1)
    assert [part.explanation.explainer for part in beside.panels] == ["grad-cam", "grad-cam", "grad-cam", "mask"]
    assert "mask" not in beside.ratios()
    assert any("student 2's mask" in note for note in beside.figure_spec().notes)


def test_masks_that_explain_nothing_are_said_to(store):
    _, _, student = made_explained_trio(store)
    assert compare(store, student, picture(), repeats=1).notes == ()
    write_json(student.path / "summary.json", {**student.summary, "mask": {"collapsed": "The mask has stayed open."}})
    assert compare(store, student, picture(), repeats=1).notes == ("Student: The mask has stayed open.",)


def test_a_mask_that_shows_everything_is_blank_and_hides_nothing(store):
    teacher = made(store, TEACHER)
    student = made(store, explained_spec(teacher))
    pool = ModelPool()
    model = pool(student, len(CLASSES))
    model.mask_net.score.weight.zero_()
    model.mask_net.score.bias.fill_(9.0)
    found = compare(store, student, picture(), repeats=1, pool=pool)
    assert found.student.mask.maps[0].blank
    assert found.student.mask_area == 1.0
    assert np.array_equal(found.student.masked_image, picture())
    model.mask_net.score.bias.fill_(float("nan"))
    broken = compare(store, student, picture(), repeats=1, pool=pool)
    assert broken.student.mask.maps[0].blank and broken.student.mask_area == 0.0, "no place can be ranked"
    json.dumps(broken.to_json(), allow_nan=False)
    assert broken.picture().startswith(b"\x89PNG")
