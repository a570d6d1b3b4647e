"""The home page, as a reader sees it: run through the entry point, without a browser."""

import subprocess
import sys

import pytest
import streamlit as st
from fabricate import epochs, series, trio
from streamlit.testing.v1 import AppTest

from kd.experiments import demo
from kd.jobs.queue import Queue, queue
from kd.paths import PROJECT
from kd.store.runs import QUEUED, Store

COLD = """
import sys
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({entry!r}, default_timeout=120)
if {page!r}:
    at.switch_page({page!r})
at.run()
assert at.title and not at.exception, at.exception
print([name for name in ("torch", "timm", "matplotlib") if name in sys.modules])
"""


def home() -> AppTest:
    at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=120).run()
    assert not at.exception, at.exception
    return at


def words(at: AppTest) -> str:
    return "\n".join(str(element.value) for kind in (at.markdown, at.caption, at.subheader) for element in kind)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch):
    """A queue that takes runs and trains none."""
    monkeypatch.setattr(Queue, "_start", lambda self: None)
    yield
    jobs = queue()
    for run in jobs.waiting:
        jobs.cancel(run)


@pytest.mark.parametrize("page", ["", "pages/runs.py"])
def test_the_first_page_appears_without_torch(page):
    code = COLD.format(entry=str(PROJECT / "dashboard.py"), page=page)
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_nothing_yet_leads_to_the_demo_or_ones_own_pictures():
    at = home()
    assert [button.label for button in at.button] == ["Start the demo"]
    assert "Use your own images" in words(at)
    assert "Not for clinical use" in words(at)


def test_one_click_queues_the_three_runs_of_the_demo_and_shows_them(idle):
    at = home()
    at.button[0].click().run()
    runs = queue().waiting
    assert [run.spec.model for run in runs] == [demo.REQUEST.teacher, "plain", "plain"]
    assert [run.status for run in runs] == [QUEUED] * 3
    assert "Training" in words(at)
    assert [bar.proto.text.split("**")[1] for bar in at.main.get("progress")] == ["Teacher", "Control", "Student"]


def test_the_demo_is_not_repeated(idle):
    home().button[0].click().run()
    before = [run.id for run in Store()]
    at = home()
    next(button for button in at.button if button.label == "Start the demo").click().run()
    assert [run.id for run in Store()] == before
    assert len(queue().waiting) == 3


def test_the_banner_says_on_every_page_how_far_the_run_is(idle):
    teacher, control, student = trio(Store(), done=False)
    queue().submit([teacher, control, student])
    teacher.log("started")
    teacher.write_progress("training", epoch=2, epochs=8, step=5, steps=10, images_per_second=100.0, seconds_left=130.0)
    for page in ("", "pages/runs.py"):
        at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=120)
        if page:
            at.switch_page(page)
        at.run()
        bar = at.sidebar.get("progress")[0].proto
        assert bar.text == "**teacher resnet10t**  \n31 % · 2 min 10 s left"
        assert bar.value == 31
        assert "2 more queued" in [caption.value for caption in at.sidebar.caption]


def test_an_idle_machine_has_no_banner():
    trio(Store())
    assert not home().sidebar.get("progress")


def test_a_distillation_is_a_card_with_its_accuracies_and_what_distilling_bought():
    trio(Store())
    at = home()
    assert [(metric.label.split()[-1], metric.value) for metric in at.metric] == [
        ("Teacher", "95.0 %"), ("Control", "85.0 %"), ("Student", "90.0 %")]
    assert "5.0 points above" in words(at)
    assert "4.9 M params" in words(at)


def test_the_seeds_of_a_distillation_are_one_card():
    series(Store())
    at = home()
    assert words(at).count("3 seeds**") == 1
    assert [metric.value for metric in at.metric] == ["95.0 %", "83.3 %", "86.7 %"]
    assert "± 3.3 % over seeds" in words(at)
    assert "on average over 3 seeds" in words(at)


def test_a_series_in_training_is_three_bars(idle):
    made = series(Store(), done=1)
    queue().submit(made.runs)
    made.pairs[1][0].log("started")
    at = home()
    assert [bar.proto.text.split(" · ")[1:] for bar in at.main.get("progress")] == [
        ["finished", "95.0 %"], ["1 of 3 finished", "seed 1: starting"], ["1 of 3 finished"]]


def test_a_card_leads_to_the_comparison_of_its_student(monkeypatch):
    *_, student = trio(Store())
    asked = []
    monkeypatch.setattr(st, "switch_page", lambda page, query_params=None: asked.append((page, query_params)))
    home().button(key=f"compare-{student.id}").click().run()
    assert asked == [("pages/compare.py", {"run": student.id})]


def test_only_the_cause_of_a_failure_is_told_on_a_card():
    teacher, _, student = trio(Store(), done=False)
    teacher.log("failed", reason="Training diverged.")
    student.log("failed", reason="The teacher is failed.")
    at = home()
    assert "**Teacher failed.** Training diverged." in words(at)
    assert "The teacher is failed" not in words(at)


def test_interrupted_runs_are_announced():
    teacher, control, student = trio(Store(), done=False)
    for run, done in ((teacher, 2), (control, 1)):
        run.log("started")
        epochs(run, done)
    assert student.status == "planned"  # which nothing has interrupted
    assert "2 runs were interrupted" in words(home())


def test_a_card_outlives_its_deleted_teacher_and_control():
    teacher, control, student = trio(Store())
    Store().delete(control.id)
    for file in sorted(teacher.path.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    at = home()
    assert [metric.value for metric in at.metric] == ["–", "–", "90.0 %"]
    assert not [button for button in at.button if button.key == f"compare-{student.id}"]
