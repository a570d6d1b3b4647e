"""The evaluate page: cold without torch's help, and with a judgement of a real, small distillation."""

import io
from collections.abc import Iterator

import pandas as pd
import pytest
from fabricate import trio as fabricated
from small import distilled
from streamlit.testing.v1 import AppTest
from test_pages_home import idle, words  # noqa: F401  (a fixture)

from kd.evaluation.report import KINDS
from kd.jobs import tasks
from kd.jobs.queue import execute, queue
from kd.paths import PROJECT, Paths
from kd.store.groups import Distillation
from kd.store.runs import CANCELLED, QUEUED, Store

ARGS = {"explainers": ["grad-cam"], "stage": -2, "limit": 0, "seed": 0, "agreement": True, "localisation": True,
        "faithfulness": True, "cost": True}


def page(warm: bool = False, **address: str) -> AppTest:
    at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=120)
    if warm:
        at.run()
    at.switch_page("pages/evaluate.py")
    for name, value in address.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception
    return at


def asked(at: AppTest) -> list[str]:
    """The address of every link to Compare on the page's own ground."""
    return [link.proto.query_string for link in at.main.get("page_link") if link.label == "Compare"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Distillation:
    """Trained and judged once, because that takes seconds."""
    store = Store(Paths(tmp_path_factory.mktemp("judged")))
    trio = distilled(store, depth=3)
    task = tasks.task(trio.student, "appraisal")
    with task.lock():
        task.request(ARGS)
        status = execute(task, store)
    assert status == "finished", task.state
    return trio


@pytest.fixture
def real(judged: Distillation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distillation]:
    monkeypatch.setenv("KD_LENS_ROOT", str(judged.student.path.parents[1]))
    return judged


def test_nothing_yet_has_one_next_step():
    at = page()
    assert "No finished student yet" in words(at)
    assert [link.label for link in at.main.get("page_link")] == ["Distil a student"]
    assert not at.selectbox


@pytest.mark.parametrize("warm", [False, True])
def test_scores_stand_beside_chance(warm):
    *_, student = fabricated(Store())
    at = page(warm, run=student.id)
    table = at.table[0].value
    accuracy = table.iloc[0]
    assert accuracy.iloc[0] == "accuracy"
    assert accuracy.iloc[1].startswith("95.0")
    assert accuracy["Baseline"].startswith("25.0")
    likelihood = table[table.iloc[:, 0] == "NLL"].iloc[0]
    assert likelihood["Baseline"] == "1.39\u00a0nats"  # ln 4
    assert "Student − control: accuracy +5.0 points (" in words(at)
    assert "Not for clinical use" in words(at)
    assert len(at.get("plotly_chart")) == 6  # calibration, recall, three confusions, confused alike


def test_missing_answers_are_said_with_the_way_out():
    teacher, _, student = fabricated(Store())
    (teacher.path / "predictions.npz").unlink()
    assert f"python -m kd evaluate {teacher.id}" in page(run=student.id).info[0].value


def test_a_link_opens_its_run_also_by_teacher_or_control_and_an_unknown_one_is_said():
    store = Store()
    teacher, control, student = fabricated(store)
    newer = fabricated(store, seed=1)[-1]
    for run in (student, teacher, control):
        at = page(run=run.id)
        assert at.selectbox(key="evaluate_run").value == student.id
        assert at.query_params["run"] in (student.id, [student.id])
    at = page(run="nonsense")
    assert "nonsense" in at.warning[0].value
    assert at.selectbox(key="evaluate_run").value in (newer.id, student.id)


def test_without_a_control_the_page_stands():
    store = Store()
    _, control, student = fabricated(store)
    store.delete(control.id)
    at = page(run=student.id)
    assert "no finished control" in words(at)
    assert not at.error or "data" in at.error[0].value


def test_asking_puts_it_on_the_queue_and_cancel_takes_it_off(idle, real, monkeypatch):  # noqa: F811
    before = tasks.status(real.student, "appraisal")
    at = page(run=real.student.id)
    at.multiselect(key="evaluate_explainers_00").set_value(["layer-cam"])
    at.number_input(key="evaluate_limit").set_value(10)
    next(button for button in at.button if button.label == "Evaluate explanations").click().run()
    assert not at.exception, at.exception
    task = tasks.task(real.student, "appraisal")
    try:
        state = task.state
        assert state.state == QUEUED
        assert (state.args["explainers"], state.args["limit"], state.args["faithfulness"]) == (["layer-cam"], 10, False)
        assert at.main.get("progress")[0].proto.text == "queued"
        at.button(key="evaluate_cancel").click().run()
        assert task.state.state == CANCELLED
    finally:
        queue().cancel(task)
        task._write(before)


def test_agreement_faithfulness_localisation_and_cost_are_shown_with_chance(real):
    at = page(run=real.student.id)
    assert [tab.label for tab in at.tabs] == ["Agreement", "Localisation", "Evidence", "Faithfulness", "Cost"]
    agreement, localisation, evidence, faithfulness, cost = (tab.table[0].value for tab in at.tabs)
    assert {"Baseline", "Centre-Gaussian baseline", "Above baseline"} <= set(agreement)
    assert set(agreement["Model"]) == {"Control", "Student"}
    assert set(localisation["Model"]) == {"Teacher", "Control", "Student"}
    assert {"Area baseline", "Centre-Gaussian baseline", "Image alone", "Above the best baseline"} <= set(localisation)
    assert localisation["Image alone"].str.contains("%").all()
    assert list(evidence) == ["", "Teacher", "Control", "Student"]
    assert list(evidence[""]) == ["Without the evidence", "Without its mirrored region",
                                  "Mirrored − without: hang on the evidence", "Evidence alone", "All blurred",
                                  "Alone − all blurred"]
    for tab in at.tabs[1:3]:
        said = next(block.value for block in tab.markdown if "need the evidence" in block.value)
        assert said.count("Blurring the evidence away keeps") == 3
    assert "Random map" in faithfulness
    assert "explanation ÷ forward pass" in list(cost.iloc[:, 0])
    assert any(line.startswith("latency") for line in at.table[0].value.iloc[:, 0])


def test_a_failure_is_told_in_words(real):
    task = tasks.task(real.student, "appraisal")
    before = task.state
    try:
        task.log("failed", reason="The disk is full. Delete runs.")
        assert page(run=real.student.id).error[0].value == "The disk is full. Delete runs."
    finally:
        task._write(before)


def test_cases_open_in_compare_and_least_agreement_with_its_explainer(real):
    at = page(run=real.student.id)
    at.button_group(key="evaluate_kind").set_value(KINDS[1]).run()
    assert not at.exception, at.exception
    assert any(f"run={real.student.id}" in link and "image=" in link for link in asked(at))
    at.button_group(key="evaluate_kind").set_value("least agreement").run()
    assert not at.exception, at.exception
    links = asked(at)
    assert links
    assert all("explainer=grad-cam" in link and "stage=-2" in link for link in links)


def test_the_file_holds_every_number_with_its_chance(real):
    at = AppTest.from_function(_numbers, args=(real.student.id,), default_timeout=120).run()
    assert not at.exception, at.exception
    frame = pd.read_csv(io.StringIO(at.code[0].value))
    assert {"classification", "recall", "answers", "agreement", "localisation", "faithfulness", "cost"} <= set(
        frame["section"])
    assert frame[frame["section"] == "agreement"]["chance"].notna().all()


MASKED = {**ARGS, "explainers": ["mask"], "stage": -1, "faithfulness": False, "posthoc": True}


@pytest.fixture(scope="module")
def judged_mask(tmp_path_factory: pytest.TempPathFactory) -> Distillation:
    """An explained student, judged by its mask."""
    store = Store(Paths(tmp_path_factory.mktemp("masked")))
    trio = distilled(store, method="medtex")
    task = tasks.task(trio.student, "appraisal")
    with task.lock():
        task.request(MASKED)
        status = execute(task, store)
    assert status == "finished", task.state
    return trio


@pytest.fixture
def masked(judged_mask: Distillation, monkeypatch: pytest.MonkeyPatch) -> Distillation:
    monkeypatch.setenv("KD_LENS_ROOT", str(judged_mask.student.path.parents[1]))
    return judged_mask


def test_a_mask_is_not_offered_where_nobody_has_one(real):
    at = page(run=real.student.id)
    assert "Mask" not in at.multiselect(key="evaluate_explainers_00").options
    assert "post-hoc agreement of the mask (slow)" not in at.button_group(key="evaluate_parts_00").options


def test_an_explained_student_has_the_mask_and_its_parts_chosen(masked):
    at = page(run=masked.student.id)
    chooser = at.multiselect(key="evaluate_explainers_11")
    assert chooser.value == ["mask", "grad-cam"]
    assert "Mask" in chooser.options
    assert set(at.button_group(key="evaluate_parts_11").value) == {"agreement", "localisation", "post-hoc", "cost"}


def test_posthoc_agreement_stands_beside_random_and_the_teachers_maps(masked):
    at = page(run=masked.student.id)
    assert [tab.label for tab in at.tabs] == ["Agreement", "Localisation", "Evidence", "Post-hoc", "Cost"]
    agreement, localisation, _, posthoc, cost = at.tabs
    assert set(agreement.table[0].value["Model"]) == {"Control, Grad‑CAM", "Student, Mask"}
    assert set(localisation.table[0].value["Model"]) == {"Teacher, Grad‑CAM", "Control, Grad‑CAM", "Student, Mask"}
    assert any(name.startswith("Student,\u00a0Mask") for name in cost.table[0].value)
    maps, beside = (table.value for table in posthoc.table)
    assert [name.split(" (")[0] for name in maps["Map"]] == [
        "mask, cut to its area", "Grad-CAM", "LayerCAM", "GradientSHAP",
        "centre of the image", "random"]
    assert set(maps) == {"Map", "Same prediction inside", "Inside − random", "Same prediction outside",
                         "Random − outside"}
    assert "points (" in maps["Inside − random"].iloc[0].replace("\u00a0", " ")
    assert all("%" not in text for text in (*maps["Random − outside"], *beside["Inside"]))
    assert "–" in maps["Inside − random"].iloc[-1] and "(" not in maps["Inside − random"].iloc[-1]
    assert {"Mask against", "Inside", "Outside", "Pointing game", "Energy on the evidence"} == set(beside)
    assert "the teacher makes the same prediction on" in words(at)
    assert "Against the teacher's Grad-CAM the mask preserves" in words(at)
    assert "The student is right on" in words(at) and "with everything hidden (most frequent class:" in words(at)
    assert "against the control, which sees the whole image" in words(at)
    assert "outlines" not in words(at)
    assert "have no mask and are evaluated by Grad-CAM" in words(at)
    assert len(posthoc.get("plotly_chart")) == 1


def test_posthoc_without_the_mask_is_said_before_it_is_queued(idle, masked):  # noqa: F811
    before = tasks.status(masked.student, "appraisal")
    at = page(run=masked.student.id)
    at.multiselect(key="evaluate_explainers_11").set_value(["grad-cam"])
    next(button for button in at.button if button.label == "Evaluate explanations").click().run()
    assert "Choose the explainer mask as well" in at.error[0].value
    assert tasks.status(masked.student, "appraisal") == before


def _numbers(student: str) -> None:
    import streamlit as st

    from pages.parts.evaluate.explanations import explanation_section
    from pages.parts.evaluate.scores import latency, scored, scores
    from pages.parts.evaluate.tables import as_csv
    from pages.parts.shared.context import store

    run = store()[student]
    found = scored({"teacher": store()[run.spec.teacher], "student": run})
    rows = scores(found, latency(store(), run))
    st.code(as_csv([*rows, *explanation_section(run, found)[1]]))


def test_changed_weights_make_the_judgement_stale(real):
    content = real.teacher.weights.read_bytes()
    try:
        real.teacher.weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        at = page(run=real.student.id)
        # the student's and control's own
        assert [tab.label for tab in at.tabs] == ["Localisation", "Evidence", "Faithfulness"]
        assert ("Not evaluated with these weights and data: agreement, cost, localisation of the teacher, evidence of "
                "the teacher, faithfulness of the teacher.") in words(at)
    finally:
        real.teacher.weights.write_bytes(content)


def test_the_page_is_in_the_sidebar():
    at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=120).run()
    assert "Evaluate" in [link.label for link in at.sidebar.get("page_link")]
