import json
import os

import pytest

from kd.store import event_log
from kd.store.event_log import read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def add(path, text):
    """Append while the clock of the disk stands still."""
    with path.open("a") as file:
        file.write(text)
    os.utime(path, ns=(10**18, 10**18))


def line(number):
    return json.dumps({"event": "note", "time": 1.0, "number": number}) + "\n"


def numbers(path):
    return [event["number"] for event in read(path)]


def test_every_look_has_all_and_parses_only_what_is_new(path, monkeypatch):
    parsed = []
    loads = json.loads
    monkeypatch.setattr(event_log.json, "loads", lambda text: parsed.append(text) or loads(text))
    assert read(path) == []
    for number in range(5):
        add(path, line(number))
        assert numbers(path) == numbers(path) == list(range(number + 1))
    assert len(parsed) == 5


def test_half_a_line_waits_for_its_other_half(path):
    add(path, line(0) + line(1)[:9])
    assert numbers(path) == [0]
    add(path, line(1)[9:])
    assert numbers(path) == [0, 1]


def test_what_is_no_event_is_passed_over(path):
    add(path, "nonsense\n[1]\n{}\n\xff\n" + line(3))
    assert numbers(path) == [3]


@pytest.mark.parametrize("again", [[7], [7, 8, 9], []], ids=str)
def test_a_file_that_was_written_anew_is_read_anew(path, again):
    add(path, line(0) + line(1))
    assert numbers(path) == [0, 1]
    path.unlink()
    add(path, "".join(map(line, again)))
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    assert numbers(path) == again


def test_what_a_reader_does_to_the_list_stays_with_him(path):
    add(path, line(0))
    read(path).clear()
    assert numbers(path) == [0]


def test_not_more_than_so_many_files_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(event_log, "MOST", 3)
    monkeypatch.setattr(event_log, "_known", {})
    for number in range(6):
        add(tmp_path / str(number), line(number))
        assert numbers(tmp_path / str(number)) == [number]
    assert len(event_log._known) <= 3
