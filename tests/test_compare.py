import json
from dataclasses import replace

import numpy as np
import pytest
from made_runs import CLASSES, CONTROL, TEACHER, made, made_trio, picture, student_spec

from kd.compare import compare
from kd.errors import UsageError
from kd.explain import explain
from kd.pool import open_subject
from kd.runs import Store


@pytest.fixture
def store():
    return Store()


def test_all_are_asked_about_the_class_that_the_teacher_predicts(store):
    teacher, control, student = made_trio(store)
    found = compare(store, student, picture(), repeats=1)
    chosen = int(open_subject(teacher).probabilities(picture()).argmax())
    assert found.target == CLASSES[chosen]
    assert [part.cam.run for part in found.parts] == [teacher, control, student]
    for part in found.parts:
        alone = explain(part.cam.run, picture(), "grad-cam", target=chosen, repeats=1)
        assert part.cam.target == chosen
        assert np.array_equal(part.cam.maps[0].values, alone.maps[0].values)
        assert np.array_equal(part.cam.probabilities, alone.probabilities)


def test_the_hierarchy_has_every_stage_of_control_and_student(store):
    _, _, student = made_trio(store)
    found = compare(store, student, picture(), target="none", repeats=1)
    assert found.teacher.hierarchy is None
    for part in (found.control, found.student):
        alone = explain(part.cam.run, picture(), "stage-maps", stage=None, repeats=1)
        for left, right in zip(part.hierarchy.maps, alone.maps, strict=True):
            assert np.array_equal(left.values, right.values)
    assert found.target == "none"


def test_ratios_set_teacher_beside_student(store):
    teacher, _, student = made_trio(store)
    found = compare(store, student, picture(), repeats=2)
    ratios = found.ratios()
    assert ratios["flops"] == teacher.summary["flops"] / student.summary["flops"]
    assert ratios["parameters"] == teacher.summary["parameters"] / student.summary["parameters"]
    assert ratios["stage-maps"] == found.teacher.cam.timing.median / found.student.hierarchy.timing.median


def test_a_student_whose_teacher_is_its_twin_shows_the_same_map(store):
    teacher = made(store, CONTROL)
    found = compare(store, made(store, student_spec(teacher)), picture(), repeats=1)
    assert np.array_equal(found.teacher.cam.maps[0].values, found.student.cam.maps[0].values)


def test_without_a_control_the_rest_is_shown_and_the_lack_is_said(store):
    teacher = made(store, TEACHER)
    student = made(store, student_spec(teacher))
    found = compare(store, student, picture(), repeats=1)
    assert found.control is None
    assert "control" in found.notes[0]
    assert "control" not in found.to_json()
    store.create(CONTROL)
    assert "no weights yet" in compare(store, student, picture(), repeats=1).notes[0]


def test_a_run_without_a_teacher_says_which_students_there_are(store):
    teacher = made(store, TEACHER)
    with pytest.raises(UsageError, match="distil one first"):
        compare(store, teacher, picture())
    student = made(store, student_spec(teacher))
    with pytest.raises(UsageError, match=student.id):
        compare(store, teacher, picture())


def test_classes_are_matched_by_name(store):
    teacher = made(store, TEACHER)
    turned = tuple(reversed(CLASSES))
    found = compare(store, made(store, student_spec(teacher), turned), picture(), target=0, repeats=1)
    assert found.student.cam.classes[found.student.cam.target] == CLASSES[0]


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
        depth = len(found.student.hierarchy.maps)
        assert len(stored.files) == 1 + 3 + 2 * depth
        last = f"student_stage-maps_layer{depth:02d}"
        assert np.array_equal(stored[last], found.student.hierarchy.maps[-1].values)
    assert paths["comparison.png"].read_bytes().startswith(b"\x89PNG")
    assert found.picture(0.2, "viridis") != found.picture(0.8, "viridis")


def test_an_unfinished_student_is_compared_and_said_to_be_unfinished(store):
    teacher = made(store, TEACHER)
    student = made(store, replace(student_spec(teacher), seed=3), finished=False)
    student.log("cancelled")
    assert any("is cancelled" in note for note in compare(store, student, picture(), repeats=1).notes)


def test_another_explainer_and_stage_are_asked_of_all(store):
    _, _, student = made_trio(store)
    found = compare(store, student, picture(), repeats=1, explainer="stage-maps", stage=0)
    for part in found.parts:
        alone = explain(part.cam.run, picture(), "stage-maps", stage=0, repeats=1)
        assert np.array_equal(part.cam.maps[0].values, alone.maps[0].values)
    assert len(found.student.hierarchy.maps) > 1
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
    assert [part.role for part in found.parts] == ["teacher", "control", "student", "student 2"]
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
