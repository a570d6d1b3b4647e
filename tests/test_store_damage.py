"""A run with a file that cannot be used is said to be damaged, everywhere, and harms no other."""

import json

import pytest
from fabricate import CLASSES, trio
from lanes import slow
from made_damage import HARMS, damaged, good
from opened import open_page

from kd.__main__ import main
from kd.errors import UsageError
from kd.experiments.results import distillation_result
from kd.jobs.queue import Queue, train_now
from kd.paths import Paths
from kd.store import event_log, run_files
from kd.store.groups import replicates_of
from kd.store.runs import DAMAGED, FINISHED, PLANNED, Run, Store
from kd.store.schema import COUNT, NUMBER, list_of, object_of, optional, table_of
from kd.training.teacher.cached_teacher import find_teacher

# What costs nothing: remains of a kill, progress that the next report replaces, results that can be computed anew.
HARMLESS = {"events.jsonl cut", "event deep", "progress noise", "progress a list", "progress odd",
            "predictions missing", "events empty", "events missing"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(Paths(tmp_path_factory.mktemp("damage")))


@pytest.fixture(scope="module")
def harmed(store):
    _, _, student = trio(store)
    return damaged(store, student)


@pytest.mark.parametrize("name", HARMS)
def test_a_run_says_which_file_cannot_be_used_and_the_way_out(harmed, name):
    run = harmed[name]
    if name in HARMLESS:
        assert (run.damage, run.status) == ("", FINISHED)
        return
    assert run.status == DAMAGED
    assert run.damage.startswith(f"The run {run.id} is damaged: {run.damaged_file} ")
    assert "Delete that run and train it again" in run.damage
    assert run.damaged_file.partition(".")[0] in {"spec", "summary", "evaluation", "events", "predictions", "weights"}
    assert run.summary is run.evaluation is None
    assert ("python -m kd evaluate" in run.damage) == (run.damaged_file in run_files.REWRITTEN)


@pytest.mark.parametrize("name", ["summary.json empty", "spec.json empty", "method_args a list"])
def test_a_damaged_run_is_refused_by_name_and_its_deletion_frees_its_place(own_root, capsys, name):
    store = Store()
    student = trio(store)[2]
    HARMS[name](student)
    spec, damaged = student.spec, Run(student.path)
    with pytest.raises(UsageError, match=f"run {student.id} is damaged"):
        train_now(store.create(spec), store)
    assert Queue(store.paths).submit([damaged]) == []
    assert main(["runs", "--json"]) == 0
    shown = {row["run"]: row for row in json.loads(capsys.readouterr().out)["runs"]}
    assert {name: row["status"] == DAMAGED for name, row in shown.items()} == {
        name: name == student.id for name in shown}
    assert main(["show", student.id]) == (0 if damaged.readable() else 2)
    assert main(["delete", student.id]) == 0
    assert not student.path.exists()
    assert store.create(spec).status == PLANNED


def test_a_damaged_seed_is_left_out_of_the_result(own_root):
    store = Store()
    _, control, student = trio(store)
    damaged(store, control, ("seconds null", "seconds text", "predictions.npz cut"))
    found = damaged(store, student, ("weights noise", "seconds text", "predictions.npz cut"))
    assert {run.status for run in found.values()} == {DAMAGED}
    result = distillation_result(replicates_of(store, student))
    assert (result.seeds, result.left_out) == ((0,), 3)


def test_a_damaged_teacher_teaches_nobody(own_root):
    store = Store()
    teacher, _, student = trio(store)
    HARMS["classes null"](teacher)
    with pytest.raises(UsageError, match="damaged, not finished"):
        find_teacher(student.spec, store, tuple(CLASSES))
    assert distillation_result(replicates_of(store, student)) is None


def test_pages_open_beside_damaged_runs(own_root):
    store = Store()
    _, control, student = trio(store)
    names = ("spec.json noise", "summary.json null", "method_args text", "seconds null", "predictions.npz cut",
             "epoch without number", "events.jsonl a folder", "progress odd")
    damaged(store, control, names)
    found = damaged(store, student, names)
    home = open_page("dashboard.py")
    assert any("14 runs are damaged" in one.value for one in home.markdown)
    at = open_page("pages/runs.py", run=found["seconds null"].id)
    assert [one.value.replace("\\", "") for one in at.error] == [found["seconds null"].damage]
    assert sum(button.label == "Delete" for button in at.button) == 2 * 2 + 1
    (table,) = (one.value for one in at.dataframe if "Status" in one.value)
    assert sorted(table["Status"]) == sorted(["✕ damaged"] * 10 + ["✓ finished"] * 5)


@pytest.mark.parametrize(("kind", "value", "wrong"), [
    (NUMBER, True, "is True, not a number"), (NUMBER, float("nan"), "is nan, not a number"),
    (NUMBER, 10**400, "is a number of too many digits, not a number"),
    (COUNT, -1, "is -1, not a whole number from 0 up"),
    (COUNT, 1.5, "is 1.5, not a whole number from 0 up"), (optional(COUNT), None, ""),
    (list_of(COUNT, least=1), [], "has 0 entries, not 1 or more"),
    (list_of(COUNT), {"a": 1}, "is an object of 1, not a list"),
    (table_of(NUMBER), {"a": "x" * 90}, "'a' is '" + "x" * 38 + "…, not a number"),
    (object_of({"a": COUNT}), {}, "has no a"), (object_of({"a": COUNT}, {"b": COUNT}), {"a": 0, "b": None, "c": []},
                                                "b is null, not a whole number from 0 up")])
def test_kinds_of_values(kind, value, wrong):
    assert kind.wrong(value) == wrong


def test_a_line_that_a_kill_left_is_no_damage(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "started", "time": 1.0}\n{"event": "ep' + bytes(20) + b'\n')
    assert event_log.fault(path) == ""
    path.write_bytes(path.read_bytes() + b'{"event": "epoch", "time": 2.0}\n')
    assert event_log.fault(path) == "line 3: has no epoch"
    assert [event["event"] for event in event_log.read(path)] == ["started"]


@pytest.mark.parametrize("script", slow("pages/compare.py", "pages/evaluate.py", "pages/distill.py", "pages/sweep.py",
                                        "pages/runs.py", "dashboard.py", "pages/data.py"))
def test_every_page_opens_beside_every_damage(own_root, script):
    store = Store()
    start = good(store)
    for run in (start.control, start.student):
        damaged(store, run)
    at = open_page(script, run=start.student.id)
    assert not [one.value for one in at.error if "Internal error" in one.value]
