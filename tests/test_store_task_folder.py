"""Tasks that belong to a data set and not to a run: the same states, the same queue."""

import pytest

from kd.jobs.queue import Queue
from kd.jobs.tasks import TASKS, status
from kd.store.files import held
from kd.store.runs import Store
from kd.store.task_folder import TaskFolder


@pytest.fixture
def queue():
    queue = Queue(Store().paths)
    yield queue
    queue.stop()


def test_a_task_of_a_data_set_is_queued_computed_and_recorded_in_its_folder(queue, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(TASKS._members, "look", lambda store, owner, args, progress, stop: seen.append((owner, args)))
    owner = TaskFolder(tmp_path / "audits" / "abc", "the data set abc")
    asked = queue.submit_task(owner, "look", {"data": "abc"})
    assert queue.join(30)
    assert seen == [(owner, {"data": "abc"})]
    assert status(owner, "look").state == "finished"
    assert asked.path == owner.path / "tasks" / "look.json"
    assert asked.path.exists()
    assert asked.id == "look of the data set abc"
    assert not held(owner.task_lock("look"))


def test_a_failure_names_the_file_with_the_traceback(queue, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS._members, "bad", lambda *_: 1 / 0)
    owner = TaskFolder(tmp_path / "abc", "the data set abc")
    queue.submit_task(owner, "bad")
    assert queue.join(30)
    assert str(owner.path / "tasks" / "bad.json") in status(owner, "bad").reason
