import multiprocessing
import pathlib
import shutil
import threading

import pytest
from children import hold_run
from fabricate import summarise
from waiting import PATIENCE

from kd.errors import UsageError
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store import runs
from kd.store.files import write_json
from kd.store.runs import Store


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def run(store):
    return store.create(RunSpec())


def test_the_same_spec_is_the_same_folder(store, run):
    assert store.create(RunSpec()).path == run.path
    assert store.create(RunSpec(seed=1)).path != run.path
    assert run.spec == RunSpec()


@pytest.mark.parametrize("new", ["augmentation", "mask_"])
def test_a_run_of_a_version_with_fewer_settings_is_found(store, new):
    """Its folder was named by a hash of fewer fields."""
    values = {name: value for name, value in RunSpec(seed=3).to_json().items() if not name.startswith(new)}
    assert len(values) < len(RunSpec().to_json())
    write_json(store.path / "older-run" / "spec.json", values)
    assert store.find(RunSpec(seed=3)).id == "older-run"
    assert store.create(RunSpec(seed=3)).id == "older-run"
    assert store.find(RunSpec(seed=4)) is None


def test_a_run_stored_with_an_int_for_a_float_keeps_its_folder_and_is_found(store):
    """Before specs were normalised, 0 and 0.0 were hashed to two names."""
    values = {**RunSpec(seed=3).to_json(), "weight_decay": 0}
    runs.write_json(store.path / "stored-with-an-int" / "spec.json", values)
    assert store["stored-with-an-int"].spec == RunSpec(seed=3, weight_decay=0.0)
    for zero in (0, 0.0, -0.0):
        assert store.create(RunSpec(seed=3, weight_decay=zero)).id == "stored-with-an-int"
    assert len(list(store)) == 1


def test_status_is_derived(store, run):
    assert run.status == runs.PLANNED
    lock = run.lock()
    with lock:
        assert run.status == runs.QUEUED
        run.log("queued")
        assert run.status == runs.QUEUED
        run.log("started")
        assert run.status == runs.RUNNING
    assert run.status == runs.INTERRUPTED
    run.log("failed", reason="no disk")
    assert (run.status, run.failure_reason) == (runs.FAILED, "no disk")
    run.log("queued")
    assert (run.status, run.failure_reason) == (runs.INTERRUPTED, "")
    run.log("cancelled")
    assert run.status == runs.CANCELLED
    summarise(run)
    assert run.status == runs.FINISHED


def test_a_run_that_was_only_planned_is_not_called_interrupted(run):
    assert not run.is_locked()
    assert run.status == runs.PLANNED
    run.log("data", classes=["a", "b"])  # no word on whether it was ever started
    assert run.status == runs.PLANNED
    run.log("queued")
    assert run.status == runs.INTERRUPTED


def test_a_run_knows_whether_its_images_may_be_mirrored_if_that_was_recorded(run):
    assert not run.mirrors
    run.log("data", classes=["a", "b"])  # as earlier versions did
    assert not run.mirrors
    run.log("data", classes=["a", "b"], flip=True)
    assert run.mirrors
    summarise(run, data={"flip": False})
    assert not run.mirrors


def _vanish(run):
    shutil.rmtree(run.path)


# What a run without its folder is worth; `weights` and `resume_state` are paths, which may always be named.
GONE = {"spec": RunSpec(), "planned_at": 0.0, "events": [], "epochs": [], "summary": None, "evaluation": None,
        "status": runs.PLANNED, "progress": {}, "failure_reason": "", "is_locked": False, "active_tasks": [],
        "cancel_requested": False, "clear_cancel": None, "size": 0, "mirrors": False, "label": RunSpec().model_label,
        "damage": "", "damaged_file": ""}
PATHS_AND_WRITERS = {"path", "id", "weights", "resume_state", "lock", "task_lock", "log", "write_progress",
                     "request_cancel", "last_event", "readable"}


def test_every_reader_of_a_run_is_tested_on_a_run_that_is_gone():
    assert {name for name in dir(runs.Run) if not name.startswith("_")} == {*GONE, *PATHS_AND_WRITERS} - {"path"}


@pytest.mark.parametrize("name", GONE)
def test_a_listed_run_that_another_process_deletes_can_still_be_read(store, run, name):
    (listed,) = store
    _vanish(run)
    value = getattr(listed, name)
    assert (value() if callable(value) else value) == GONE[name]
    assert listed.last_event("started") is None
    assert not run.path.exists()  # and reading brings nothing back


def test_a_run_deleted_between_listing_and_reading_is_passed_over(store, run, monkeypatch):
    other = store.create(RunSpec(seed=1))
    glob = pathlib.Path.glob

    def listed_then_deleted(path, pattern):
        found = list(glob(path, pattern))
        if run.path.exists():
            _vanish(run)
        return iter(found)

    monkeypatch.setattr(pathlib.Path, "glob", listed_then_deleted)
    assert [found.id for found in store] == [other.id]


def test_runs_may_be_deleted_while_all_are_looked_through(store, run):
    others = {store.create(RunSpec(seed=seed)).id: seed for seed in (1, 2)}
    seen = []
    for found in store:  # lazily: the rest is deleted before it is reached
        seen.append(found.spec.seed)
        for path in list(store.path.iterdir()):
            shutil.rmtree(path)
    assert len(seen) == 1 and {0, *others.values()}.issuperset(seen)


def test_a_handle_on_a_deleted_run_whose_spec_was_never_read_says_so(store, run):
    handle = runs.Run(run.path)
    _vanish(run)
    with pytest.raises(UsageError, match="was deleted"):
        _ = handle.spec
    assert not handle.readable()


def test_get_gives_a_run_that_stays_readable_or_none(store, run):
    found = store.get(run.id)
    _vanish(run)
    assert found.spec == RunSpec()
    assert store.get(run.id) is None and run.id not in store
    assert store.get("") is None and store.get("../../etc") is None


def test_many_probes_at_once_do_not_take_each_other_for_the_owner(run):
    run.log("started")
    seen = []
    threads = [threading.Thread(target=lambda: seen.extend(run.status for _ in range(30))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {runs.INTERRUPTED}


def test_a_lock_of_another_process_counts_and_dies_with_it(run):
    run.log("started")
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold_run, args=(run, ready, done))
    other.start()
    assert ready.wait(PATIENCE)
    assert run.status == runs.RUNNING
    other.kill()
    other.join()
    assert run.status == runs.INTERRUPTED


def test_a_torn_line_costs_only_itself(run):
    run.log("started")
    with (run.path / "events.jsonl").open("a") as file:
        file.write('{"event": "epo')
    run.log("cancelled")
    assert [event["event"] for event in run.events()] == ["started", "cancelled"]


def test_an_epoch_repeated_after_a_kill_counts_once(run):
    for epoch, loss in ((0, 3.0), (1, 2.0), (1, 2.5), (2, 1.0)):
        run.log("epoch", epoch=epoch, loss=loss, terms={}, val_loss=1.0, val_accuracy=0.5, val_macro_f1=0.5)
    assert [event["loss"] for event in run.epochs()] == [3.0, 2.5, 1.0]


def test_lookup_by_beginning(store, run):
    assert store[run.id[:-3]].id == run.id
    store.create(RunSpec(seed=1))
    with pytest.raises(UsageError, match="beginning of 2 runs"):
        store[run.id[:10]]
    with pytest.raises(UsageError, match="Unknown run"):
        store["nothing"]
    with pytest.raises(UsageError, match="Unknown run"):
        store["../../etc"]


def test_an_empty_store_says_so(store):
    with pytest.raises(UsageError, match="empty"):
        store["x"]
    assert list(store) == []


def test_a_name_too_long_for_a_file_is_unknown(store, run):
    assert store.get("x" * 300) is None
    with pytest.raises(UsageError, match="Unknown run"):
        store["x" * 300]


def test_a_store_that_cannot_be_written_to_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot be written to .*choose another root"):
        Store(Paths(tmp_path / "file")).create(RunSpec())


def test_delete(store, run):
    with run.lock(), pytest.raises(UsageError, match="cancel it first"):
        store.delete(run.id)
    pupil = store.create(RunSpec(method="kd", teacher=run.id))
    with pytest.raises(UsageError, match=f"teacher of {pupil.id}"):
        store.delete(run.id)
    store.delete(pupil.id)
    store.delete(run.id)
    assert list(store) == []
    assert list(store.path.iterdir()) == []


def test_a_run_of_another_version_is_passed_over(store, run):
    other = store.path / "newer"
    other.mkdir()
    (other / "spec.json").write_text('{"quantum": 1}')
    (store.path / "junk").mkdir()
    assert [found.id for found in store] == [run.id]


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '{"method_args": 5}'])
def test_a_run_whose_settings_are_damaged_says_so(store, content):
    damaged = store.path / "damaged"
    damaged.mkdir(parents=True)
    (damaged / "spec.json").write_text(content)
    assert not list(store)
    with pytest.raises(UsageError, match=r"run damaged is damaged: spec\.json .*\. Delete that run"):
        _ = store["damaged"].spec


def test_cancel_request_crosses_processes_by_a_file(run):
    assert not run.cancel_requested()
    run.request_cancel()
    assert runs.Run(run.path).cancel_requested()
    run.clear_cancel()
    assert not run.cancel_requested()


def test_progress(run):
    assert run.progress == {}
    run.write_progress("training", epoch=2)
    assert (run.progress["phase"], run.progress["epoch"]) == ("training", 2)


def folded(store):
    """A teacher, its two fold teachers and a student of them."""
    teacher = store.create(RunSpec(model="resnet18"))
    student = RunSpec(method="kd", teacher=teacher.id, soft_targets="out-of-fold", folds=2)
    return teacher, [store.create(spec) for spec in student.fold_teachers(teacher.spec)], store.create(student)


def test_fold_teachers_are_prerequisites_and_go_with_their_teacher(store):
    teacher, folds, student = folded(store)
    other = store.create(RunSpec(method="kd", teacher=teacher.id))
    assert store.prerequisites(student) == [teacher, *folds]
    assert store.prerequisites(other) == [teacher]
    assert store.prerequisites(teacher) == []
    assert store.folds_of(teacher) == folds
    for needed in (teacher, *folds):
        with pytest.raises(UsageError, match=f"teacher of .*{student.id}"):
            store.delete(needed.id)
    store.delete(student.id)
    store.delete(folds[0].id)
    store.delete(other.id)
    with folds[1].lock(), pytest.raises(UsageError, match="cancel it first"):
        store.delete(teacher.id)
    store.delete(teacher.id)
    assert not list(store)
