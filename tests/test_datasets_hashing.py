"""Content digests and their memory."""

import os
from pathlib import Path

import pytest

from kd.datasets import hashing
from kd.datasets.hashing import combine, digest_file, digest_files


def age(path: Path, seconds: int = 60) -> None:
    """Make a file look settled, as one is that nobody has touched for a while."""
    then = path.stat().st_mtime_ns - seconds * 10**9
    os.utime(path, ns=(then, then))


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The list that grows by each file whose bytes are read."""
    seen: list[Path] = []

    def spy(path: Path, mode: str) -> object:
        seen.append(path)
        return open(path, mode)

    monkeypatch.setattr(hashing, "open", spy, raising=False)
    return seen


def test_the_second_look_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_SETTLED", -(10**12))
    path = tmp_path / "a"
    path.write_bytes(b"one")
    seen = count_reads(monkeypatch)
    first = digest_files({"a": path}, tmp_path / "memory.json")
    assert digest_files({"a": path}, tmp_path / "memory.json") == first
    assert seen == [path]


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    seen = count_reads(monkeypatch)
    digest_file(path, tmp_path / "memory")
    digest_file(path, tmp_path / "memory")
    assert seen == [path, path]


def test_changed_content_of_equal_length_and_age_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    age(path)
    stamp = path.stat().st_mtime_ns
    first = digest_file(path, tmp_path / "memory")
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp, stamp))  # as `cp -p` and archivers do
    assert digest_file(path, tmp_path / "memory") != first


def test_a_broken_memory_is_forgotten(tmp_path: Path) -> None:
    path, memory = tmp_path / "a", tmp_path / "m.json"
    path.write_bytes(b"one")
    first = digest_files({"a": path}, memory)
    for broken in ("{", "[]", "7"):
        memory.write_text(broken)
        assert digest_files({"a": path}, memory) == first


def test_an_unwritable_memory_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_SETTLED", -(10**12))
    path = tmp_path / "a"
    path.write_bytes(b"one")
    (tmp_path / "file").write_text("in the way")
    assert digest_file(path, tmp_path / "file") == digest_file(path, tmp_path / "other")


def test_a_missing_file_has_a_digest_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    missing = digest_file(path, tmp_path / "m")
    path.write_bytes(b"")
    assert digest_file(path, tmp_path / "m") != missing


def test_names_count_and_order_does_not() -> None:
    assert combine({"a": "1", "b": "2"}) == combine({"b": "2", "a": "1"})
    assert len({combine({"a": "1", "b": "2"}), combine({"a": "2", "b": "1"}), combine({"a": "1"}), combine({})}) == 4
    assert combine({"a": "1;1:b=2"}) != combine({"a": "1", "b": "2"})
    assert len(combine({os.fsdecode(b"\xff"): "1"})) == 32
