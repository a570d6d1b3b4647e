"""The distil page: the form with its preview, and the distillation as it goes, through the entry point and cold."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from fabricate import epochs, finish, series, trio
from made_sets import make_folder
from opened import open_page
from small import DATA, SIZE, distilled
from streamlit.testing.v1 import AppTest
from test_pages_home import idle, words  # noqa: F401  (a fixture)

from kd.experiments.plan import MASK_NET_FIELDS
from kd.jobs.queue import queue
from kd.methods import METHODS
from kd.store import probe_images
from kd.store.files import write_json
from kd.store.runs import CANCELLED, FAILED, FINISHED, QUEUED, Store
from pages.parts.shared import fields

page = partial(open_page, "pages/distill.py")


def form(**address: str) -> AppTest:
    """The form with settings of a second or so."""
    at = page(data=DATA, **address)
    at.number_input(key="distil_image_size").set_value(SIZE)
    at.selectbox(key="distil_teacher_model").set_value("test_resnet")
    at.slider(key="distil_depth").set_value(2)
    at.number_input(key="distil_epochs").set_value(1).run()
    assert not at.exception, at.exception
    assert not at.error, at.error[0].value
    return at


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


def press(at: AppTest, label: str) -> AppTest:
    next(button for button in at.button if button.label == label).click()
    at.run()
    assert not at.exception, at.exception
    return at


def charts(at: AppTest) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]


@pytest.mark.parametrize("warm", [False, True])
def test_a_link_brings_the_data_set_and_the_preview_shows_what_it_costs(warm):
    at = page(warm, data=DATA)
    assert at.selectbox(key="distil_data").value == DATA
    assert "60 images in 4 classes" in words(at)
    totals, layers = (table.value for table in at.table[:2])
    assert "of the teacher's FLOPs" in words(at)
    assert list(totals[""]) == ["Teacher · resnet18", "Student · plain5", "Teacher ÷ student"]
    assert len(layers) == 5
    assert "timed on this machine" in words(at)
    assert "Distil" in labels(at)


def test_the_preview_follows_the_depth():
    at = page(data=DATA)
    at.slider(key="distil_depth").set_value(12).run()
    assert len(at.table[1].value) == 12
    assert "plain12" in at.table[0].value[""][1]


def test_help_and_ranges_are_read_off_the_request():
    at = page(data=DATA)
    drawn = {name: widget for name in fields.SETTINGS for widget in (*at.number_input, *at.slider, *at.selectbox)
             if widget.key == fields.key(name)}
    for name, widget in drawn.items():
        facts = fields.SETTINGS[name].metadata
        assert name == "data" or widget.help == facts["help"]
        if facts["low"] is not None:
            assert (widget.min, widget.max) == (facts["low"], facts["high"])
    assert {"depth", "width", "epochs", "batch_size", "seed", "data_fraction", "views", "normalisation", "device",
            "method", "teacher_weights"} <= set(drawn)


def test_a_methods_knobs_are_its_own():
    at = page(data=DATA)
    method = at.selectbox(key="distil_method").value
    for name, knob in METHODS[method].info.hyperparameters.items():
        widget = at.number_input(key=f"distil_{method}_{name}")
        assert (widget.value, widget.min, widget.max, widget.help) == (knob.default, knob.low, knob.high, knob.help)


def test_every_method_can_be_chosen_with_its_own_settings():
    at = form()
    taught = [name for name in METHODS if METHODS[name].needs_teacher]
    assert at.selectbox(key="distil_method").options == [METHODS[name].info.title for name in taught]
    for name in taught:
        at.selectbox(key="distil_method").set_value(name).run()
        assert not at.exception, at.exception
        assert not at.error
        assert not at.warning
        facts = METHODS[name].info
        drawn = {key: at.number_input(key=f"distil_{name}_{key}").value for key in facts.hyperparameters}
        assert drawn == {key: knob.default for key, knob in facts.hyperparameters.items()}
        assert facts.paper in words(at)


def drawn(at: AppTest) -> set[str]:
    return {widget.key for widget in (*at.number_input, *at.slider, *at.selectbox)}


def test_an_explainer_is_asked_about_only_where_the_method_trains_one():
    at = form()
    own = {fields.key(name): fields.SETTINGS[name] for name in MASK_NET_FIELDS}
    assert not drawn(at) & set(own)
    at.selectbox(key="distil_method").set_value("medtex").run()
    assert set(own) <= drawn(at)
    more = {widget.key for widget in at.expander[0].number_input} | {widget.key for widget in at.expander[0].selectbox}
    for name, knob in METHODS["medtex"].info.hyperparameters.items():
        assert (f"distil_medtex_{name}" in more) == knob.advanced
    first = {fields.key(name) for name in ("mask_area", "mask_target")}
    assert set(own) - first <= more and not first & more, "what matters most stands first"
    assert at.selectbox(key="distil_mask_fill").options == ["mean training image", "the image, blurred"]
    at.selectbox(key="distil_method").set_value("kd").run()
    assert not drawn(at) & set(own)


def test_an_explained_student_is_shown_with_what_its_explainer_costs():
    at = form()
    before = at.table[0].value["Parameters"][1]
    at.selectbox(key="distil_method").set_value("medtex").run()
    assert not at.error
    totals, layers = (table.value for table in at.table[:2])
    assert "explained-plain2" in totals[""][1]
    assert totals["Parameters"][1] != before
    assert "mask network (U-Net)" in totals[""][2]
    assert len(layers) == 2


def test_distil_plans_an_explained_student_with_fine_settings_and_a_control_without(idle):  # noqa: F811
    at = form()
    at.selectbox(key="distil_method").set_value("medtex").run()
    at.number_input(key="distil_medtex_widest").set_value(0.5)
    at.number_input(key="distil_mask_area").set_value(0.2)
    at.selectbox(key="distil_mask_target").set_value("outlines")
    at.number_input(key="distil_mask_net_depth").set_value(2)
    at.selectbox(key="distil_mask_fill").set_value("blur").run()
    press(at, "Distil")
    runs = {run.spec.method: run.spec for run in Store() if run.spec.model == "plain"}
    assert (runs["medtex"].mask_net_depth, runs["medtex"].mask_fill) == (2, "blur")
    assert (runs["medtex"].mask_area, runs["medtex"].mask_target, runs["medtex"].method_args["widest"]) == (
        0.2, "outlines", 0.5)
    assert runs["supervised"].mask_net_depth == 0


def test_two_classes_are_spoken_of_where_the_method_is_chosen(tmp_path):
    at = page(data=str(make_folder(tmp_path / "two", {"a": 8, "b": 8})))
    assert not at.warning
    at.selectbox(key="distil_method").set_value("dist").run()
    assert "Two numbers always correlate" in at.warning[0].value
    assert "Distil" in labels(at)
    at.selectbox(key="distil_method").set_value("logit-std").run()
    assert len(at.error) == 1
    assert "cannot be had on two classes" in at.error[0].value
    assert "Distil" not in labels(at)
    at.selectbox(key="distil_method").set_value("kd").run()
    assert not at.error
    assert not at.warning


def test_distil_plans_and_queues_three_runs_and_follows_them(idle):  # noqa: F811
    at = form()
    at.number_input(key="distil_kd_alpha").set_value(0.3).run()
    press(at, "Distil")
    store = Store()
    runs = {run.spec.method: run for run in store}
    student = runs["kd"]
    assert len(list(store)) == 3
    assert (student.spec.depth, student.spec.epochs, student.spec.image_size) == (2, 1, SIZE)
    assert student.spec.method_args["alpha"] == 0.3
    assert store[student.spec.teacher].spec.model == "test_resnet"
    assert [run.id for run in queue().waiting][::2] == [student.spec.teacher, student.id]
    assert at.query_params["run"] in (student.id, [student.id])
    assert "Cancel" in labels(at)


def test_a_truncated_student_keeps_the_teachers_first_stages(idle):  # noqa: F811
    at = form()
    at.segmented_control(key="distil_student_kind").set_value("truncated").run()
    assert not at.error
    assert "test_resnet-first2" in at.table[0].value[""][1]
    assert at.slider(key="distil_depth").max == 4
    at.selectbox(key="distil_teacher_model").set_value("test_efficientnet").run()
    assert "test_efficientnet-first2" in at.table[0].value[""][1]


def test_a_timm_student(idle):  # noqa: F811
    at = form()
    at.segmented_control(key="distil_student_kind").set_value("timm").run()
    at.selectbox(key="distil_student_model").set_value("test_efficientnet").run()
    assert "Student · test_efficientnet" in list(at.table[0].value[""])


def test_what_is_wrong_is_said_in_place_and_nothing_of_the_form_is_lost():
    at = form()
    at.query_params["data"] = "/nowhere/brains"  # AppTest cannot type into a list of choices
    at.run()
    assert len(at.error) == 1
    assert "There is no data set '/nowhere/brains'" in at.error[0].value
    assert not list(Store())
    at.query_params["data"] = DATA
    at.run()
    assert not at.error
    assert at.selectbox(key="distil_teacher_model").value == "test_resnet"
    assert at.slider(key="distil_depth").value == 2


def test_a_weights_file_must_be_named_and_be_there(tmp_path):
    at = form()
    at.selectbox(key="distil_teacher_weights").set_value("file").run()
    assert "type the path" in at.error[0].value
    at.text_input(key="distil_teacher_weights_file").set_value(str(tmp_path / "none.pth")).run()
    assert "none.pth" in at.error[0].value


def test_a_finished_run_can_be_the_teacher(idle):  # noqa: F811
    at = form()
    press(at, "Distil")
    store = Store()
    teacher = store[next(run for run in store if run.spec.teacher).spec.teacher]
    trio_files = {"classes": ["a"], "accuracy": 0.9, "data": {}, "seconds": 1.0}
    (teacher.path / "summary.json").write_text(json.dumps(trio_files))
    at = form()
    at.segmented_control(key="distil_view").set_value("New distillation").run()
    at.segmented_control(key="distil_teacher_way").set_value("Use a finished run").run()
    assert at.selectbox(key="distil_teacher_run").value == teacher.id
    assert not at.error
    assert "Teacher: finished before, used again" in words(at)


def test_the_last_distillation_is_shown_with_its_result():
    _, _, student = trio(Store())
    at = page()
    shown = at.table[0].value
    assert list(shown.iloc[0])[:4] == ["Accuracy,\u00a0%", "95.0", "85.0", "90.0"]
    assert shown.iloc[0]["Student − control"].startswith("+5.0\u00a0(")
    assert shown.iloc[0]["Student − teacher"].startswith("−5.0\u00a0(")
    likelihood, calibration = (shown.iloc[row]["Student − control"] for row in (2, 3))
    assert re.fullmatch(r"[+−]\d\.\d{3}\u00a0\([+−]\d\.\d{3}\u00a0to\u00a0[+−]\d\.\d{3}\)", likelihood)
    assert re.fullmatch(r"[+−]\d+\.\d\u00a0\([+−]\d+\.\d\u00a0to\u00a0[+−]\d+\.\d\)", calibration)
    assert "On 120 test images the student is **5.0 points below**" in words(at)
    assert "**5.0 points above**" in words(at)
    assert at.query_params["run"] in (student.id, [student.id])
    [chart] = charts(at)
    assert {trace["name"] for trace in chart["data"]} == {"teacher", "control", "student", "hard loss", "soft loss"}
    assert "Compare explanations" in labels(at)


@pytest.mark.parametrize("role", [0, 1, 2])
def test_a_link_to_any_of_the_three_runs_shows_their_distillation(role):
    runs = trio(Store())
    trio(Store(), seed=1)
    at = page(run=runs[role].id)
    assert at.query_params["run"] in (runs[2].id, [runs[2].id])


def test_an_unknown_run_is_said_and_the_form_is_offered():
    at = page(run="nonsense")
    assert "nonsense" in at.error[0].value
    assert "Distil" in labels(at)


def test_progress_is_read_off_the_folders_and_cancel_stops_all_three(idle):  # noqa: F811
    runs = trio(Store(), done=False)
    queue().submit(runs)
    teacher = runs[0]
    epochs(teacher, 3)
    teacher.write_progress("training", epoch=3, epochs=8, step=5, steps=10, images_per_second=321.4, seconds_left=17.0)
    at = page(run=runs[2].id)
    assert "epoch 4 of 8 · 321 images/s · 44 % · 17 s left" in words(at)
    assert "loss of the teacher" in at.get("plotly_chart")[0].proto.spec
    press(at, "Cancel")
    assert [run.status for run in runs] == [CANCELLED] * 3
    press(at, "Resume")
    assert [run.status for run in runs] == [QUEUED] * 3


def test_cancel_spares_a_teacher_that_another_student_waits_for(idle):  # noqa: F811
    store = Store()
    teacher, control, student = trio(store, done=False)
    other = store.create(replace(student.spec, method_args={"alpha": 0.2}))
    queue().submit([teacher, control, student, other])
    press(page(run=student.id), "Cancel")
    assert student.status == CANCELLED
    assert [run.status for run in (teacher, control, other)] == [QUEUED] * 3


def test_the_form_repeats_with_further_seeds_under_one_teacher(idle):  # noqa: F811
    at = form()
    at.number_input(key="distil_seeds").set_value(3).run()
    assert "3 controls" in words(at)
    press(at, "Distil")
    store = Store()
    students = [run for run in store if run.spec.teacher]
    assert sorted(run.spec.seed for run in students) == [0, 1, 2]
    assert len({run.spec.teacher for run in students}) == 1
    assert len(queue().waiting) == 7
    assert at.query_params["run"] in [[run.id] for run in students if not run.spec.seed] + [
        run.id for run in students if not run.spec.seed]
    assert "0 of 3 finished" in words(at)


def test_a_series_shows_three_rows_and_what_its_finished_seeds_came_to(idle):  # noqa: F811
    made = series(Store(), done=1)
    queue().submit(made.runs)
    control, student = made.pairs[1]
    finish(epochs(control, 8), 20)
    student.log("started")
    student.write_progress("training", epoch=3, epochs=8, step=5, steps=10, images_per_second=321.4, seconds_left=17.0)
    at = page(run=made.pairs[0][1].id)
    said = words(at)
    assert said.count(":blue[●]") == said.count(":gray[●]") == said.count(":orange[●]") == 1
    assert "2 of 3 finished" in said
    assert "1 of 3 finished · seed 1: epoch 4 of 8 · 321 images/s" in said
    assert "2 of 3 seeds are left out" in said
    assert list(at.table[0].value.iloc[0])[1:4] == ["95.0", "85.0", "90.0"]
    press(at, "Cancel")
    assert QUEUED not in {run.status for run in made.runs}
    assert made.pairs[2][0].status == made.pairs[2][1].status == CANCELLED


def test_a_series_is_told_with_its_spread_and_each_seed_can_be_looked_at():
    made = series(Store())
    at = page()
    said = words(at)
    assert "· 3 seeds" in said
    assert "on average over 3 seeds, **8.3 points below** its teacher" in said
    assert "**3.3 points above** the control" in said
    scores, seeds = (table.value for table in at.table[:2])
    assert list(scores.iloc[0])[1:4] == ["95.0", "83.3\u00a0±\u00a01.7", "86.7\u00a0±\u00a03.3"]
    assert list(seeds["Difference"]) == ["+5.0", "+3.3", "+1.7"]
    assert at.query_params["run"] in (made.pairs[0][1].id, [made.pairs[0][1].id])
    at.selectbox(key=f"seed-{made.pairs[0][1].id}").set_value(2).run()
    assert not at.exception, at.exception
    assert at.query_params["run"] in (made.pairs[2][1].id, [made.pairs[2][1].id])
    assert at.selectbox(key=f"seed-{made.pairs[2][1].id}").value == 2


def test_a_failure_is_told_in_its_words_with_a_way_to_go_on(idle):  # noqa: F811
    runs = trio(Store(), done=False)
    runs[0].log("started")
    runs[0].log(FAILED, reason="The disk is full. Delete runs, then resume.")
    at = page(run=runs[2].id)
    assert "The disk is full" in at.error[0].value
    press(at, "Try again")
    assert [run.status for run in runs] == [QUEUED] * 3


def test_the_students_maps_of_the_newest_epoch_are_shown_and_blank_ones_are_said():
    _, _, student = trio(Store())
    images = np.zeros((2, 8, 8, 3), np.uint8)
    probe_images._save(student.path / "probes" / "images.npz", images=images, labels=np.array([0, 3]))
    waves = np.random.default_rng(0).random((2, 4, 4))
    probe_images.store_maps(student, 0, [waves])
    probe_images.store_maps(student, 7, [waves, np.ones((2, 2, 2)), waves, waves, waves])
    at = page()
    captions = [image.proto.imgs[0].caption for image in at.get("image")]
    assert captions == ["image", "1 · 4×4", "2 · 2×2 · blank", "3 · 4×4", "4 · 4×4", "5 · 4×4"]
    assert "Stage 2: 2×2 cells: too coarse to tell where" in words(at)
    chosen = at.selectbox(key=f"probe-{student.id}")
    assert chosen.options == ["glioma", "pituitary"]
    assert "After epoch 8" in words(at)


def shown(at: AppTest) -> list[str]:
    captions = [image.proto.imgs[0].caption for image in at.get("image")]
    return [caption for caption in captions if caption.endswith("unmasked")]


def test_an_explained_student_shows_its_masks_epoch_by_epoch():
    student = distilled(Store(), method="medtex").student
    summary = student.summary
    write_json(student.path / "summary.json", {**summary, "best_epoch": None})  # as while it trains
    at = page()
    assert len(shown(at)) == 4
    assert shown(at)[0].startswith("glioma · ")
    assert "After epoch 2: a validation image, its mask" in words(at)
    assert "after epochs 1, 2" in words(at)
    assert "mask area" not in {trace["name"] for trace in charts(at)[0]["data"]}, "it is a setting"
    [slider] = at.select_slider
    assert (slider.options, slider.value) == (["1", "2"], 1)
    probe_images.store_maps(student, 2, probe_images.latest_maps(student)[1], np.zeros((4, SIZE, SIZE)))
    at.run()
    assert at.select_slider[0].value == 2, "the newest is followed"
    assert at.select_slider[0].key != slider.key, "a browser that has not heard of it moves the old one, not this one"
    assert shown(at) == [f"{name} · 0.0 % unmasked" for name in ("glioma", "meningioma", "notumor", "pituitary")]
    at.select_slider[0].set_value(0).run()
    assert "After epoch 1:" in words(at)
    probe_images.store_maps(student, 3, probe_images.latest_maps(student)[1], np.ones((4, SIZE, SIZE)))
    at.run()
    assert at.select_slider[0].value == 0, "what was chosen stays"
    at.select_slider[0].set_value(3).run()
    write_json(student.path / "summary.json", {**summary, "best_epoch": 1})
    at.run()
    assert at.select_slider[0].value == 1, "at the end the kept epoch is shown"
    assert not at.exception


def test_a_soft_mask_of_the_first_versions_has_its_area_by_epoch():
    student = distilled(Store(), method="medtex").student
    write_json(student.path / "spec.json", {**student.spec.to_json(), "mask_area": 0.0, "mask_target": "none"})
    at = page()
    assert not at.exception and len(shown(at)) == 4
    assert "mask area" in {trace["name"] for trace in charts(at)[0]["data"]}


def test_masks_that_explain_nothing_are_warned_of_with_the_knob():
    trio = distilled(Store(), method="medtex")
    summary = trio.student.summary
    for told in ({"collapsed": "Mask collapsed: all open."}, {"leak": "The fill tells the class."}):
        mask = {**summary["mask"], "collapsed": "", "leak": "", **told}
        write_json(trio.student.path / "summary.json", {**summary, "mask": mask})
        [warning] = page().warning
        assert f"Student: {next(iter(told.values()))}" in warning.value
    write_json(trio.student.path / "summary.json", {**summary, "mask": {**mask, "leak": ""}})
    assert not any("Mask" in one.value or "fill" in one.value for one in page().warning)


def test_an_ordinary_student_has_no_masks_to_show():
    distilled(Store())
    at = page()
    assert not shown(at)
    assert "What the student is shown" not in words(at)
    assert not at.select_slider
    assert "mask area" not in {trace["name"] for trace in charts(at)[0]["data"]}


def test_the_view_switches_to_the_form_and_back():
    trio(Store())
    at = page()
    at.segmented_control(key="distil_view").set_value("New distillation").run()
    assert "Distil" in labels(at)
    assert "run" not in at.query_params
    at.segmented_control(key="distil_view").set_value("Progress and result").run()
    assert "Compare explanations" in labels(at)


def test_result_rows_only_when_all_have_finished():
    runs = trio(Store())
    assert all(run.status == FINISHED for run in runs)
    (runs[2].path / "summary.json").unlink()
    at = page()
    assert not at.table
    assert "**Student**" in words(at)


def test_figures_are_made_once_per_epoch_for_all_who_look():
    from pages.parts.distill import progress

    _, _, student = trio(Store())
    found = progress.find(Store(), student.id)
    seen = tuple(run.epochs()[-1]["time"] for run in found.runs)
    first = progress._figure(found, seen)
    assert progress._figure(progress.find(Store(), student.id), seen) is first
    epochs(student, 1)
    assert progress._figure(found, (*seen[:2], student.events()[-1]["time"])) is not first
