"""An 8-bit student on the pages: one more arm on Evaluate, a column on Compare, and the way to one."""

from functools import partial

import pytest
from fabricate import trio as fabricated
from made_eight_bit import copied
from opened import open_page
from test_pages_home import idle, words  # noqa: F401  (a fixture)
from test_pages_runs import press

from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.paths import Paths
from kd.store.eight_bit import eight_bit_of
from kd.store.runs import Store

evaluate, compare, runs = (partial(open_page, f"pages/{name}.py") for name in ("evaluate", "compare", "runs"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root of a quantised student, of which nothing is changed."""
    folder = tmp_path_factory.mktemp("eight-bit")
    copied(folder)
    return folder


@pytest.fixture
def student(root, monkeypatch):
    monkeypatch.setenv("KD_LENS_ROOT", str(root))
    return next(run for run in Store(Paths(root)) if run.spec.teacher)


def test_evaluate_has_one_more_arm_and_the_images_on_which_it_agrees_least(student):
    form = eight_bit_of(student)
    at = evaluate(run=student.id)
    table = at.table[0].value
    assert table.columns[4] == "8\u2011bit\u00a0student"
    measures = list(table.iloc[:, 0])
    for name in ("accuracy", "NLL", "ECE", "weights on disk", "forward pass, onnxruntime"):
        assert table.iloc[measures.index(name), 4] != "–"
    assert [list(one.value.iloc[:, 0]) for one in at.table if "5 % quantile" in one.value] == [
        ["8-bit student and student", "student and teacher", "8-bit student and teacher"]]
    assert "8-bit student − student: accuracy" in words(at)
    assert "Least agreement" in words(at)
    beside = [link.proto.query_string for link in at.main.get("page_link") if f"beside={form.id}" in
              link.proto.query_string]
    assert len(beside) == 7  # one of both, and one of each of six images
    assert sum("image=" in link for link in beside) == 6


def test_evaluate_takes_it_as_a_student(student):
    form = eight_bit_of(student)
    at = evaluate(run=form.id)
    assert at.selectbox(key="evaluate_run").value == form.id
    assert "8-bit" in at.table[0].value.columns[3]
    [offered] = [one for one in at.multiselect if one.label == "Explainers"]
    assert "Grad-CAM" in offered.options
    assert not any("LayerCAM" in option for option in offered.options)
    assert "explainers that need gradients, or features changed inside of the network, are not offered" in words(at)


def test_compare_has_its_column(student):
    form = eight_bit_of(student)
    at = compare(run=student.id, beside=form.id, image="1")
    assert "8-bit student" in words(at)
    assert any("computed by onnxruntime" in note.value for note in at.info)
    assert at.multiselect(key="compare_beside").value == [form.id]
    offered = at.selectbox(key="compare_explainer").options
    assert "Grad-CAM" in offered
    assert "LayerCAM" not in offered
    assert len(at.selectbox(key="compare_stage").options) == 1
    assert list(at.segmented_control(key="compare_of").options) == ["Teacher", "Control", "Student", "8-bit student"]
    at.segmented_control(key="compare_layers").set_value("weighted").run()
    assert not at.exception
    assert list(at.segmented_control(key="compare_of").options) == ["Teacher", "Control", "Student"]
    assert "Not of an 8-bit student, which has no gradients" in words(at)


@pytest.mark.parametrize("view", ["maps", "decision", "channels"])
def test_compare_takes_it_as_the_student(student, view):
    form = eight_bit_of(student)
    at = compare(run=form.id, image="1", view=view)
    assert at.selectbox(key="compare_run").value == form.id
    assert not at.error


def test_the_runs_page_sends_to_evaluate_for_its_figures(student):
    at = runs(run=student.id)
    assert "8-bit form, in brackets float32: accuracy" in words(at)
    assert "class maps agree with float32's by" in words(at)


def test_where_there_is_none_evaluate_makes_one():
    _, _, student = fabricated(Store(), data="/nowhere")
    at = press(evaluate(run=student.id), "Quantise to 8 bits")
    assert not at.exception
    assert queue().join(60)
    state = tasks.status(student, "export")
    assert state.args == {"format": "onnx", "int8": True}
    assert state.state == "failed"  # its data set is not there
    assert state.reason in [error.value for error in evaluate(run=student.id).error]
