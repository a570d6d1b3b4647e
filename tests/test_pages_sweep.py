"""The sweep page: the form with what it multiplies to, a sweep as it goes, and what it came to."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from made_sets import count_reads, make_folder
from made_sweep import SWEEP, done, made
from opened import open_page
from small import DATA, SIZE
from streamlit.testing.v1 import AppTest
from test_pages_home import idle, words  # noqa: F401  (a fixture)

from kd.experiments.sweep import Sweep, plan, planned_cells, runs, sweeps
from kd.experiments.sweep.explanation_times import TASK, Times, _path, read
from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.paths import PROJECT
from kd.store.files import write_json
from kd.store.runs import CANCELLED, FAILED, FINISHED, QUEUED, Store
from pages.parts.sweep import progress

PROTOCOL = {"image_size": 64, "threads": 1, "device": "cpu", "torch": "2", "repeats": 3}


page = partial(open_page, "pages/sweep.py")


def form(data: str = DATA) -> AppTest:
    """The form with settings of a second or so."""
    at = page(data=data)
    at.number_input(key="distil_image_size").set_value(SIZE)
    at.selectbox(key="distil_teacher_model").set_value("test_resnet")
    at.multiselect(key="sweep_epochs").set_value(["1"])
    at.multiselect(key="sweep_depth").set_value(["2", "3"]).run()
    assert not at.exception, at.exception
    assert not at.error, at.error[0].value
    return at


def press(at: AppTest, label: str) -> AppTest:
    next(button for button in at.button if button.label == label).click()
    at.run()
    assert not at.exception, at.exception
    return at


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.main.button]


def charts(at: AppTest) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]


def timed(store: Store) -> None:
    write_json(_path(store, SWEEP), vars(Times({"plain2w4": 2.0, "plain3w4": 3.0, "test_resnet": 9.0}, PROTOCOL)))


def test_a_change_of_the_form_reads_the_data_set_once_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_folder(tmp_path / "set", {"a": 10, "b": 10, "c": 10})
    at = form(str(data))
    reads = count_reads(monkeypatch, data / "a")
    at.multiselect(key="sweep_alpha").set_value(["0.1", "0.4", "0.9"]).run()
    assert "18 cells" in words(at)
    assert reads["listings"] <= 1  # none, or one where what is remembered is older than 20 s
    assert reads["stats"] <= 11 + reads["listings"]


def test_nothing_yet_shows_the_form_with_kdfmvs_table():
    at = page()
    assert labels(at) == ["Start the sweep"]
    assert "KD-FMV's table" in words(at)
    table = at.table[0].value
    assert list(table["Varies"]) == ["depth", "α", "T"]
    assert list(table["Values"]) == ["3, 5, 7", "0.4, 0.7", "5, 10, 15"]
    assert "**18 cells**" in words(at)
    assert ":material/checklist: **22 runs**" in words(at)
    assert ":material/timer: **about" in words(at)
    assert not at.get("page_link") or at.main.get("page_link") == []


def test_the_count_follows_the_lists_and_what_a_method_lacks_makes_no_cells():
    at = form()
    at.multiselect(key="sweep_method").set_value(["kd", "dkd"])
    at.number_input(key="distil_seeds").set_value(2).run()
    assert "**18 cells**, 2 seeds each" in words(at)  # two depths x (two alphas x three T of kd, three T of dkd)
    assert ":material/checklist: **41 runs**" in words(at)
    assert at.multiselect(key="sweep_target_weight_dkd").value == ["1"]


@pytest.mark.parametrize(("key", "value", "message"), [
    ("sweep_temperature", ["5", "hot"], "Temperature: 'hot' is not a number"),
    ("sweep_width", ["16", "8.5"], "Width: '8.5' is not a whole number"),
    ("sweep_alpha", ["0.4", "1.5"], "alpha must be between 0 and 1"),
    ("sweep_depth", [], "depth has no value"),
])
def test_what_is_typed_in_is_checked_and_said_in_place(key, value, message):
    at = form()
    at.session_state[key] = value  # AppTest cannot type new values
    at.run()
    assert message in at.error[0].value
    assert not sweeps(Store())


def test_a_value_typed_in_is_taken():
    at = form()
    at.session_state["sweep_temperature"] = ["5", "7.5"]
    at.run()
    assert "5, 7.5" in list(at.table[0].value["Values"])


def test_start_plans_and_queues_every_run_and_follows_them(idle):  # noqa: F811
    at = form()
    at.multiselect(key="sweep_temperature").set_value(["5"]).run()
    press(at, "Start the sweep")
    store = Store()
    [sweep] = sweeps(store)
    assert dict(sweep.axes) == {"depth": (2, 3), "alpha": (0.4, 0.7)}
    assert sweep.base.method_args == {"temperature": 5.0}
    assert [run.id for run in queue().waiting] == [run.id for run in runs(planned_cells(sweep, store), store)]
    assert at.query_params["sweep"] in (sweep.id, [sweep.id])
    assert "**0 of 4 cells** · 0 of 7 runs" in words(at)
    assert "Next: teacher test_resnet · queued" in words(at)
    assert labels(at) == ["Cancel"]


def test_students_of_a_timm_model_and_of_the_teachers_stages(idle):  # noqa: F811
    at = form()
    at.segmented_control(key="sweep_student_kind").set_value("truncated").run()
    assert at.table[0].value["Values"][0] == "1, 2, 3, 4"
    at.segmented_control(key="sweep_student_kind").set_value("timm").run()
    at.selectbox(key="distil_student_model").set_value("test_efficientnet").run()
    assert not at.error
    assert list(at.table[0].value["Varies"]) == ["α", "T"]


@pytest.mark.parametrize("warm", [False, True])
def test_a_link_opens_its_sweep_with_the_best_cell_and_all_numbers(warm):
    store = Store()
    made(store)
    timed(store)
    plan(Sweep(SWEEP.base, {"width": (4, 8)}), store)  # a later one
    at = page(warm, sweep=SWEEP.id)
    text = words(at)
    assert at.selectbox(key="sweep_id").value == SWEEP.id
    assert "**4 of 4 cells** · 13 of 13 runs" in text
    assert "**Best on validation: depth 2, alpha 0.7** (cell 2 of 4), macro-F1 90.0\u00a0%" in text
    assert "On 120 test images the student is, on average over 2 seeds, **7.5 points below** its teacher" in text
    assert "Not for clinical use" in text
    assert {"Compare explanations", "Its distillation", "Evaluate"} <= {
        link.label for link in at.main.get("page_link")}
    table = at.dataframe[0].value
    assert list(table["cell"]) == [1, 2, 3, 4]
    assert list(table["explanation_ms"]) == [2.0, 2.0, 3.0, 3.0]
    assert table["test_accuracy"][1] == pytest.approx(87.5)
    assert at.get("download_button")[0].label == "All numbers (CSV)"
    assert labels(at) == []


def test_methods_alone_are_a_list_with_intervals(idle):  # noqa: F811
    sweep = Sweep(SWEEP.base, {"method": ("kd", "dkd", "at")})
    store = Store()
    made(store, sweep)
    timed(store)
    chart = charts(page(sweep=sweep.id))[0]
    assert chart["data"][0]["y"] == ["at", "dkd", "kd"]
    assert len(chart["data"][0]["error_x"]["array"]) == 3


def test_the_heat_map_has_its_values_written_and_a_scale(idle):  # noqa: F811
    store = Store()
    made(store)
    timed(store)
    at = page()
    heat, flops, explaining = charts(at)
    [cells] = heat["data"]
    assert cells["colorscale"][0][1] == "#440154"  # viridis
    assert cells["colorbar"]["tickformat"] == ".0%"
    assert [note["text"] for note in heat["layout"]["annotations"]] == ["82.5", "89.2", "87.5", "85.8"]
    assert (heat["layout"]["xaxis"]["title"]["text"], heat["layout"]["yaxis"]["title"]["text"]) == ("depth", "α")
    frame = heat["layout"]["shapes"][0]
    assert (frame["x0"], frame["y0"]) == (-0.49, 0.52)  # depth 2, alpha 0.7
    at.segmented_control(key="sweep_measure").set_value("student − control").run()
    assert [note["text"] for note in charts(at)[0]["layout"]["annotations"]] == ["+3.3", "+10.0", "+8.3", "+6.7"]
    for chart, name in ((flops, "FLOPs"), (explaining, "milliseconds")):
        traces = {trace["name"]: trace for trace in chart["data"]}
        assert [len(traces[name]["x"]) for name in ("front", "teacher", "student", "control")] == [2, 1, 4, 2]
        assert name in chart["layout"]["xaxis"]["title"]["text"]


def test_a_running_sweep_says_where_it_is_and_can_be_cancelled_and_continued(idle):  # noqa: F811
    store = Store()
    cells = made(store, seeds=1)
    left = [run for run in runs(cells, store) if run.status != FINISHED]
    queue().submit(left)
    left[0].log("started")
    left[0].write_progress("training", epoch=0, epochs=2, step=3, steps=4, images_per_second=99.0, seconds_left=10.0)
    at = page()
    assert "Now: control plain2w4, seed 2 of 2 · 38 % · 10 s left" in words(at)
    assert "Time left: about 6 min" in words(at)
    assert "Best on validation so far" in words(at)
    assert {row.split(" ")[1] for row in at.dataframe[0].value["status"]} == {"running", "queued"}
    press(at, "Cancel")
    assert {run.status for run in left} == {CANCELLED}
    press(at, "Continue")
    assert [run.id for run in queue().waiting] == [run.id for run in left]


def test_cancel_spares_what_another_student_in_the_queue_waits_for(idle):  # noqa: F811
    store = Store()
    cells = plan(SWEEP, store)
    other = store.create(replace(store[cells[0].pairs[0][1]].spec, method_args={"alpha": 0.2, "temperature": 4.0}))
    queue().submit([*runs(cells, store), other])
    press(page(), "Cancel")
    spared = {run.id for run in runs(cells, store) if run.status == QUEUED}
    assert spared == {cells[0].teacher, cells[0].pairs[0][0]}
    assert other.status == QUEUED


def test_a_failed_cell_is_told_with_its_reason_and_the_rest_has_its_results(idle):  # noqa: F811
    store = Store()
    cells = made(store)
    for _, student in cells[2].pairs:
        for name in ("summary.json", "predictions.npz"):
            (store[student].path / name).unlink()
        store[student].log(FAILED, reason="The loss became nan. Lower the learning rate.")
    at = page()
    assert [error.value for error in at.error] == ["**Cell 3 failed.** The loss became nan. Lower the learning rate."]
    assert [note["text"] for note in charts(at)[0]["layout"]["annotations"]] == ["82.5", "✕", "87.5", "85.8"]
    assert "**Best on validation so far: depth 2, alpha 0.7**" in words(at)
    press(at, "Try again")
    assert {store[student].status for _, student in cells[2].pairs} == {QUEUED}


def test_a_sweep_that_ended_unwatched_has_its_explanations_timed_by_the_queue(idle):  # noqa: F811
    store = Store()
    cells = made(store)
    at = page()
    task = tasks.task(store[cells[0].teacher], TASK)
    assert queue().tasks == [task]
    assert task.state.args == {"sweep": SWEEP.id}
    assert "Timing the explanations: queued" in words(at)
    queue().cancel(task)
    at = page()
    assert queue().tasks == []  # tried before: only when asked
    press(at, "Measure it now")
    assert queue().tasks == [task]


def test_nothing_is_measured_while_the_page_is_drawn(idle, monkeypatch):  # noqa: F811
    made(Store())
    monkeypatch.setattr(
        "kd.experiments.sweep.explanation_times.measure", lambda *args: pytest.fail("measured by the page")
    )
    page()
    assert read(Store(), SWEEP) is None


def test_the_sweep_under_way_is_shown_first(idle):  # noqa: F811
    store = Store()
    first = plan(SWEEP, store)
    plan(Sweep(SWEEP.base, {"width": (4, 8)}), store)
    queue().submit(runs(first, store)[-1:])
    assert page().selectbox(key="sweep_id").value == SWEEP.id


def test_an_unknown_sweep_is_said_and_the_newest_is_shown(idle):  # noqa: F811
    made(Store())
    at = page(sweep="nonsense")
    assert "Unknown sweep 'nonsense'" in at.error[0].value
    assert "Best on validation" in words(at)


def test_a_sweep_whose_runs_were_deleted_can_be_planned_again(idle):  # noqa: F811
    store = Store()
    cells = made(store)
    gone = [run_id for pair in cells[3].pairs for run_id in pair[1:]]
    for run_id in gone:
        store.delete(run_id)
    at = page()
    assert "· deleted" in list(at.dataframe[0].value["status"])
    press(at, "Continue")
    assert {store[run_id].status for run_id in gone} == {QUEUED}


def test_titles_name_the_teacher_also_where_it_is_a_run():
    store = Store()
    cells = plan(SWEEP, store)
    done(store[cells[0].teacher], 6, 0.9)
    other = Sweep(replace(SWEEP.base, teacher=cells[0].teacher), {"alpha": (0.4, 0.7)})
    assert progress.title(other, plan(other, store)) == "phantom-brain · test_resnet · α 0.4, 0.7"


def test_a_long_queue_does_not_flood_the_other_pages(idle):  # noqa: F811
    store = Store()
    many = Sweep(SWEEP.base, {"alpha": (0.1, 0.3, 0.4, 0.6, 0.7, 0.9)})
    queue().submit(runs(plan(many, store), store))
    home = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=120).run()
    assert not home.exception
    assert "2 more queued" in [link.label for link in home.main.get("page_link")]
    home.switch_page("pages/runs.py").run()
    assert not home.exception
    assert sum(button.label == "Cancel" for button in home.button) == 15
