import multiprocessing
import threading

import numpy as np
import pytest
from children import work_until_killed
from made_leaks import make_clean
from made_runs import TEACHER, made
from small import distilled, request, spec, trained
from waiting import PATIENCE, wait_for

from kd.errors import Stopped, UsageError
from kd.experiments.sweep import Sweep, unfinished_runs
from kd.jobs import queue as jobs_queue
from kd.jobs import tasks
from kd.jobs.tasks import TASKS, TaskState, status, task
from kd.store.runs import Store


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def run(store):
    return made(store, TEACHER)


@pytest.fixture
def queue(store):
    queue = jobs_queue.Queue(store.paths)
    yield queue
    queue.stop()


class Gate:
    """A computation that goes on until it is let through; notes who came, in order."""

    def __init__(self):
        self.open, self.came, self.inside, self.most = threading.Event(), [], 0, 0

    def __call__(self, store, run, args, progress, should_stop):
        self.came.append((run.id, dict(args)))
        self.inside += 1
        self.most = max(self.most, self.inside)
        progress("waiting at the gate", 0.5)
        try:
            while not self.open.wait(0.02):
                if should_stop():
                    raise Stopped
        finally:
            self.inside -= 1


@pytest.fixture
def gate(monkeypatch):
    gate = Gate()
    monkeypatch.setitem(TASKS._members, "gate", gate)
    monkeypatch.setitem(TASKS._members, "second", gate)
    yield gate
    gate.open.set()


def test_a_task_goes_from_absent_to_finished(run, queue, gate):
    assert status(run, "gate") == TaskState()
    asked = queue.submit_task(run, "gate", {"limit": 3})
    assert wait_for(lambda: status(run, "gate").phase == "waiting at the gate")
    found = status(run, "gate")
    assert (found.state, found.share, found.active) == ("running", 0.5, True)
    assert found.args == {"limit": 3}
    assert queue.tasks == [asked]
    assert (queue.current, queue.waiting) == (None, [])
    gate.open.set()
    assert queue.join(PATIENCE)
    found = status(run, "gate")
    assert (found.state, found.share, found.reason) == ("finished", 1.0, "")
    assert found.asked <= found.started <= found.ended
    assert gate.came == [(run.id, {"limit": 3})]
    assert queue.tasks == []


def test_asking_twice_while_it_lives_is_asking_once_and_afterwards_computes_anew(store, run, queue, gate):
    queue.submit_task(run, "gate")
    assert wait_for(lambda: gate.came)
    assert queue.submit_task(run, "gate", {"other": 1}) == task(run, "gate")
    other = jobs_queue.Queue(store.paths)
    other.submit_task(run, "gate")
    assert other.tasks == []
    gate.open.set()
    assert queue.join(PATIENCE)
    assert len(gate.came) == 1
    queue.submit_task(run, "gate", {"other": 1})
    assert queue.join(PATIENCE)
    assert gate.came[1:] == [(run.id, {"other": 1})]


def test_one_at_a_time_in_the_order_asked_for(run, queue, gate):
    first, second = queue.submit_task(run, "gate", {"n": 1}), queue.submit_task(run, "second", {"n": 2})
    assert wait_for(lambda: first.status == "running")
    assert second.status == "queued"
    assert queue.tasks == [first, second]
    gate.open.set()
    assert queue.join(PATIENCE)
    assert [args["n"] for _, args in gate.came] == [1, 2]
    assert gate.most == 1


def test_training_asked_for_before_comes_first_and_what_came_after_waits(store, run, queue, gate):
    before, after = store.create(spec(epochs=1)), store.create(spec(epochs=1, seed=1))
    queue.submit([before])
    asked = queue.submit_task(run, "gate")
    queue.submit([after])
    assert wait_for(lambda: asked.status == "running")
    assert before.status == "finished"
    assert after.status == "queued"
    assert queue.waiting == [after]
    gate.open.set()
    assert queue.join(PATIENCE)
    assert after.status == "finished"


def test_a_running_and_a_waiting_task_can_be_cancelled_and_asked_for_again(run, queue, gate):
    first, second = queue.submit_task(run, "gate"), queue.submit_task(run, "second")
    assert wait_for(lambda: first.status == "running")
    queue.cancel(second)
    assert second.status == "cancelled"
    queue.cancel(first)
    assert wait_for(lambda: first.status == "cancelled")
    gate.open.set()
    assert queue.join(PATIENCE)
    assert len(gate.came) == 1
    queue.submit_task(run, "gate")
    assert queue.join(PATIENCE)
    assert first.status == "finished"


def test_another_process_can_cancel(run, queue, gate):
    asked = queue.submit_task(run, "gate")
    assert wait_for(lambda: asked.status == "running")
    jobs_queue.Queue(queue.store.paths).cancel(asked)
    assert queue.join(PATIENCE)
    assert asked.status == "cancelled"
    assert not asked.cancel_requested()


@pytest.mark.parametrize(("error", "words"), [
    (UsageError("Choose another picture."), "Choose another picture."),
    (ZeroDivisionError("division by zero"), "traceback is in the run's tasks/bad.json"),
    (MemoryError(), "Close what else runs here"),
    (OSError(28, "No space left on device"), "then start it again"),
])
def test_a_failure_is_said_in_words_and_the_worker_lives_on(run, queue, gate, monkeypatch, error, words):
    def fail(*_):
        raise error

    monkeypatch.setitem(TASKS._members, "bad", fail)
    gate.open.set()
    queue.submit_task(run, "bad")
    after = queue.submit_task(run, "gate")
    assert queue.join(PATIENCE)
    found = status(run, "bad")
    assert found.state == "failed"
    assert words in found.reason
    assert ("raise error" in found.traceback) == (not isinstance(error, UsageError))
    assert after.status == "finished"
    assert run.status == "finished"


def test_only_finished_runs_and_known_tasks(store, run, queue):
    unfinished = made(store, spec(), finished=False)
    with pytest.raises(UsageError, match="is planned, not finished"):
        queue.submit_task(unfinished, "readouts")
    assert not task(unfinished, "readouts").is_locked()
    with pytest.raises(UsageError, match="Did you mean 'readouts'"):
        queue.submit_task(run, "readout")
    with pytest.raises(TypeError, match="not JSON serializable"):
        queue.submit_task(run, "readouts", {"images": np.zeros(2)})
    assert status(run, "readouts") == TaskState()
    assert not task(run, "readouts").is_locked()


def test_a_killed_process_leaves_interrupted_tasks_that_can_be_asked_for_again(store, run, queue, gate):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=work_until_killed, args=(store.paths.root, run.id, ready, done))
    other.start()
    assert ready.wait(PATIENCE)
    assert wait_for(lambda: status(run, "readouts").state == "queued")
    assert status(run, "gate").state == "running"
    assert sorted(run.active_tasks()) == ["gate", "readouts"]
    other.kill()
    other.join()
    found = status(run, "gate")
    assert (found.state, found.share, found.args) == ("interrupted", 0.5, {"limit": 3})
    assert status(run, "readouts").state == "interrupted"
    assert run.active_tasks() == []
    gate.open.set()
    queue.submit_task(run, "gate", found.args)
    assert queue.join(PATIENCE)
    assert status(run, "gate").state == "finished"


def test_a_stopped_server_leaves_the_task_interrupted(run, queue, gate):
    asked = queue.submit_task(run, "gate")
    assert wait_for(lambda: asked.status == "running")
    queue.stop()
    assert wait_for(lambda: asked.status == "interrupted")


def test_a_task_waits_for_another_program_and_can_be_cancelled_meanwhile(run, queue, gate, monkeypatch):
    with jobs_queue.machine_lock():
        asked = queue.submit_task(run, "gate")
        assert wait_for(lambda: "another program" in asked.state.phase)
        assert asked.status == "queued"
        queue.cancel(asked)
        assert wait_for(lambda: asked.status == "cancelled")
    assert gate.came == []
    monkeypatch.setitem(TASKS._members, "silent", lambda *_: gate.open.wait(PATIENCE))
    with jobs_queue.machine_lock():
        silent = queue.submit_task(run, "silent")
        assert wait_for(lambda: "another program" in silent.state.phase)
    assert wait_for(lambda: silent.status == "running")
    assert silent.state.phase == ""


def test_a_run_with_a_live_task_is_not_deleted(store, run, queue, gate):
    asked = queue.submit_task(run, "gate")
    with pytest.raises(UsageError, match=r"is in use \(gate\): cancel that first"):
        store.delete(run.id)
    queue.cancel(asked)
    assert queue.join(PATIENCE)
    store.delete(run.id)
    assert run.id not in store


def test_state_of_another_version_counts_as_absent(run):
    (run.path / "tasks").mkdir()
    for content in ("{", '{"state": "running", "colour": "red"}', "[]"):
        (run.path / "tasks" / "readouts.json").write_text(content)
        assert status(run, "readouts").state == tasks.ABSENT


def test_looking_leaves_no_trace(run):
    assert not status(run, "readouts").active
    assert run.active_tasks() == []
    assert not (run.path / "tasks").exists()


def arguments(name, store):
    """What a task cannot do without."""
    if name == "audit":
        return {"data": "phantom-brain:count=40"}
    if name == "repair":
        return {"data": str(make_clean(store.paths.root / "set", 6, 3, 3)), "name": "mended",
                "exclude": ["ill-train-03.png"]}
    if name == "import":
        return {"source": str(make_clean(store.paths.root / "set", 6, 3, 3)), "name": "imported", "options": {}}
    if name != "sweep-times":
        return {}
    one = Sweep(request(epochs=1), {"alpha": (0.4, 0.7)})
    control = unfinished_runs(one, store)[1]
    assert jobs_queue.execute(control, store) == "finished"
    return {"sweep": one.id}


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_does_its_work_reports_and_stops_when_asked(store, queue, name):
    run = distilled(store, epochs=1).student if name == "report" else trained(store)
    before = run.weights.read_bytes()
    said, args = [], arguments(name, store)
    with pytest.raises(Stopped):
        TASKS[name](store, run, args, lambda *words: said.append(words), lambda: True)
    assert not [path for path in run.path.iterdir() if path.name.startswith(name)]
    queue.submit_task(run, name, args)
    assert queue.join(PATIENCE)
    assert status(run, name).state == "finished", status(run, name).reason
    again = {**args, "name": "another"} if "name" in args else args  # a set is never overwritten
    TASKS[name](store, run, again, lambda *words: said.append(words), lambda: False)
    assert all(isinstance(phase, str) and 0 <= share <= 1 for phase, share in said)
    assert run.weights.read_bytes() == before
    assert run.status == "finished"
