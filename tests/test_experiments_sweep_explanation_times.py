import pytest
from small import request, trained

from kd.errors import Stopped, UsageError
from kd.experiments.sweep import Sweep, plan, runs
from kd.experiments.sweep.explanation_times import TASK, measure, missing, read
from kd.jobs import tasks
from kd.jobs.queue import execute
from kd.store.runs import Store

SWEEP = Sweep(request(epochs=1), {"depth": (2, 3), "alpha": (0.4, 0.7)})


@pytest.fixture
def store():
    return Store()


def train(store, count):
    """Plan the sweep and train its first runs: teacher, the two controls, the students."""
    found = runs(plan(SWEEP, store), store)[:count]
    for run in found:
        assert execute(run, store) == "finished", run.failure_reason
    return found


def test_each_architecture_is_timed_once_and_the_result_is_kept(store):
    teacher, *_ = train(store, 3)
    assert [run.spec.model_label for run in missing(SWEEP, store)] == ["plain3w4", "plain2w4", "test_resnet"]
    wanted = tasks.task(teacher, TASK)
    with wanted.lock():
        wanted.request({"sweep": SWEEP.id})
        assert execute(wanted, store) == "finished", wanted.state
    found = read(store, SWEEP)
    assert set(found.milliseconds) == {"test_resnet", "plain2w4", "plain3w4"}
    assert all(value > 0 for value in found.milliseconds.values())
    assert "sum of their medians of 15" in found.words
    assert "32 px" in found.words
    assert missing(SWEEP, store) == []


def test_what_comes_later_is_missing(store):
    train(store, 2)
    measure(store, SWEEP.id)
    assert missing(SWEEP, store) == []
    execute(runs(plan(SWEEP, store), store)[2], store)
    assert [run.spec.depth for run in missing(SWEEP, store)] == [3]


def test_without_a_finished_run_there_is_nothing_to_time(store):
    plan(SWEEP, store)
    with pytest.raises(UsageError, match="nothing to time yet"):
        measure(store, SWEEP.id)
    assert read(store, SWEEP) is None


def test_it_stops_when_asked(store):
    train(store, 1)
    with pytest.raises(Stopped):
        measure(store, SWEEP.id, should_stop=lambda: True)
    assert read(store, SWEEP) is None


def test_runs_of_no_sweep_are_not_timed(store):
    trained(store, epochs=1)
    plan(SWEEP, store)
    assert missing(SWEEP, store) == []
