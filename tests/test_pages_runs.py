"""The runs page, cold and through the entry point."""

from functools import partial
from pathlib import Path

import pytest
from fabricate import epochs, trio
from opened import open_page
from streamlit.testing.v1 import AppTest
from test_pages_home import idle, words  # noqa: F401  (a fixture)

from kd.jobs.queue import queue
from kd.spec import RunSpec
from kd.store.files import write_json
from kd.store.runs import CANCELLED, QUEUED, Store

page = partial(open_page, "pages/runs.py")


def press(at: AppTest, label: str) -> AppTest:
    next(button for button in at.button if button.label == label).click()
    at.run()
    assert not at.exception, at.exception
    return at


def charts(at: AppTest) -> list[str]:
    return [chart.proto.spec for chart in at.get("plotly_chart")]


def test_nothing_yet_has_one_next_step():
    at = page()
    assert "No runs yet" in words(at)
    assert not at.dataframe


@pytest.mark.parametrize("warm", [False, True])
def test_every_run_is_in_the_table_with_its_role_and_status(warm):
    trio(Store())
    frame = page(warm).dataframe[0].value
    assert list(frame["Role"]) == ["student", "control", "teacher"]
    assert list(frame["Status"]) == ["✓ finished"] * 3
    assert list(frame["Accuracy"]) == [0.9, 0.85, 0.95]
    assert list(frame["Epochs"]) == ["8/8"] * 3


def test_a_control_of_any_model_is_told_from_a_teacher():
    store = Store()
    teacher = store.create(RunSpec(model="resnet18"))
    store.create(RunSpec(model="resnet10t"))
    store.create(RunSpec(model="resnet10t", method="kd", teacher=teacher.id))
    frame = page().dataframe[0].value
    assert dict(zip(frame["Model"] + " " + frame["Method"], frame["Role"], strict=True)) == {
        "resnet18 supervised": "teacher", "resnet10t supervised": "control", "resnet10t kd": "student"}


def test_filters_narrow_the_table_and_can_be_in_the_address():
    store = Store()
    trio(store)
    trio(store, data="/pictures/eyes", seed=1, done=False)
    assert len(page(status="finished").dataframe[0].value) == 3
    at = page(find="EYES student")
    assert list(at.dataframe[0].value["Data set"]) == ["eyes"]
    at.text_input(key="find").set_value("nonsense").run()
    assert "No run matches" in at.info[0].value


def test_a_link_opens_a_run_cold_and_the_choice_is_put_into_the_address():
    teacher, _, student = trio(Store())
    at = page(run=student.id)
    assert at.selectbox(key="runs_run").value == student.id
    assert "Student plain5" in words(at)
    at.selectbox(key="runs_run").set_value(teacher.id).run()
    assert at.query_params["run"] == teacher.id
    assert "Teacher resnet10t" in words(at)


def test_a_link_to_a_run_that_is_gone_says_so():
    trio(Store())
    assert "There is no run 'gone'" in page(run="gone").warning[0].value


def test_curves_show_every_loss_term_and_the_validation_scores():
    *_, student = trio(Store())
    loss, score = charts(page(run=student.id))
    assert all(f'"name":"{name}"' in loss.replace(": ", ":") for name in ("hard", "soft", "validation"))
    assert all(f'"name":"{name}"' in score.replace(": ", ":") for name in ("accuracy", "macro-F1"))


def test_only_settings_that_differ_from_their_defaults_stand_first():
    *_, student = trio(Store())
    frame = page(run=student.id).dataframe[1].value
    assert dict(zip(frame["Setting"], frame["Value"], strict=True)) == {
        "image size": "64", "method": "kd", "method args": "alpha = 0.7, temperature = 10",
        "teacher": student.spec.teacher, "epochs": "8"}


@pytest.mark.parametrize(("recorded", "said"), [
    ({"precision": "bf16-mixed", "threads": [1]}, "bf16-mixed, cpu, 1 thread"),
    ({"precision": "32-true", "threads": [3, 4]}, "32-true, cpu, 3 to 4 threads"),
    ({}, None),
])
def test_a_run_says_in_which_arithmetic_it_was_computed(recorded, said):
    _, _, student = trio(Store())
    write_json(student.path / "summary.json", {**student.summary, **recorded})
    text = words(page(run=student.id))
    assert said in text if said else "thread" not in text


def test_a_run_says_how_many_of_its_images_had_labels():
    _, _, student = trio(Store())
    images = {"labelled": 44, "unlabelled": 1200, "tested_copies": 3}
    write_json(student.path / "summary.json", {**student.summary, "images": images})
    assert "44 labelled and 1,200 unlabelled training images, 3 copies of validation or test images left out" in words(
        page(run=student.id))


def test_masks_that_explain_nothing_are_told_of():
    _, _, student = trio(Store())
    assert not page(run=student.id).warning
    told = {"area": 0.912, "area_sd": 0.1, "alike": None, "collapsed": "Mask collapsed: all open. Raise mask_penalty."}
    write_json(student.path / "summary.json", {**student.summary, "mask": told})
    at = page(run=student.id)
    assert at.warning[0].value == told["collapsed"]
    assert {metric.label: metric.value for metric in at.metric}["Mask area"] == "91.2 %"


def test_a_failure_is_told_in_words():
    teacher, *_ = trio(Store(), done=False)
    teacher.log("failed", reason="The disk is full. Delete runs.")
    assert page(run=teacher.id).error[0].value == "The disk is full. Delete runs."


def test_all_interrupted_runs_resume_with_one_click_teacher_first(idle):  # noqa: F811
    teacher, control, student = trio(Store(), done=False)
    for run in (teacher, control, student):
        epochs(run, 1)
    at = press(page(), "Resume all 3")
    assert [run.id for run in queue().waiting] == [teacher.id, control.id, student.id]
    assert "1. teacher resnet10t" in words(at)
    assert "interrupted" not in words(at)


def test_a_run_that_was_only_planned_can_be_started(idle):  # noqa: F811
    teacher, _, student = trio(Store(), done=False)
    at = page(run=student.id)
    assert "interrupted" not in words(at)
    button = at.button(key="resume")
    assert button.label == "Start"
    button.click().run()
    assert [run.id for run in queue().waiting] == [teacher.id, student.id]


def test_one_run_resumes_after_its_teacher(idle):  # noqa: F811
    teacher, _, student = trio(Store(), done=False)
    student.log("cancelled")
    teacher.log("cancelled")
    page(run=student.id).button(key="resume").click().run()
    assert [run.id for run in queue().waiting] == [teacher.id, student.id]


def test_a_waiting_run_can_be_cancelled_and_takes_its_students_along(idle):  # noqa: F811
    runs = trio(Store(), done=False)
    queue().submit(runs)
    at = page(run=runs[0].id)
    assert [run.status for run in runs] == [QUEUED] * 3
    at.button(key="cancel").click().run()
    assert [run.status for run in runs] == [CANCELLED, QUEUED, CANCELLED]


def test_a_running_run_is_asked_to_stop(idle):  # noqa: F811
    run, *_ = trio(Store(), done=False)
    epochs(run, 2)
    with run.lock():
        page(run=run.id).button(key="cancel").click().run()
        assert run.cancel_requested()


def asked(run_id: str) -> AppTest:
    """The dialog's content on a page of its own, because AppTest cannot press buttons in dialogs."""
    def script(run_id: str) -> None:
        from pages.parts.runs.details import ask
        from pages.parts.shared.context import store

        if run_id in store():
            ask(store()[run_id])

    at = AppTest.from_function(script, args=(run_id,)).run()
    at.button(key="delete-confirmed").click().run()
    assert not at.exception, at.exception
    return at


def test_delete_asks_first():
    *_, student = trio(Store())
    at = press(page(run=student.id), "Delete")
    assert any("This frees" in text.value for text in at.markdown)
    assert student.path.exists()


def test_a_confirmed_delete_frees_the_folder():
    *_, student = trio(Store())
    asked(student.id)
    assert not student.path.exists()


def test_a_teacher_of_others_is_not_deleted_and_the_reason_is_told():
    teacher, *_ = trio(Store())
    assert "is the teacher of" in asked(teacher.id).error[0].value
    assert teacher.path.exists()


def test_a_folder_that_is_no_run_is_passed_over(own_root: Path):
    trio(Store())
    odd = own_root / "checkpoints" / "odd"
    odd.mkdir()
    (odd / "spec.json").write_text("{")
    assert len(page().dataframe[0].value) == 3


def test_fold_teachers_are_listed_on_request_and_named_with_their_teacher():
    teacher, *_ = trio(Store())
    about = RunSpec(method="kd", teacher=teacher.id, soft_targets="out-of-fold", folds=2)
    folds = [Store().create(spec) for spec in about.fold_teachers(teacher.spec)]
    at = page()
    assert len(at.dataframe[0].value) == 3
    at.toggle[0].set_value(True).run()
    assert list(at.dataframe[0].value["Role"][:2]) == ["fold teacher 2 of 2", "fold teacher 1 of 2"]
    assert "Fold teacher 1 of 2" in words(page(run=folds[0].id))
    assert "Fold teachers: 0 of 2 finished" in words(page(run=teacher.id))
