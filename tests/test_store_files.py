import json
import threading

import numpy as np
import pytest
from filelock import FileLock

from kd.store.files import atomic_write, held, read_npz, write_bytes, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_half_way(path):
    with atomic_write(path) as part:
        part.write_text("half")
        raise OSError("the disk is full")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(OSError, match="full"):
        fail_half_way(path)
    assert json.loads(path.read_text()) == {"a": 1}
    assert names(path.parent) == ["x.json"]


def test_until_the_block_ends_readers_see_the_old_file(tmp_path):
    path = tmp_path / "x"
    write_bytes(path, b"old")
    with atomic_write(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_several_writers_of_one_file(tmp_path):
    """Each of two at once writes a file of its own: the last one to finish wins, whole."""
    with atomic_write(tmp_path / "x") as one, atomic_write(tmp_path / "x") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x").read_text() == "one"
    assert names(tmp_path) == ["x"]


def test_arrays_are_read_and_a_damaged_file_is_as_none(tmp_path):
    file = tmp_path / "arrays.npz"
    assert read_npz(file) is None
    np.savez_compressed(file, one=np.arange(1000), two=np.ones(3))
    found, whole = read_npz(file), file.read_bytes()
    assert found is not None and sorted(found) == ["one", "two"] and found["one"].tolist() == list(range(1000))
    middle = len(whole) // 3
    for damaged in (b"", b"no archive", whole[:len(whole) // 2], whole[:middle] + bytes(40) + whole[middle + 40:]):
        file.write_bytes(damaged)
        assert read_npz(file) is None


def test_whether_a_lock_is_held(tmp_path):
    path = tmp_path / "lock"
    assert not held(FileLock(path))
    assert not path.exists(), "asking makes no file"
    with FileLock(path, thread_local=False):
        answers = []
        asking = [threading.Thread(target=lambda: answers.append(held(FileLock(path)))) for _ in range(4)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert answers == [True] * 4
    assert not held(FileLock(path))
