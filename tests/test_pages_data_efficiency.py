"""The study of less data on the sweep page: prepared with few choices, and read with its chart, sentence and table."""

import pytest
from made_sweep import SWEEP, made
from small import DATA, SIZE
from streamlit.testing.v1 import AppTest
from test_experiments_data_efficiency import answered, labelled_only
from test_pages_home import idle, words  # noqa: F401  (a fixture)
from test_pages_sweep import charts, labels, page, press

from kd.experiments.data_efficiency import data_efficiency
from kd.experiments.sweep import Sweep, plan, planned_cells, runs, sweeps
from kd.jobs.queue import queue
from kd.store.runs import Store


def form() -> AppTest:
    """The prepared study with settings of a second or so."""
    at = page(kind="data-efficiency", data=DATA)
    at.number_input(key="distil_image_size").set_value(SIZE)
    at.selectbox(key="distil_teacher_model").set_value("test_resnet")
    at.number_input(key="distil_epochs").set_value(2)
    at.multiselect(key="study_depth").set_value(["2"]).run()
    assert not at.exception, at.exception
    assert not at.error, at.error[0].value
    return at


def test_a_link_opens_the_study_with_what_it_costs():
    at = form()
    assert at.segmented_control(key="sweep_kind").value == "data-efficiency"
    assert "Does a student need less data with a teacher?" in words(at)
    table = at.table[0].value
    assert list(table["Varies"]) == ["method", "unlabelled", "data fraction", "epochs per share"]
    assert list(table["Values"]) == ["kd, medtex", "none, rest", "0.1, 0.25, 0.5, 1", "20, 8, 4, 2"]
    assert "**14 cells**, 3 seeds each" in words(at)
    assert ":material/checklist: **55 runs**" in words(at)
    assert labels(at) == ["Start the sweep"]
    at.toggle(key="study_unlabelled").set_value(False)
    at.toggle(key="study_equal_steps").set_value(False).run()
    assert "**8 cells**, 3 seeds each" in words(at)
    assert list(at.table[0].value["Varies"]) == ["method", "data fraction"]


def test_start_queues_the_same_sweep_that_the_command_line_makes(idle):  # noqa: F811
    at = form()
    at.number_input(key="study_seeds").set_value(1)
    at.multiselect(key="study_methods").set_value(["medtex"]).run()
    press(at, "Start the sweep")
    store = Store()
    [sweep] = sweeps(store)
    assert sweep == data_efficiency(
        {"data": DATA, "teacher": "test_resnet", "image_size": SIZE, "epochs": 2, "depth": 2, "seeds": 1}, ["medtex"]
    )
    assert [run.id for run in queue().waiting] == [run.id for run in runs(planned_cells(sweep, store), store)]
    assert at.query_params["sweep"] in (sweep.id, [sweep.id])
    assert "**0 of 7 cells** · 0 of 12 runs" in words(at)


def test_shares_typed_as_the_help_writes_them_are_several(idle):  # noqa: F811
    at = form()
    at.session_state["study_shares"] = ["0.25,1", "1"]
    at.session_state["study_methods"] = ["kd"]
    at.run()
    assert not at.error
    press(at, "Start the sweep")
    [sweep] = sweeps(Store())
    assert sweep.axes["data_fraction"] == (0.25, 1.0)


@pytest.mark.parametrize(("key", "value", "message"), [
    ("study_shares", ["0.5"], "at least two shares"),
    ("study_shares", ["0.5", "half"], "Data fraction: 'half' is not a number"),
    ("study_methods", [], "method has no value"),
    ("distil_epochs", 200, "makes 2000 epochs of 200"),
])
def test_what_cannot_be_is_said_in_place(key, value, message):
    at = form()
    at.session_state[key] = value
    at.run()
    assert not at.exception, at.exception
    assert message in at.error[0].value
    assert not sweeps(Store())


@pytest.mark.parametrize("warm", [False, True])
def test_the_result_has_chart_sentence_and_table_above_the_rest(idle, warm):  # noqa: F811
    store, sweep = Store(), labelled_only()
    answered(store, sweep)
    at = page(warm, sweep=sweep.id)
    text = words(at)
    assert "- kd is **better than the control** with 10 %" in text
    assert "Not significantly worse than the control with 100 %: kd **from 25 % on**" in text
    assert text.index("Not significantly worse than") < text.index("Best on validation")
    study, *heat = charts(at)[:3]
    named = {trace["name"]: trace for trace in study["data"] if "name" in trace}
    assert list(named) == ["teacher test_resnet, all images: 95.0 %", "always the most frequent class", "control", "kd",
                           "medtex"]
    assert named["kd"]["y"][0] == pytest.approx(79 / 120)
    assert named["kd"]["error_y"]["array"][0] > 0
    assert study["layout"]["xaxis"]["ticktext"][0] == "10 %<br>4 images"
    assert [chart["layout"]["title"]["text"] for chart in heat] == ["kd", "medtex"]
    points, cells = (frame.value for frame in at.dataframe)
    assert list(points["test_accuracy"])[4] == pytest.approx(100 * 79 / 120)
    assert len(cells) == 8
    assert [button.label for button in at.get("download_button")] == [
        "Figure (PNG)", "Its numbers (CSV)", "Its table (LaTeX)", "All numbers (CSV)", "Table (LaTeX)"]
    at.segmented_control(key="sweep_measure").set_value("student − control").run()
    assert not at.exception, at.exception


def test_it_is_there_before_the_first_student(idle):  # noqa: F811
    store, sweep = Store(), labelled_only(["kd"], seeds=1)
    plan(sweep, store)
    assert "Accuracy and data" not in words(page(sweep=sweep.id))
    answered(store, sweep, 1)
    for cell in planned_cells(sweep, store):
        (store[cell.pairs[0][1]].path / "summary.json").unlink()
    text = words(page(sweep=sweep.id))
    assert "So far: on 120 test images, with one seed:" in text
    assert "Results appear as soon as" in text


def test_a_study_for_each_control(idle):  # noqa: F811
    store, sweep = Store(), Sweep(SWEEP.base, {"depth": (2, 3), "data_fraction": (0.5, 1.0)})
    made(store, sweep)
    at = page(sweep=sweep.id)
    chosen = at.selectbox(key=f"study-of-{sweep.id}")
    assert chosen.options == ["depth 2", "depth 3"]
    chosen.set_value("depth 3").run()
    assert not at.exception, at.exception


def test_other_sweeps_have_no_such_section(idle):  # noqa: F811
    made(Store())
    assert "Accuracy and data" not in words(page())
