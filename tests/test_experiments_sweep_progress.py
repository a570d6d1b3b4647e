import pytest
from made_sweep import SWEEP, done, made

from kd.experiments.sweep import plan, runs
from kd.experiments.sweep.progress import place, sweep_status
from kd.store.runs import FAILED, QUEUED, Store


@pytest.fixture
def store():
    return Store()


def test_before_anything(store):
    found = sweep_status(plan(SWEEP, store), store)
    assert (found.cells, found.done, found.runs, found.finished, found.share) == (4, 0, 13, 0, 0.0)
    assert found.active == ()
    assert len(found.ended) == 13
    assert found.seconds_left == 0.0


def test_what_waits_takes_as_long_as_its_kind(store):
    cells = made(store, seeds=1)  # each took 75 s
    left = [run for run in runs(cells, store) if not run.summary]
    locks = [run.lock() for run in left[:3]]
    for run, lock in zip(left, locks, strict=False):
        lock.acquire()
        run.log(QUEUED)
    found = sweep_status(cells, store)
    assert (found.done, found.finished, len(found.active), len(found.ended)) == (0, 7, 3, 3)
    assert found.current is None
    assert found.seconds_left == 3 * 75.0
    left[0].log("started")
    left[0].write_progress("training", epoch=0, epochs=2, step=1, steps=4, seconds_left=12.0)
    found = sweep_status(cells, store)
    assert found.current == left[0]
    assert found.seconds_left == 12.0 + 2 * 75.0
    for lock in locks:
        lock.release()


def test_time_is_not_made_up_before_anything_has_finished(store):
    cells = plan(SWEEP, store)
    run = runs(cells, store)[0]
    with run.lock():
        run.log(QUEUED)
        assert sweep_status(cells, store).seconds_left is None


def test_a_failure_and_a_deleted_run(store):
    cells = made(store)
    lost = cells[0].pairs[1][1]
    store.delete(lost)
    broken = store[cells[1].pairs[0][1]]
    (broken.path / "summary.json").unlink()
    broken.log(FAILED, reason="no luck")
    found = sweep_status(cells, store)
    assert (found.done, found.runs, found.finished, found.ended) == (2, 13, 11, (broken,))
    done(broken, 10, 0.9)
    assert sweep_status(cells, store).done == 3


def test_places_in_words(store):
    cells = plan(SWEEP, store)
    assert place(store[cells[0].teacher], cells) == "teacher test_resnet"
    assert place(store[cells[3].pairs[1][0]], cells) == "control plain3w4, seed 2 of 2"
    assert place(store[cells[2].pairs[0][1]], cells) == "cell 3 of 4, depth 3, alpha 0.4: student, seed 1 of 2"
