"""What killed and failed writes leave in a store, and when it is removed."""

import pytest
from fabricate import trio

from kd.store import remains
from kd.store.runs import Store


@pytest.fixture
def store(own_root):
    return Store()


def test_old_remains_are_removed_and_nothing_else(store, monkeypatch):
    _, _, student = trio(store)
    planned = trio(store, done=False, seed=1)[2]
    kept = {path for path in store.path.rglob("*") if path.is_file()} | {planned.path / "resume.pt"}
    (planned.path / "resume.pt").write_bytes(b"state")
    left = [student.path / "resume.pt", student.path / ".resume.pt.1f.part",
            planned.path / ".weights.safetensors.2e.part", store.path / ".deleted-x-1" / "spec.json",
            student.path / "tasks" / ".explain.json.3d.part"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10))
    assert remains.remove(store) == 0  # as young as a write that goes on
    monkeypatch.setattr(remains, "AGE", -1.0)
    with planned.lock():
        assert set(remains.found(store)) == {left[0], left[1], store.path / ".deleted-x-1", left[4]}
        assert remains.remove(store) == 40
        assert left[2].exists()
    remains.remove(store)
    assert {path for path in store.path.rglob("*") if path.is_file() and path.name != ".lock"} == kept


def test_what_cannot_be_removed_stays(store, monkeypatch):
    _, _, student = trio(store)
    student.resume_state.write_bytes(b"state")
    monkeypatch.setattr(remains, "AGE", -1.0)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(remains.os, "unlink", refuse)
    remains.remove(store)
    assert student.resume_state.exists()
