import multiprocessing
import subprocess
import sys

import pytest
from children import hold_machine
from small import request, spec
from streamlit.testing.v1 import AppTest
from waiting import PATIENCE, wait_for

from kd.experiments.plan import plan_first_seed
from kd.jobs import queue as jobs_queue
from kd.paths import PROJECT
from kd.store.runs import Store
from kd.torch_utils import compute

LONG = {"epochs": 1000}


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def queue(store):
    queue = jobs_queue.Queue(store.paths)
    yield queue
    queue.stop()


def test_a_distillation_runs_to_its_end_in_order(store, queue):
    trio = plan_first_seed(request(), store)
    assert queue.submit(trio.runs) == list(trio.runs)
    assert queue.join(PATIENCE)
    assert [run.status for run in trio.runs] == ["finished"] * 3, [run.failure_reason for run in trio.runs]
    ends = [run.last_event("epoch")["time"] for run in trio.runs]
    assert ends == sorted(ends)
    assert queue.submit(trio.runs) == []


def test_cancel_answers_between_batches_and_the_worker_lives_on(store, queue):
    long, short = store.create(spec(**LONG)), store.create(spec())
    queue.submit([long])
    assert wait_for(lambda: len(long.epochs()) >= 1)
    assert long.status == "running"
    assert queue.current == long
    queue.cancel(long)
    assert wait_for(lambda: long.status == "cancelled")
    assert long.weights.exists()
    queue.submit([short])
    assert queue.join(PATIENCE)
    assert short.status == "finished"


def test_cancelling_a_teacher_cancels_those_who_wait_for_it(store, queue):
    trio = plan_first_seed(request(**LONG), store)
    queue.submit(trio.runs)
    assert wait_for(lambda: trio.teacher.status == "running")
    assert [run.status for run in trio.runs[1:]] == ["queued", "queued"]
    queue.cancel(trio.teacher)
    queue.cancel(trio.control)
    assert queue.join(PATIENCE)
    assert [run.status for run in trio.runs] == ["cancelled"] * 3


def test_an_error_ends_the_run_as_failed_with_a_reason_and_the_next_runs(store, queue):
    bad, good = store.create(spec(data="/gone")), store.create(spec())
    queue.submit([bad, good])
    assert queue.join(PATIENCE)
    assert bad.status == "failed"
    assert "/gone" in bad.failure_reason
    assert good.status == "finished"


def test_a_defect_is_said_in_words_and_keeps_its_traceback(store, queue, monkeypatch):
    from kd.training import loop

    def defect(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(loop, "_batches", defect)
    run = store.create(spec())
    queue.submit([run])
    assert queue.join(PATIENCE)
    assert "Internal error (ZeroDivisionError" in run.failure_reason
    assert "defect" in run.last_event("failed")["traceback"]


@pytest.mark.parametrize(("error", "words"), [
    (MemoryError(), "ran out of memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "Take a smaller batch"),
    (OSError(28, "No space left on device"), "The disk is full. Delete runs or data caches, then resume"),
])
def test_common_disasters_have_a_way_out(error, words):
    assert words in jobs_queue._in_words(error)


def test_a_stopped_server_leaves_interrupted_runs_that_resume(store, queue):
    trio = plan_first_seed(request(**LONG), store)
    queue.submit(trio.runs)
    assert wait_for(lambda: len(trio.teacher.epochs()) >= 1)
    queue.stop()
    assert wait_for(lambda: trio.teacher.status == "interrupted")
    again = jobs_queue.Queue(store.paths)
    # The first server still holds the queued ones; a process that ends lets them go.
    for _, lock in queue._waiting:
        lock.release()
    assert [run.status for run in trio.runs] == ["interrupted"] * 3
    assert again.resume(trio.student) == [trio.teacher, trio.student]
    assert wait_for(lambda: trio.teacher.status == "running")
    again.cancel(trio.teacher)
    assert again.join(PATIENCE)
    again.stop()


def test_one_training_at_a_time_per_machine(store, queue):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold_machine, args=(ready, done))
    other.start()
    assert ready.wait(PATIENCE)
    run, dropped = store.create(spec()), store.create(spec(seed=1))
    queue.submit([dropped, run])
    assert wait_for(lambda: "another program" in dropped.progress.get("phase", ""))
    assert dropped.status == "queued"
    queue.cancel(dropped)
    assert wait_for(lambda: dropped.status == "cancelled")
    done.set()
    assert queue.join(PATIENCE)
    assert run.status == "finished"
    other.join()


def test_a_run_in_another_hand_is_not_queued_twice(store, queue):
    run = store.create(spec())
    with run.lock():
        run.log("started")
        assert queue.submit([run]) == []
    other = jobs_queue.Queue(store.paths)
    assert queue.submit([run]) == [run]
    assert other.submit([run]) == []
    assert queue.join(PATIENCE)


def test_there_is_one_queue_per_root_even_after_a_reload():
    code = ("import importlib; from kd.jobs import queue as jobs; first = jobs.queue(); importlib.reload(jobs); "
            "assert jobs.queue() is first")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_queue_does_not_import_torch():
    code = "import sys, kd.jobs.queue, kd.store.runs, kd.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_page_that_is_looked_at_does_not_change_on_how_many_threads_a_run_computes(store, queue, monkeypatch):
    monkeypatch.setattr(compute, "cores", lambda: 2)
    run = store.create(spec(**LONG))
    queue.submit([run])
    assert wait_for(lambda: len(run.epochs()) >= 1)
    at = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=PATIENCE).run()
    assert not at.exception, at.exception
    before = len(run.epochs())
    assert wait_for(lambda: len(run.epochs()) > before + 1)
    assert {number for epoch in run.epochs() for number in epoch["threads"]} == {2}
    queue.cancel(run)
    assert queue.join(PATIENCE)


def test_fold_teachers_are_resumed_before_their_student_which_falls_with_them(store, queue, monkeypatch):
    made = plan_first_seed(request(soft_targets="out-of-fold", folds=2), store)
    monkeypatch.setattr(queue, "_start", lambda: None)  # nothing is trained
    assert queue.resume(made.student) == [made.teacher, *made.folds, made.student]
    queue.cancel(made.folds[1])
    assert queue.waiting == [made.teacher, made.folds[0]]
