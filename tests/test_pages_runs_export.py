"""Exports and reports on a run's page."""

import time
from functools import partial

from fabricate import trio
from opened import open_page
from small import trained
from test_pages_home import idle, words  # noqa: F401  (a fixture)
from test_pages_runs import press

from kd.export import report
from kd.jobs import tasks
from kd.reporting.files import report_path
from kd.store.files import write_json
from kd.store.runs import Store

page = partial(open_page, "pages/runs.py")


def test_an_export_is_made_and_can_be_downloaded():
    run = trained(Store(), epochs=1, model="test_resnet")
    at = page(run=run.id)
    assert "net.load_state_dict(load_file(\"weights.safetensors\"))" in at.code[0].value
    at.segmented_control(key="export_format").set_value("safetensors").run()
    assert at.checkbox(key="export_int8").disabled
    at = press(at, "Export")
    ends = time.monotonic() + 60
    while tasks.status(run, "export").active and time.monotonic() < ends:
        time.sleep(0.05)
    assert tasks.status(run, "export").state == "finished", tasks.status(run, "export").reason
    at = page(run=run.id)
    assert "the run's own weights" in words(at)
    assert [button.label for button in at.get("download_button")][-2:] == ["Everything (zip)", "Download"]
    assert (report.folder_of(run, "safetensors") / "README.md").exists()


def test_an_export_of_an_earlier_version_stands_without_its_8_bit_form():
    _, _, student = trio(Store())
    write_json(report.folder_of(student, "onnx") / report.REPORT, {
        "format": "onnx", "file": "model.onnx", "bytes": 2_000_000,
        "checked": [{"batch": 1, "greatest": 1e-6, "output": "logits"}], "int8": {"same_class": 0.75}})
    at = page(run=student.id)
    assert "as torch to 1e-06 of the largest value, for batches of 1" in words(at)
    assert "8-bit form, in brackets" not in words(at)


def test_a_failed_export_says_why():
    _, _, student = trio(Store(), data="/nowhere")
    press(page(run=student.id), "Export")
    ends = time.monotonic() + 60
    while tasks.status(student, "export").active and time.monotonic() < ends:
        time.sleep(0.05)
    assert tasks.status(student, "export").state == "failed"
    at = page(run=student.id)
    assert at.error[0].value == tasks.status(student, "export").reason != ""


def test_a_report_is_made_on_the_queue_and_offered():
    teacher, _, student = trio(Store(), data="/nowhere")
    assert "Make a report" not in [button.label for button in page(run=teacher.id).button]
    press(page(run=student.id), "Make a report")
    ends = time.monotonic() + 60
    while tasks.status(student, "report").active and time.monotonic() < ends:
        time.sleep(0.05)
    at = page(run=student.id)
    assert at.error[0].value == tasks.status(student, "report").reason != ""  # there are no such images
    report_path(student).write_text("<!DOCTYPE html>")
    at = page(run=student.id)
    assert "Report (HTML)" in [button.label for button in at.get("download_button")]
    assert "Make it anew" in [button.label for button in at.button]
